"""A function as a layer: its uses of params found in its trace, its backward the trace's."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from fnn.core import Leaf, Sides
from fnn.errors import InputError, describe
from fnn.function import collect
from fnn.function.apart import coupling
from fnn.function.padded import run_batch
from fnn.function.planned import planned
from fnn.function.run import zeros_for
from fnn.function.sites import Plan
from fnn.function.trace import Traced, check_params, followed, tell_unused

Wrt = Callable[[Any, Any], bool]


@partial(register_dataclass, data_fields=["arrays"], meta_fields=["places", "structure", "plan", "n"])
@dataclass(frozen=True)
class Extras:
    """What the forward of a function leaves: its transpose, what the uses of params keep, and the plan.

    Args:
        arrays: the arrays of both, each of them once, without the params.
        places: for each leaf of both its place among the leaves of the params and `arrays` behind them.
        structure: the tree structure of both.
        plan: the plan of the function.
        n: the number of examples.
    """

    arrays: tuple[Any, ...]
    places: tuple[int, ...]
    structure: Any
    plan: Plan
    n: int

    def unpacked(self, params: Any) -> Any:
        """Return the transpose, and what the uses keep."""
        own = [*jax.tree.leaves(params), *self.arrays]
        return jax.tree.unflatten(self.structure, [own[place] for place in self.places])


def _packed(tree: Any, params: Any, plan: Plan, n: int) -> Extras:
    """Pack a tree of arrays, among which are params and some several times."""
    leaves, structure = jax.tree.flatten(tree)
    params = jax.tree.leaves(params)
    own, seen = list(params), {id(leaf): k for k, leaf in enumerate(params)}
    for leaf in leaves:
        if id(leaf) not in seen:
            seen[id(leaf)] = len(own)
            own.append(leaf)
    places = tuple(seen[id(leaf)] for leaf in leaves)
    return Extras(tuple(own[len(params) :]), places, structure, plan, n)


@dataclass(frozen=True, init=False, repr=False)
class Function(Leaf):
    """Make a layer of a function `f(params, x) -> y`, or `f(params, x, key) -> y`, that JAX can trace.

    Each use of a param has a factor: a product, also of several axes and within scans, is `Outer`, a sum
    `Total`, a lookup `Rows`, a convolution one of its own. Uses that are not known give the gradients of the
    examples, one by one: `fnn.function.describe` says which. The backward reads nothing but what the trace of
    `f` keeps, as `jax.vjp` does; rules of `jax.custom_vjp` stay in force. Where an example's output depends
    on others, by a derivative, a choice, a statistic of the data or their number, readers of single examples
    refuse it.

    Args:
        f: a pure function of a tree of params and of a batch, a tree of arrays with examples on axis 0. It is
            hashed by identity: make the layer once.
        init: `init(key, x) -> params`, for the shapes of a batch. Params that are made elsewhere (a Flax or
            Equinox model's) need none; a function that uses none gets `()`.
        batched: False where `f` takes one example, without an axis for it, and a key of its own.
        wrt: `wrt(path, leaf) -> bool` says which params are followed, path as in `jax.tree_util`; the others
            cost nothing, and every reading of them is zero. None for all.

    Raises:
        InputError: where `f` is not callable; in `fnn.init`, where it uses params and has no `init`; and in a
            forward, where x has no examples on axis 0, or `f` has side effects, followed params that are not
            floating-point, an output made of params alone, a derivative through a `while_loop`, or is another
            program for another number of examples.

    >>> import fnn
    >>> layer = Function(lambda w, x: jnp.tanh(x @ w), init=lambda key, x: jnp.eye(x.shape[-1]))
    >>> net, x = fnn.Serial(layer, fnn.Dense(2)), jnp.ones((4, 3))
    >>> params = fnn.init(net, jax.random.key(0), x)
    >>> fnn.forward(net, params, x)[0].shape
    (4, 2)
    """

    f: Callable[..., Any]
    make: Callable[[Any, Any], Any] | None
    batched: bool
    wrt: Wrt | None
    needs: ClassVar[Sides] = frozenset()
    couples_examples: ClassVar[bool | None] = False  # found in the trace: see `coupled_at`

    def __init__(self, f: Any, *, init: Any = None, batched: bool = True, wrt: Wrt | None = None):
        if not callable(f):
            raise InputError(
                "Function", "a function f(params, x)", describe(f), "fnn.function.Function(model.apply)"
            )
        vars(self).update(f=f, make=init, batched=batched, wrt=wrt)

    def __repr__(self) -> str:
        return f"Function({getattr(self.f, '__name__', type(self.f).__name__)})"

    def init(self, key: Any, x: Any) -> Any:
        """Make the params by `init`; without one, `()` for a function that takes none."""
        if self.make is not None:
            return self.make(key, x)
        try:
            jax.eval_shape(self._called, (), x, key)
        except Exception as error:
            fix = "fnn.function.Function(f, init=lambda key, x: params)"
            raise InputError(self, "an init, or params that are made elsewhere", "no init", fix) from error
        return ()

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, Extras]:
        """y = f(params, x)"""
        n = _examples_of_batch(self, x)
        traced = self._traced(params, x, key, n)
        tell_unused(traced, params, repr(self))
        leaves, inputs = jax.tree.leaves(params), jax.tree.leaves((x, key))
        count = len(jax.tree.leaves(x))

        def whole(zeros: Any, own: list[Any]) -> tuple[Any, Any]:
            values = [*leaves, *own, *inputs[count:]]
            return run_batch(traced.plan, values, zeros)

        outs, pull, kept = jax.vjp(whole, zeros_for(traced.plan), inputs[:count], has_aux=True)
        return jax.tree.unflatten(traced.out, outs), _packed((pull, kept), leaves, traced.plan, n)

    def recompute(self, params: Any, x: Any, extras: Any) -> Any:
        """y = f(params, x)"""
        raise NotImplementedError  # it is not cheap

    def backward(self, params: Any, x: Any, y: Any, extras: Extras, dy: Any) -> tuple[Any, Any]:
        """dz of every use, and dx, by the transpose of the trace."""
        pull, kept = extras.unpacked(params)
        dzs, dx = pull(jax.tree.leaves(dy))
        found = iter(collect.factors(extras.plan, extras.n, kept, dzs))
        leaves, structure = jax.tree.flatten(params)
        own = [
            next(found) if one else collect.unused(extras.n, leaf.shape, leaf.dtype)
            for leaf, one in zip(leaves, followed(params, self.wrt), strict=True)
        ]
        inputs = jax.tree.structure(extras.plan.inputs)
        return jax.tree.unflatten(structure, own), jax.tree.unflatten(inputs, dx)

    def coupled_at(self, params: Any, x: Any) -> str | None:
        """Name the line where examples meet, if they do."""
        key = jax.eval_shape(lambda: jax.random.key(0)) if takes_key(self.f) else None
        traced = self._traced(params, x, key, _examples_of_batch(self, x))
        return coupling(traced) or coupling(traced, values=True)

    def _traced(self, params: Any, x: Any, key: Any, n: int) -> Traced:
        own = followed(params, self.wrt)
        check_params(params, own)
        inputs = len(jax.tree.leaves(x))
        axes = [0] * inputs + [None] * len(jax.tree.leaves(key))
        return planned(self._called, params, (x, key), n, own, axes, inputs)

    def _called(self, params: Any, x: Any, key: Any) -> Any:
        keyed = takes_key(self.f)
        if not keyed or key is not None:
            return self._run(params, x, key, keyed)
        try:  # it may do without a key
            return self._run(params, x, None, True)
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(self, "a random key, which f takes", "key=None", "jax.random.key(0)") from error

    def _run(self, params: Any, x: Any, key: Any, keyed: bool) -> Any:
        if self.batched:
            return self.f(params, x, key) if keyed else self.f(params, x)
        if not keyed:
            return jax.vmap(lambda x: self.f(params, x))(x)
        if key is None:
            return jax.vmap(lambda x: self.f(params, x, None))(x)
        keys = jax.random.split(key, jax.tree.leaves(x)[0].shape[0])
        return jax.vmap(lambda x, key: self.f(params, x, key))(x, keys)


def takes_key(f: Callable[..., Any]) -> bool:
    """Tell whether a function has a third place, or a place named `key`, for a key."""
    try:
        places = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return False
    by_place = [p for p in places if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(by_place) > 2 and (by_place[2].default is inspect.Parameter.empty or by_place[2].name == "key")


def _examples_of_batch(who: Any, x: Any) -> int:
    """Return the number of examples of a batch.

    Args:
        who: the layer, for the error message.
        x: the batch, a tree of arrays.

    Raises:
        InputError: where its leaves have no axis 0 of one size.
    """
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(x)}
    if len(sizes) != 1 or () in sizes:
        raise InputError(who, "examples on axis 0 of x", describe(x), "x[None]")
    return sizes.pop()[0]
