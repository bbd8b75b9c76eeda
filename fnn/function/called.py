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
from fnn.function.forms import Lazy, by_owner, counted, examples_of, total_of, weighted
from fnn.function.layout import Layout, scattered


class Owners(NamedTuple):
    """Where the examples lie in an array: axis `axis` is made of outer, n, inner."""

    axis: int
    inner: int


@partial(register_dataclass, data_fields=["factor"], meta_fields=["shape"])
@dataclass(frozen=True)
class Shaped:
    """A factor of a value that is made of params alone, with the shape of that value."""

    factor: Factor
    shape: tuple[int, ...]


META = ["eqn", "place", "loops", "kept", "by_loop", "n", "owners", "of_operands", "layout", "shape", "rank"]


@partial(register_dataclass, data_fields=["operands", "results"], meta_fields=META)
@dataclass(frozen=True)
class Called(Lazy):
    """The factor of operand `place` of an operation, at the cotangents of its results.

    `operands` have the loops around the operation first. `results` are their cotangents, or the factors of
    the results (`Shaped`) where these are made of params alone; None for a result that has none.
    """

    operands: tuple[Any, ...]
    results: tuple[Any, ...]
    eqn: Any
    place: int
    loops: tuple[int, ...]  # their lengths
    kept: tuple[int, ...]  # those of the loops whose steps have params of their own
    by_loop: int | None  # the loop that runs over the examples
    n: int
    owners: tuple[Owners | None, ...]  # of the elements of each result
    of_operands: tuple[Owners | None, ...]
    layout: Layout  # of the operand, the kept loops first, in the param
    shape: tuple[int, ...]  # of the param
    rank: int

    def total(self, weights: Any, shape: tuple[int, ...]) -> Any:
        """Take the derivative once, for all examples."""
        operands, results = self.operands, self.results
        if weights is not None and self.by_loop is not None:
            operands = tuple(counted(v, weights, self.by_loop) for v in operands)
            results = tuple(None if d is None else weighted(d, weights, self.by_loop) for d in results)
        elif weights is not None:
            operands = self._each(operands, self.of_operands, lambda v, a, i: counted(v, weights, a, i))
            results = self._each(results, self.owners, lambda v, a, i: weighted(v, weights, a, i))
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
            chosen = jnp.arange(self.n) == i
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

        def run(own: Any) -> list[Any]:
            ins = [own if k == self.place else v for k, v in enumerate(operands)]
            outs = internals.bind(self.eqn, ins)
            return [o for o, d in zip(outs, cotangents, strict=True) if d is not None]

        outs, pull = jax.vjp(run, operands[self.place])
        wanted = [d for d in cotangents if d is not None]
        return pull([d.astype(o.dtype) for o, d in zip(outs, wanted, strict=True)])[0]

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
        each = jnp.moveaxis(self._mapped()(self.operands, self.results), at, 0)
        others = [k for k in range(len(self.loops)) if k != at]
        gone = tuple(1 + p for p, k in enumerate(others) if k not in self.kept)
        return self._in_param(jnp.sum(each, gone, dtype=accumulator(each.dtype)))

    def _in_param(self, each: Any) -> Any:
        size = 1
        for axis in self.shape:
            size *= axis
        return scattered(self.layout, each, size).reshape(each.shape[0], *self.shape)
