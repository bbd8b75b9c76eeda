"""Whether a network keeps its examples apart, without which the gradient of one example is not defined."""

from functools import cache
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from fnn.arrays import shapes_of
from fnn.contract import make, run
from fnn.core import Composition, Layer, Params
from fnn.errors import InputError, at, describe
from fnn.losses.objective import Objective
from fnn.reader import as_factors
from fnn.reading import Stacked


@runtime_checkable
class FindsCoupling(Protocol):
    """A layer that finds out whether it couples examples, from its params and its input."""

    def coupled_at(self, params: Params, x: Any) -> str | None:
        """Return the name of what makes one example's output depend on others, or None.

        Args:
            params: the params of the layer, or their shapes.
            x: the shape of its input, a `jax.ShapeDtypeStruct` (n, ..., k), or a pytree of these.
        """
        ...


def check_uncoupled(who: str, net: Layer, params: Params, x: Any) -> None:
    """Raise where a layer's output for one example depends on other examples.

    A layer that couples examples, such as batch normalization by the statistics of the batch, declares
    `couples_examples = True`. A layer that declares nothing is run on two examples, to see.

    Args:
        who: the name of the caller, for the error message.
        net: the network, any layer.
        params: its params.
        x: the input (n, ..., k), or a pytree of such arrays, examples on axis 0.

    Raises:
        InputError: where a layer couples examples, `x` has no axis of examples, or its arrays differ in the
            length of that axis.
    """
    leaves = jax.tree.leaves(x)
    if not leaves or any(not jnp.shape(leaf) for leaf in leaves):
        raise InputError(who, "examples on axis 0 of x", describe(x), "x[None]")
    if len({leaf.shape[0] for leaf in leaves}) > 1:
        raise InputError(
            who, "as many examples in all of x", describe(x), "jax.tree.map(lambda leaf: leaf[:n], x)"
        )
    _check(who, net, *(shapes_of(who, tree) for tree in (params, x)))


def _check(who: str, layer: Layer, params: Params, x: Any) -> None:
    where = layer.coupled_at(params, x) if isinstance(layer, FindsCoupling) else None
    if where is not None:
        wanted, got = "layers that keep examples apart", f"{layer!r}, which couples them: {where}"
        raise InputError(who, wanted, got, "fnn.value_and_grad(net, loss)")
    if layer.couples_examples is False:
        return
    if isinstance(layer, Composition):
        for part in layer.parts(params, x):
            with at(part.place):
                _check(who, part.layer, part.params, part.x)
        if layer.couples_examples is None and None in (inner.couples_examples for inner in layer.layers):
            return  # it says nothing as one of its layers does not, and that was tried
    leaves, structure = jax.tree.flatten(x)
    told = layer.couples_examples
    if told or (
        told is None and _found(layer, structure, tuple((v.shape[1:], str(v.dtype)) for v in leaves))
    ):
        how = "which couples them" if told else "which couples them, as a trial on two examples shows"
        raise InputError(who, "layers that keep examples apart", f"{layer!r}, {how}", "fnn.LayerNorm()")


def check_rows(who: str, y: Any, x: Any = None) -> None:
    """Raise where outputs have no axis behind that of the examples.

    Args:
        who: the name of the caller, for the error message.
        y: the outputs, (n, ..., k), arrays or shapes.
        x: the input of the network, where it is known, which says what is missing.

    Raises:
        InputError: where an output has one axis or none.
    """
    if all(len(jnp.shape(leaf)) > 1 for leaf in jax.tree.leaves(y)):
        return
    if x is None:
        fix = "y[:, None]"
    elif any(len(jnp.shape(leaf)) > 1 for leaf in jax.tree.leaves(x)):  # a function that returns (n,)
        fix = "fnn.Serial(net, fnn.function.Function(lambda _, y: y[:, None]))"
    else:
        fix = "x[None]"
    raise InputError(who, "outputs (n, ..., k), examples on axis 0", describe(y), fix)


def check_loss_uncoupled(who: str, loss: Objective, y: Any, target: Any) -> None:
    """Raise where the loss of one row depends on another row's output.

    A loss that declares nothing by `couples_examples` is run on two examples, to see.

    Args:
        who: the name of the caller, for the error message.
        loss: the loss.
        y: the outputs (n, ..., k), arrays or shapes, examples on axis 0.
        target: the targets, likewise.

    Raises:
        InputError: where the loss couples examples, or an output has no axis behind theirs.
    """
    check_rows(who, y)
    if loss.couples_examples is False:
        return
    told = loss.couples_examples
    if told is None and not _coupled(loss, *map(_hashable, (y, target))):
        return
    how = "which couples them" if told else "which couples them, as a trial on two examples shows"
    fix = "fnn.Loss(lambda y, t: jnp.square(y - t).sum(-1))"
    raise InputError(who, "a loss that keeps examples apart", f"{loss!r}, {how}", fix)


def _hashable(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((jnp.shape(v)[1:], str(v.dtype)) for v in leaves)


@cache
def _coupled(loss: Objective, y: Any, target: Any) -> bool:
    """Return whether the value or the gradient of one of two examples changes with the other example."""
    random = np.random.default_rng(0)

    def draw(of: tuple[Any, Any], n: int) -> Any:
        structure, rows = of
        values = [
            jnp.asarray(random.uniform(0.1, 0.9, (n, *shape)), dtype)
            if jnp.issubdtype(dtype, jnp.inexact)
            else jnp.zeros((n, *shape), dtype)  # labels that are in range
            for shape, dtype in rows
        ]
        return structure.unflatten(values)

    with jax.ensure_compile_time_eval():
        pair = draw(y, 2), draw(target, 2)
        other = jax.tree.map(lambda two, one: two.at[0].set(one[0]), pair, (draw(y, 1), draw(target, 1)))
        params = loss.init(jax.random.key(0), jax.eval_shape(lambda: pair[0]))
        rows, seen = loss.with_reduction("none"), []
        for outputs, targets in (pair, other):
            value, dy, _ = rows.pull(params, outputs, targets, None, Stacked(as_factors, (params,)))
            seen.append([leaf[1] for leaf in (value, *jax.tree.leaves(dy))])
        same = [np.array_equal(a, b, equal_nan=True) for a, b in zip(*seen, strict=True)]
    return not all(same)


@cache
def _found(layer: Layer, structure: Any, rows: tuple[tuple[tuple[int, ...], str], ...]) -> bool:
    """Return whether the output for one of two examples changes with the other example."""
    random = np.random.default_rng(0)

    def draw(shape: tuple[int, ...], dtype: str) -> Any:
        if jnp.issubdtype(dtype, jnp.inexact):
            return jnp.asarray(random.standard_normal(shape), dtype)
        return jnp.asarray(random.integers(0, 2, shape), dtype)

    with jax.ensure_compile_time_eval():
        pair = [draw((2, *shape), dtype) for shape, dtype in rows]
        other = [leaf.at[0].set(draw(leaf.shape[1:], str(leaf.dtype))) for leaf in pair]
        x = structure.unflatten(pair)
        params = make(layer, jax.random.key(0), jax.eval_shape(lambda: x))
        before, after = (run(layer, params, structure.unflatten(v), None)[0] for v in (pair, other))
        same = [
            a.shape[:1] == (2,) and np.array_equal(a[1], b[1], equal_nan=True)
            for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        ]
    return not all(same)
