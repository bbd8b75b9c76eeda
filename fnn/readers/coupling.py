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

    A loss that declares nothing by `couples_examples` is run on a few examples of several sizes, to see.

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
    how = "which couples them" if told else "which couples them, as a trial on four examples shows"
    fix = "fnn.value_and_grad(net, loss)"  # the plain gradient, which wants no single examples
    raise InputError(who, "a loss that keeps examples apart", f"{loss!r}, {how}", fix)


def _hashable(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((jnp.shape(v)[1:], str(v.dtype)) for v in leaves)


# What outputs and targets are drawn from in a trial, and the first example's once more: a choice, a margin or
# a largest value that couples shows at some of these. Between 0.1 and 0.9 targets may be probabilities.
_BETWEEN = (
    ((0.1, 0.9), (0.1, 0.9)),
    ((-0.3, 0.3), (0.0, 3.0)),
    ((-3.0, 3.0), (0.0, 30.0)),
    ((-30.0, 30.0), (0.0, 300.0)),
)
_ROWS = 4


@cache
def _coupled(loss: Objective, y: Any, target: Any) -> bool:
    """Return whether value or gradient of an example changes with another one, or with their number."""
    random = np.random.default_rng(0)

    def draw(of: tuple[Any, Any], n: int, low: float, high: float) -> Any:
        structure, rows = of
        values = [
            jnp.asarray(random.uniform(low, high, (n, *shape)), dtype)
            if jnp.issubdtype(dtype, jnp.inexact)
            else jnp.asarray(random.integers(0, 2, (n, *shape)), dtype)  # labels that are in range
            for shape, dtype in rows
        ]
        return structure.unflatten(values)

    def seen(pair: Any) -> list[Any]:
        outputs, targets = pair
        value, dy, _ = rows.pull(params, outputs, targets, None, Stacked(as_factors, (params,)))
        return [np.asarray(leaf[1:3]) for leaf in (value, *jax.tree.leaves(dy))]

    with jax.ensure_compile_time_eval():
        rows = loss.with_reduction("none")
        for most, far in _BETWEEN:
            pair = draw(y, _ROWS, *most), draw(target, _ROWS, *most)
            params = loss.init(jax.random.key(0), jax.eval_shape(lambda pair=pair: pair[0]))
            first = draw(y, 1, *far), draw(target, 1, *far)
            other = jax.tree.map(
                lambda all, one: all.at[0].set(1 - all[0] if _whole(all) else one[0]), pair, first
            )
            fewer = jax.tree.map(lambda all: all[: _ROWS - 1], pair)
            try:
                found = seen(pair)
            except Exception:
                if most == _BETWEEN[0][0]:
                    raise
                continue  # the loss does not take such numbers
            if not all(map(_same, found, seen(other))) or not all(map(_close, found, seen(fewer))):
                return True
    return False


def _whole(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.integer)


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _close(a: Any, b: Any) -> bool:
    """Whether two are equal but for the order of sums, which another shape may change."""
    tolerance = 1e-2 if a.dtype.itemsize < 4 else 1e-4
    return np.allclose(a.astype(np.float64), b.astype(np.float64), tolerance, tolerance, equal_nan=True)


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
