"""The factor of an operand of any operation: its own derivative, taken for each example."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from fnn.arrays import accumulator
from fnn.factors import Factor
from fnn.function import internals
from fnn.function.forms import Lazy, examples_of, total_of
from fnn.function.layout import Layout, scattered
from fnn.function.placed import bound
from fnn.function.weights import by_owner, counted, weighted


class Owners(NamedTuple):
    """Where the examples lie in an array.

    Args:
        axis: the axis that is made of outer, n, `inner`; loops are not counted.
        inner: the number of elements behind each example's own.
    """

    axis: int
    inner: int


@partial(register_dataclass, data_fields=["factor"], meta_fields=["shape"])
@dataclass(frozen=True)
class Shaped:
    """A factor of a value that is made of params alone.

    Args:
        factor: the factor.
        shape: the shape of the value, with the loops that it is made in first.
    """

    factor: Factor
    shape: tuple[int, ...]


META = "eqn place loops kept by_loop n owners of_operands layout shape rank padding".split()


@partial(register_dataclass, data_fields=["operands", "results"], meta_fields=META)
@dataclass(frozen=True)
class Called(Lazy):
    """The factor of an operand of an operation, at the cotangents of its results.

    Args:
        operands: the operands, with the loops around the operation first.
        results: the cotangents of the results, or the factors of the results (`Shaped`) where these are made
            of params alone; None for a result that has none.
        eqn: the operation, an equation of a trace.
        place: the place of the operand whose factor this is.
        loops: the lengths of the loops.
        kept: the places of those loops whose steps have params of their own.
        by_loop: the place of the loop that runs over the examples; None for none.
        n: the number of examples.
        owners: where the examples lie in each result.
        of_operands: where they lie in each operand.
        layout: the layout of the operand in the param, the kept loops first.
        shape: the shape of the param.
        rank: the number of its axes.
        padding: how many examples there are in the arrays behind these: see padded.py.
    """

    operands: tuple[Any, ...]
    results: tuple[Any, ...]
    eqn: Any
    place: int
    loops: tuple[int, ...]
    kept: tuple[int, ...]
    by_loop: int | None
    n: int
    owners: tuple[Owners | None, ...]
    of_operands: tuple[Owners | None, ...]
    layout: Layout
    shape: tuple[int, ...]
    rank: int
    padding: int = 0

    def total(self, weights: Any, shape: tuple[int, ...]) -> Any:
        """Take the derivative once, for all examples. Args: `weights`, `shape`, as for `Lazy`."""
        operands, results = self.operands, self.results
        own = None if weights is None else jnp.pad(weights, (0, self.padding))
        if own is not None and self.by_loop is not None:
            operands = tuple(counted(v, own, self.by_loop) for v in operands)
            results = tuple(None if d is None else weighted(d, own, self.by_loop) for d in results)
        elif own is not None:
            operands = self._each(operands, self.of_operands, lambda v, a, i: counted(v, own, a, i))
            results = self._each(results, self.owners, lambda v, a, i: weighted(v, own, a, i))
        sums = tuple(total_of(d.factor, d.shape, weights) if isinstance(d, Shaped) else d for d in results)
        return self._in_param(self._over_loops(operands, sums)[None])[0]

    def examples(self) -> Any:
        """Take the derivative for each example."""
        if self.by_loop is not None:
            return self._by_step()
        if any(isinstance(d, Shaped) for d in self.results):
            each = tuple(None if d is None else examples_of(d.factor, d.shape) for d in self.results)
            return self._in_param(jax.vmap(lambda own: self._over_loops(self.operands, own))(each))

        def one(i: Any) -> Any:
            chosen = jnp.arange(self.n + self.padding) == i
            own = self._each(
                self.results, self.owners, lambda d, a, inner: jnp.where(by_owner(chosen, d, a, inner), d, 0)
            )
            return self._over_loops(self.operands, own)

        return self._in_param(jax.vmap(one)(jnp.arange(self.n)))

    def _each(self, arrays: Any, owners: Any, change: Callable[[Any, int, int], Any]) -> Any:
        """Change the arrays that have an axis of examples."""
        loops = len(self.loops)
        return tuple(
            v if o is None or v is None or isinstance(v, Shaped) else change(v, o.axis + loops, o.inner)
            for v, o in zip(arrays, owners, strict=True)
        )

    def _pulled(self, operands: Any, cotangents: Any) -> Any:
        """Return the operand's cotangent, without loops and examples."""
        whole = internals.solved(self.eqn) is not None  # its rule wants the matrix and the solver's constants
        places = [
            k for k, v in enumerate(operands) if k == self.place or whole and internals.differentiable(v)
        ]

        def run(*own: Any) -> list[Any]:
            ins = [own[places.index(k)] if k in places else v for k, v in enumerate(operands)]
            outs = bound(self.eqn, ins)
            return [o for o, d in zip(outs, cotangents, strict=True) if d is not None]

        outs, pull = jax.vjp(run, *(operands[k] for k in places))
        wanted = [d for d in cotangents if d is not None]
        return pull([d.astype(o.dtype) for o, d in zip(outs, wanted, strict=True)])[places.index(self.place)]

    def _mapped(self) -> Callable[..., Any]:
        f: Callable[..., Any] = self._pulled
        for _ in self.loops:
            f = jax.vmap(f)
        return f

    def _over_loops(self, operands: Any, cotangents: Any) -> Any:
        """Return the operand's cotangents, (*kept loops, *operand); the steps of other loops add up."""
        each = self._mapped()(operands, cotangents)
        gone = tuple(k for k in range(len(self.loops)) if k not in self.kept)
        return jnp.sum(each, gone, dtype=accumulator(each.dtype))

    def _by_step(self) -> Any:
        """Return the gradients of the examples where a loop runs over them."""
        at = self.by_loop or 0
        each = jnp.moveaxis(self._mapped()(self.operands, self.results), at, 0)[: self.n]
        others = [k for k in range(len(self.loops)) if k != at]
        gone = tuple(1 + p for p, k in enumerate(others) if k not in self.kept)
        return self._in_param(jnp.sum(each, gone, dtype=accumulator(each.dtype)))

    def _in_param(self, each: Any) -> Any:
        size = 1
        for axis in self.shape:
            size *= axis
        return scattered(self.layout, each, size).reshape(each.shape[0], *self.shape)
