"""The slots of an operation's own derivative, and of a run of operations that ends at it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vjpcheck.arguments import is_inexact, replaced
from vjpcheck.attempt import Attempts
from vjpcheck.diagnose.backward import Back, Fault, Named
from vjpcheck.diagnose.board import Run
from vjpcheck.diagnose.mistaken import Mistaken
from vjpcheck.diagnose.regions import Region
from vjpcheck.diagnose.repeats import Key
from vjpcheck.interpret import Operation

RegionFaults = Callable[[Region, Callable[[Any], Any]], Iterator[Fault]]


@dataclass(frozen=True)
class Rules:
    """The slot of an operation's own derivative: what it is made by, and what it reads.

    Args: `rules`, wrong derivatives; `mistaken`, operands read wrongly.
    """

    rules: tuple[Fault, ...]
    mistaken: tuple[Mistaken, ...]
    what = "its rules"

    @property
    def dials(self) -> Sequence[tuple[Key, Named]]:
        """Their mistakes."""
        by_words = [((rule.name, rule.words), rule) for rule in self.rules]
        return [*by_words, *((m.tag, m.fault) for m in self.mistaken)]

    def around(self, operation: Operation, run: Run, theta: Any, attempts: Attempts) -> Run:
        """Take the place of the operation: its derivative follows what is dialled.

        Args: `operation`, `run`, `theta`, `attempts`, as for `Slot`.
        """
        n = len(self.rules)

        def plain(theta: Any, others: Any, *xs: Any) -> Any:
            return tuple(operation.run(*xs))

        def forward(theta: Any, others: Any, *xs: Any) -> Any:
            floating = operation.floating(xs)
            chosen = lambda *fs: tuple(operation.run(*replaced(xs, floating, fs)))  # noqa: E731
            outputs, pullback = jax.vjp(chosen, *[xs[i] for i in floating])
            return outputs, (theta, others, xs, outputs, pullback)

        def backward(saved: Any, dys: Any) -> Any:
            theta, others, xs, outputs, pullback = saved
            given = dict(zip(operation.floating(xs), pullback(dys), strict=True))
            right = [given.get(i) for i in range(len(xs))]
            back = Back(operation, xs, outputs, dys[0], right, dys)
            total = dict(given)
            for t, fault in zip(theta[:n], self.rules, strict=True):
                what = f"{operation.name}: {fault.words}"
                for i, wrong in attempts.run(what, lambda f=fault: _fitted(f.rule(back), given), {}).items():
                    total[i] = total[i] + jnp.where(t != 0, t * (wrong - given[i]), 0)
            for (position, target), seen in _misread(self.mistaken, theta[n:], others, xs).items():
                pulled = lambda p=position, s=seen, to=target: _fitted(  # noqa: E731
                    {to: back.pull(dys[0], **{f"at{p}": s})[to]}, given
                )
                what = f"{operation.name}: another operand {position}"
                for i, wrong in attempts.run(what, pulled, {}).items():
                    total[i] = total[i] + wrong - given[i]
            nothing = jax.tree.map(jnp.zeros_like, (theta, others))
            return (*nothing, *(total.get(i) for i in range(len(xs))))

        def turned(inputs: Sequence[Any]) -> Sequence[Any]:
            others = tuple(
                None if m.variable is None else _value(operation, m.variable) for m in self.mistaken
            )
            operate = jax.custom_vjp(plain)
            operate.defvjp(forward, backward)
            return list(operate(theta, others, *inputs))

        return turned


def _fitted(wrong: dict[int, Any], right: dict[int, Any]) -> dict[int, Any]:
    """Bring wrong cotangents to the shapes and dtypes of the right ones; raises where they do not fit."""
    return {i: _like(_summed_to(w, right[i].shape), right[i]) for i, w in wrong.items()}


def _like(x: Any, right: Any) -> Any:
    if jnp.iscomplexobj(x) and not jnp.iscomplexobj(right):
        raise TypeError("a complex cotangent for a real value")
    return jnp.broadcast_to(x, right.shape).astype(right.dtype)


def _misread(
    mistakes: Sequence[Mistaken], theta: Any, others: Sequence[Any], xs: Sequence[Any]
) -> dict[tuple[int, int], Any]:
    """Return what each operand looks like to the rules for the cotangent of each target: one pull for all
    dials.
    """
    seen: dict[tuple[int, int], Any] = {}
    for t, m, other in zip(theta, mistakes, others, strict=True):
        own = xs[m.position]
        other = m.change(own) if m.change is not None else other
        where = m.position, m.target
        seen[where] = seen.get(where, own) + jnp.where(t != 0, t * (other - own), 0)
    return seen


@dataclass(frozen=True)
class Ending:
    """The slot of a region that ends at an operation: its cotangent goes to its source as the dials say.

    Args: `region`, the region; `faults`, `faults(region, f)`, its mistakes.
    """

    region: Region
    faults: RegionFaults
    what = "what ends there"

    @property
    def dials(self) -> Sequence[tuple[Key, Named]]:
        """Their mistakes."""
        return [((f.name, f.words), f) for f in self.faults(self.region, lambda x: x)]

    def around(self, operation: Operation, run: Run, theta: Any, attempts: Attempts) -> Run:
        """Run, and leave the way back from the output to the dials.

        Args: `operation`, `run`, `theta`, `attempts`, as for `Slot`.
        """

        def plain(theta: Any, others: Any, x: Any, y: Any) -> Any:
            return y

        def forward(theta: Any, others: Any, x: Any, y: Any) -> Any:
            return y, (theta, others, x, y)

        def backward(saved: Any, dy: Any) -> Any:
            theta, others, x, y = saved
            f = self.region.function(others)
            back = Back(operation, (x,), (y,), dy, (dy,))
            dx, kept = jnp.zeros_like(x), jnp.ones_like(theta)
            for n, (t, fault) in enumerate(zip(theta, self.faults(self.region, f), strict=True)):
                what = f"{operation.name}: {fault.words}"
                wrong = attempts.run(what, lambda r=fault.rule: _like(r(back)[0], x))
                if wrong is None:
                    kept = kept.at[n].set(0)
                else:
                    dx = dx + jnp.where(t != 0, t * wrong, 0)
            nothing = [jnp.zeros_like(o) if is_inexact(o) else None for o in others]
            return jnp.zeros_like(theta), tuple(nothing), dx, dy * (1 - (theta * kept).sum())

        def turned(inputs: Sequence[Any]) -> Sequence[Any]:
            operate = jax.custom_vjp(plain)
            operate.defvjp(forward, backward)
            others = tuple(operation.values[v] for v in self.region.others)
            return [operate(theta, others, operation.values[self.region.source], run(inputs)[0])]

        return turned


def _value(operation: Operation, variable: Any) -> Any:
    """Return a value of the forward pass, wherever it stands to the operation."""
    known = operation.values
    return lax.stop_gradient(known[variable] if variable in known else operation.complete()[variable])


def _summed_to(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes along which an operand of this shape was broadcast."""
    if x.shape == shape or x.ndim < len(shape):
        return x
    x = x.sum(range(x.ndim - len(shape)))
    return x.sum([a for a, n in enumerate(shape) if n == 1 and x.shape[a] > 1], keepdims=True).reshape(shape)
