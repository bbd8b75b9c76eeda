"""Where cotangents may stand for values in a trace, and the gradients that they give there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck.arguments import exact, is_inexact
from vjpcheck.diagnose.backward import Back
from vjpcheck.diagnose.hypothesis import Arrays, Evidence
from vjpcheck.diagnose.regions import Region, regions
from vjpcheck.diagnose.regions import constants as constants_of
from vjpcheck.diagnose.scale import constants, sizes
from vjpcheck.effort import compile_quickly, in_float64
from vjpcheck.interpret import Operation, evaluate
from vjpcheck.reference import Trace, pull
from vjpcheck.source import source

SITES = 64  # products that are looked at
PRODUCTS = ("dot_general", "mul", "conv_general_dilated")
MASK = "select_n"


@dataclass(frozen=True)
class Site:
    """An operation whose cotangent of operand `target` reads another array in the place of `position`.

    Args: `place`, the numbers of the equations that lead to it; `position`, the number of the operand that is
    read; `target`, the number of the operand whose cotangent is made; `shape`, that of the operand; `where`,
    the line of the forward pass; `name`, the operation's.
    """

    place: tuple[int, ...]
    position: int
    target: int
    shape: tuple[int, ...]
    where: str
    name: str

    def wrong(self, back: Back, array: Any) -> Any:
        """Return the wrong cotangent; where position and target are one, it is made by the other's rule.

        Args: `back`, the operation during the backward pass; `array`, what is read instead.
        """
        if self.name == MASK:
            return back.dy * array
        rule = 1 - self.position if self.position == self.target else self.target
        return back.pull(back.dy, **{f"at{self.position}": array})[rule]


@dataclass(frozen=True)
class Value:
    """A value of the forward pass, by its place, and the line that makes it.

    Args: `place`, the number of its equation; `shape`, its shape; `text`, the line that makes it.
    """

    place: int
    shape: tuple[int, ...]
    text: str


class Stage:
    """The places of a trace where cotangents may stand, and the gradients that they give there.

    Args: `traced`, the trace of the primal; `masks`, whether the places are those of masks alone.
    """

    def __init__(self, traced: Trace, masks: bool = False):
        self.traced: Trace = traced
        self._masks = masks
        self.sites: list[Site] = []
        self.values: list[Value] = []
        self.regions: list[tuple[tuple[int, ...], Region, str]] = []
        known = {1.0, *constants(traced.jaxpr.jaxpr), *(float(n) for n, _ in sizes(traced.arguments, traced))}
        self.scales: list[float] = sorted(known | {1 / k for k in known}, key=lambda k: abs(np.log(k)))
        self._ends: dict[int, list[Region]] = {}
        outputs = [traced.shapes[i] for i in traced.outputs]
        self._is_loss = len(outputs) == 1 and outputs[0].shape == ()
        dys = [jax.ShapeDtypeStruct((1, *s.shape), np.float64) for s in outputs]
        jax.eval_shape(lambda x, dys: pull(traced, x, dys, self._look), list(traced.arguments.leaves), dys)
        self._turned = compile_quickly(self._run)
        self._cotangents = compile_quickly(self._pull_values)

    def runs(self, e: Evidence) -> int:
        """Return how many cotangents it takes: one for a loss, all that were given for anything else."""
        return 1 if self._is_loss else len(e.measurement.pair[0])

    def cotangents(self, e: Evidence) -> list[list[Any]]:
        """Return the cotangent of every value, for each of the cotangents that it takes."""
        leaves = tuple(e.measurement.arguments.leaves)
        with in_float64():
            return [[exact(c)[None] for c in self._cotangents(leaves, dys)] for dys in self._each(e)]

    def gradients(self, e: Evidence, n: int, arrays: Sequence[Any]) -> Arrays:
        """Return the gradients with an array at a site, one for each cotangent.

        Args: `e`, what was given and what is right; `n`, the number of the site; `arrays`, what is read
        there, one for each cotangent.
        """
        theta, zeros = np.zeros(len(self.sites)), [np.zeros(s.shape) for s in self.sites]
        theta[n] = 1.0
        sets = [[*zeros[:n], a[0], *zeros[n + 1 :]] for a in arrays]
        return self._all(e, [(theta, s, np.zeros(len(self.regions))) for s in sets])

    def applied(self, e: Evidence, n: int, scale: float) -> Arrays:
        """Return the gradients with the function of a region applied to its cotangent times a scale.

        Args: `e`, what was given and what is right; `n`, the number of the region; `scale`, what its
        cotangent is multiplied by.
        """
        theta = np.zeros(len(self.regions))
        theta[n] = scale
        nothing = np.zeros(len(self.sites)), [np.zeros(s.shape) for s in self.sites]
        return self._all(e, [(*nothing, theta)] * self.runs(e))

    def _each(self, e: Evidence) -> list[tuple[Any, ...]]:
        pair = [exact(d) for d in e.measurement.pair]
        if self._is_loss:
            return [(np.ones((1,)),)]
        return [tuple(d[c : c + 1] for d in pair) for c in range(len(pair[0]))]

    def _all(self, e: Evidence, settings: Sequence[Any]) -> Arrays:
        leaves = tuple(e.measurement.arguments.leaves)
        with in_float64():
            runs = zip(settings, self._each(e), strict=True)
            found = [[exact(g) for g in self._turned(*s, leaves, dys)] for s, dys in runs]
        if self._is_loss:
            dy = exact(e.measurement.pair[0])
            return [g * dy.reshape(-1, *(1,) * (g.ndim - 1)) for g in found[0]]
        return [np.concatenate(gs) for gs in zip(*found, strict=True)]

    def _look(self, operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
        outputs, equation, place = operation.run(*inputs), operation.equation, operation.place
        if any(i < 0 or i >= 1 << 20 for i in place):  # within a loop or a branch there is no one cotangent
            return outputs
        where = source(equation)
        if len(place) == 1 and len(outputs) == 1 and is_inexact(outputs[0]) and np.size(outputs[0]) > 1:
            text = operation.name + (f" at {where}" if where else "")
            self.values.append(Value(place[0], np.shape(outputs[0]), text))
        if self._masks:
            self.sites += _masked(operation, inputs, where)
            return outputs
        both = operation.floating(inputs) == [0, 1] and equation.invars[0] is not equation.invars[1]
        if equation.primitive.name in PRODUCTS and both and len(self.sites) < SITES:
            shapes = [np.shape(x) for x in inputs]
            pairs = [(0, 1), (1, 0), *([(0, 0), (1, 1)] if shapes[0] == shapes[1] else [])]
            self.sites += [Site(place, p, t, shapes[p], where, operation.name) for p, t in pairs]
        for region in self._ending_at(operation):
            self.regions.append((place, region, where))
        return outputs

    def _ending_at(self, operation: Operation) -> list[Region]:
        program = operation.program
        if id(program) not in self._ends:
            self._ends[id(program)] = regions(program)
        ends = operation.equation.outvars
        return [r for r in self._ends[id(program)] if r.target in ends and is_inexact(r.source.aval)]

    def _run(self, theta: Any, arrays: Any, scales: Any, leaves: Any, dys: Any) -> Any:
        def step(operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
            here = [n for n, s in enumerate(self.sites) if s.place == operation.place]
            outputs = operation.run(*inputs)
            if here:
                chosen = [self.sites[n] for n in here]
                settings = theta[np.asarray(here)], [arrays[n] for n in here]
                outputs = _with_arrays(operation, chosen, *settings, inputs)
            for n, (place, region, _) in enumerate(self.regions):
                if place == operation.place:
                    outputs = [_with_applied(operation, region, scales[n], outputs[0])]
            return outputs

        return pull(self.traced, leaves, dys, step)[1]

    def _pull_values(self, leaves: Any, dys: Any) -> list[Any]:
        """Pull one cotangent back to every value: each gets a zero added, which has its cotangent."""
        at = {value.place: n for n, value in enumerate(self.values)}

        def run(zeros: list[Any]) -> list[Any]:
            def step(operation: Operation, inputs: Sequence[Any]) -> Sequence[Any]:
                outputs = operation.run(*inputs)
                n = at.get(operation.place[0]) if len(operation.place) == 1 else None
                return outputs if n is None else [outputs[0] + zeros[n]]

            jaxpr = self.traced.jaxpr
            ys = evaluate(jaxpr.jaxpr, jaxpr.consts, list(leaves), step)
            return [ys[i] for i in self.traced.outputs]

        ys, pullback = jax.vjp(run, [jnp.zeros(v.shape) for v in self.values])
        return pullback([jnp.asarray(d[0]).astype(y.dtype) for d, y in zip(dys, ys, strict=True)])[0]


def _masked(operation: Operation, inputs: Sequence[Any], where: str) -> Iterator[Site]:
    """Return the places of a mask: what a choice chooses by, and a factor that depends on no argument."""
    equation, place = operation.equation, operation.place
    shape, floating = np.shape(inputs[0]), operation.floating(inputs)
    if equation.primitive.name == MASK and np.size(inputs[0]) > 1:
        yield from (Site(place, 0, i, shape, where, MASK) for i in floating)
    elif equation.primitive.name == "mul" and floating == [0, 1] and shape == np.shape(inputs[1]) != ():
        free = constants_of(operation.program)
        yield from (Site(place, p, 1 - p, shape, where, "mul") for p in (0, 1) if equation.invars[p] in free)


def _with_arrays(
    operation: Operation, sites: Sequence[Site], theta: Any, arrays: Sequence[Any], inputs: Sequence[Any]
) -> Sequence[Any]:
    def run(theta: Any, arrays: Any, *xs: Any) -> Any:
        return tuple(operation.run(*xs))

    def forward(theta: Any, arrays: Any, *xs: Any) -> Any:
        ys, pullback = jax.vjp(lambda *xs: tuple(operation.run(*xs)), *xs)
        return ys, (theta, arrays, xs, ys, pullback)

    def backward(saved: Any, dys: Any) -> Any:
        theta, arrays, xs, ys, pullback = saved
        right = pullback(dys)
        back, total = Back(operation, xs, ys, dys[0], right), list(right)
        for t, site, array in zip(theta, sites, arrays, strict=True):
            total[site.target] += t * (site.wrong(back, array) - right[site.target])
        return (*jax.tree.map(jnp.zeros_like, (theta, arrays)), *total)

    operate = jax.custom_vjp(run)
    operate.defvjp(forward, backward)
    return list(operate(theta, arrays, *inputs))


def _with_applied(operation: Operation, region: Region, scale: Any, end: Any) -> Any:
    others = tuple(operation.values[v] for v in region.others)

    def forward(scale: Any, others: Any, x: Any, y: Any) -> Any:
        return y, (scale, others, x)

    def backward(saved: Any, dy: Any) -> Any:
        scale, others, x = saved
        some = jnp.where(scale == 0, 1.0, scale)
        dx = jnp.where(scale == 0, 0.0, region.function(others)(some * dy) / some)
        nothing = [jnp.zeros_like(o) if is_inexact(o) else None for o in others]
        return jnp.zeros_like(scale), tuple(nothing), dx.astype(x.dtype), jnp.where(scale == 0, dy, 0.0)

    operate = jax.custom_vjp(lambda scale, others, x, y: y)
    operate.defvjp(forward, backward)
    return operate(scale, others, operation.values[region.source], end)
