"""Statistics: a sum over some axes that comes back to the elements it was taken of.

On the way back its cotangent is summed over the same axes, and that is where axes are mistaken.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from vjpcheck.arguments import is_inexact
from vjpcheck.attempt import Attempts
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Back, Fault, Named
from vjpcheck.diagnose.board import Run
from vjpcheck.diagnose.regions import Region, is_elementwise
from vjpcheck.diagnose.repeats import Key
from vjpcheck.interpret import Operation

_MOVES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims"}
_ELEMENTWISE = {"add", "sub", "mul", "div", "max", "min"}
MOST = 8  # sets of axes that are tried


@dataclass(frozen=True)
class Statistic:
    """The slot of a statistic: what `region` makes of the sum of `source` over `axes`, stretched over them
    again as an operand.

    Args: `source`, the variable that is summed; `axes`, the axes of the sum; `region`, what is made of the
    sum; `operand`, the number of the operand that it is.
    """

    source: Any
    axes: tuple[int, ...]
    region: Region
    operand: int

    what = "sums over other axes"

    @property
    def dials(self) -> Sequence[tuple[Key, Named]]:
        """Their mistakes."""
        return [((f.name, f.words), f) for f in statistic_faults(self)]

    def around(self, operation: Operation, run: Run, theta: Any, attempts: Attempts) -> Run:
        """Leave the way back from the stretched statistic, an operand or the output, to the dials.

        Args: `operation`, `run`, `theta`, `attempts`, as for `Slot`.
        """
        is_output = operation.equation.primitive.name == "broadcast_in_dim"

        def stretch(x: Any) -> Any:
            return operation.run(x)[0] if is_output else jnp.broadcast_to(x, self.source.aval.shape)

        def turned(inputs: Sequence[Any]) -> Sequence[Any]:
            others = [operation.values[v] for v in self.region.others]
            summed, narrow = operation.values[self.region.source], inputs[self.operand]
            slope = jax.jvp(self.region.function(others), (summed,), (jnp.ones_like(summed),))[1]
            fixed = jax.lax.stop_gradient((stretch(slope), stretch(narrow)))
            elements, rules = operation.values[self.source], tuple(statistic_faults(self))
            hook = lambda wide: _hooked(operation, rules, theta, fixed, elements, wide)  # noqa: E731
            if is_output:
                return [hook(run(inputs)[0])]
            return run([hook(stretch(x)) if i == self.operand else x for i, x in enumerate(inputs)])

        return turned


def statistic(equation: JaxprEqn, made: dict[Any, JaxprEqn]) -> Statistic | None:
    """Find the statistic that an operation stretches over its elements, if it does.

    Args: `equation`, the operation; `made`, the equation that made each variable.
    """
    if len(equation.outvars) != 1 or not is_inexact(equation.outvars[0].aval):
        return None
    shape = equation.outvars[0].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
    for i, atom in enumerate(equation.invars):
        axes = _stretched(equation, i, shape)
        if not axes or isinstance(atom, Literal):
            continue
        found = _sum_behind(atom, made)
        if found is None:
            continue
        total, region = found
        source: Any = total.invars[0]
        fits = source.aval.shape == shape and tuple(sorted(total.params["axes"])) == axes
        if fits and not isinstance(source, Literal):
            return Statistic(source, axes, region, i)
    return None


def _stretched(equation: JaxprEqn, i: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    own = equation.invars[i].aval.shape  # pyright: ignore[reportAttributeAccessIssue]
    if equation.primitive.name == "broadcast_in_dim":
        source = dict(zip(equation.params["broadcast_dimensions"], own, strict=True))
        return tuple(a for a, n in enumerate(shape) if n > 1 and source.get(a, 1) == 1)
    if equation.primitive.name in _ELEMENTWISE and len(own) == len(shape):
        return tuple(a for a, n in enumerate(shape) if own[a] == 1 < n)
    return ()


def _sum_behind(atom: Any, made: dict[Any, JaxprEqn]) -> tuple[JaxprEqn, Region] | None:
    """Walk back from a narrow value to the one sum that it is an elementwise function of."""
    size, equations, others = atom.aval.size, [], []
    waiting, seen = [atom], set()
    sums: list[JaxprEqn] = []
    while waiting and len(equations) < 12:
        v = waiting.pop()
        q = made.get(v)
        if v in seen:
            continue
        seen.add(v)
        if q is not None and q.primitive.name == "reduce_sum":
            sums.append(q)
        elif q is not None and v.aval.size == size and (is_elementwise(q) or q.primitive.name in _MOVES):
            equations.append(q)
            waiting += [x for x in q.invars if not isinstance(x, Literal)]
        else:
            others.append(v)
    if not sums or waiting:
        return None
    order = {id(q): n for n, q in enumerate(made.values())}
    total = max(sums, key=lambda q: order[id(q)])
    others += [q.outvars[0] for q in sums if q is not total]
    body = tuple(sorted(equations, key=lambda q: order[id(q)]))
    return total, Region(body, total.outvars[0], atom, tuple(others))


def statistic_faults(found: Statistic) -> Iterator[Fault]:
    """Return the sums over other axes; the rule's inputs are the statistic's slope, and itself stretched."""
    shape = found.source.aval.shape
    sets = [s for r in range(1, len(shape) + 1) for s in combinations(range(len(shape)), r)]
    sets = [s for s in sets if s != found.axes and any(shape[a] > 1 for a in s)]
    sets.sort(key=lambda s: len(set(s) ^ set(found.axes)))
    meant = _listed(found.axes)
    yield Fault(Kind.TERM_DROPPED, "the path through the statistic is left out", lambda b: {0: 0 * b.dy})
    for axes in sets[:MOST]:
        ratio = float(np.prod([shape[a] for a in found.axes]) / np.prod([shape[a] for a in axes]))
        for power in (0, 1):
            for scale in {1.0, ratio}:
                text = f"the statistic's cotangent is summed over {_listed(axes)}, not over {meant}"
                text += ", as a mean" if scale != 1.0 else ""
                yield Fault(Kind.MEAN_OVER_THE_WRONG_AXIS, text, _over(axes, power, scale))


def _over(axes: tuple[int, ...], power: int, scale: float) -> Callable[[Back], dict[int, Any]]:
    def rule(b: Back) -> dict[int, Any]:
        slope, wide = b.inputs
        factor = wide if power else jnp.ones_like(wide)
        total = jnp.sum(b.dy * factor, axes, keepdims=True)
        return {0: scale * slope / factor * jnp.broadcast_to(total, b.dy.shape)}

    return rule


def _hooked(
    operation: Operation, rules: Sequence[Fault], theta: Any, fixed: Any, source: Any, wide: Any
) -> Any:
    def run(theta: Any, fixed: Any, source: Any, wide: Any) -> Any:
        return wide

    def forward(theta: Any, fixed: Any, source: Any, wide: Any) -> Any:
        return wide, (theta, fixed)

    def backward(saved: Any, dy: Any) -> Any:
        theta, fixed = saved
        back = Back(operation, fixed, (), dy, (dy,))
        terms = [jnp.where(t != 0, t * r.rule(back)[0], 0) for t, r in zip(theta, rules, strict=True)]
        nothing = jax.tree.map(jnp.zeros_like, (theta, fixed))
        return (*nothing, sum(terms), dy * (1 - theta.sum()))

    operate = jax.custom_vjp(run)
    operate.defvjp(forward, backward)
    return operate(theta, fixed, source, wide)


def _listed(axes: tuple[int, ...]) -> str:
    return ("axis " if len(axes) == 1 else "axes ") + " and ".join(map(str, axes))
