"""Mistakes that show in one gradient alone: its sign, its scale, its layout, an addition to it."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vjpcheck.arguments import exact, is_inexact
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.hypothesis import Evidence, Hypothesis
from vjpcheck.diagnose.scale import TELLING, name_scale, parallel

Change = Callable[[np.ndarray], np.ndarray]


def hypotheses(e: Evidence, wrong: Sequence[int]) -> Iterator[Hypothesis]:
    """Return what leaf algebra explains: the same change for as many of the wrong leaves as it fits.

    Args: `e`, what was given and what is right; `wrong`, the numbers of the wrong leaves.
    """
    yield from _scales(e, wrong)
    for name, words, less, change in _changes(e, wrong):
        fitting = [i for i in wrong if e.matches(i, _apply(change, e.right[i]))]
        if fitting:
            yield Hypothesis(name, words.format(_names(e, fitting)), _only(fitting, change), less=less)
    yield from _additions(e, wrong)
    yield from _exchanges(e, wrong)
    yield from _permutations(e, wrong)


def _scales(e: Evidence, wrong: Sequence[int]) -> Iterator[Hypothesis]:
    zero = [i for i in wrong if not np.any(e.given[i])]
    if zero:
        text = f"the gradient of {_names(e, zero)} is zero"
        yield Hypothesis(Kind.ZERO_GRADIENT, text, _only(zero, np.zeros_like))
    groups: dict[float, list[int]] = {}
    for i in wrong:
        k = parallel(e.given[i], e.right[i])
        if k is not None and k != 0 and e.matches(i, k * e.right[i]):
            near = next((g for g in groups if abs(g - k) <= 1e-5 * abs(k)), k)
            groups.setdefault(near, []).append(i)
    for k, members in groups.items():
        name, words = name_scale(k, e.measurement.arguments, e.bench.traced)
        text = f"the gradient of {_names(e, members)} is {words}"
        less = 0.0 if name in TELLING else (2.95 if _is_simple(k) else 4.0) - name.cost
        yield Hypothesis(name, text, _only(members, lambda r, k=k: k * r), less=less)
        yield from _by_argument(e, k, members)
    members = next(iter(groups.values()), [])
    if len(members) == len(wrong) and sum(e.right[i][0].size for i in members) > 3:  # one number always fits
        text = f"the gradient of {_names(e, members)} is right but for a factor that depends on the inputs"
        yield Hypothesis(Kind.FACTOR, text, _by_own_factor(members), less=1.65)


def _by_argument(e: Evidence, k: float, members: Sequence[int]) -> Iterator[Hypothesis]:
    """Return the arguments that are one number, where the factor is theirs or its inverse."""
    arguments = e.measurement.arguments
    for n, (name, x) in enumerate(zip(arguments.names, arguments.leaves, strict=True)):
        if not is_inexact(x) or x.size != 1 or float(np.abs(exact(x)).item()) in (0.0, 1.0):
            continue
        for power, label, words in (
            (1, Kind.CONSTANT_APPLIED_TWICE, "times"),
            (-1, Kind.CONSTANT_LEFT_OUT, "without"),
        ):
            if abs(k - exact(x).item() ** power) <= 1e-5 * abs(k):

                def predict(e: Evidence, n: int = n, power: int = power) -> list[np.ndarray]:
                    factor = exact(e.measurement.arguments.leaves[n]).item() ** power
                    return [factor * r if i in members else r for i, r in enumerate(e.right)]

                text = f"the gradient of {_names(e, members)} is the right one {words} the argument {name}"
                text += " once more" if power == 1 else ""
                yield Hypothesis(label, text, predict)


def _by_own_factor(members: Sequence[int]) -> Callable[[Evidence], list[np.ndarray]]:
    """Take the one factor of these leaves from the evidence: a count of some rows for that of all, say."""

    def predict(e: Evidence) -> list[np.ndarray]:
        given, right = (np.concatenate([g[i].ravel() for i in members]) for g in (e.given, e.right))
        k = parallel(given, right) or 1.0
        return [k * r if i in members else r for i, r in enumerate(e.right)]

    return predict


def _is_simple(k: float) -> bool:
    return any(abs(abs(k) - n) <= 1e-5 * n for n in (2.0, 3.0, 4.0, 0.5, 1 / 3, 0.25))


def _changes(e: Evidence, wrong: Sequence[int]) -> Iterator[tuple[Kind, str, float, Change]]:
    rank = max(e.right[i].ndim - 1 for i in wrong)
    for a, b in itertools.combinations(range(1, rank + 1), 2):
        yield (
            Kind.TRANSPOSE_MISSING,
            f"the gradient of {{}} has its axes {a - 1} and {b - 1} exchanged",
            0.5,
            _swap(a, b),
        )
    for axis in range(1, rank + 1):
        yield (
            Kind.ORDER_REVERSED,
            f"the gradient of {{}} runs backwards along axis {axis - 1}",
            0.5,
            _flip(axis),
        )
        for shift in (1, -1):
            text = f"the gradient of {{}} is shifted by {shift} along axis {axis - 1}"
            yield Kind.ROWS_SHIFTED, text, 0, _roll(shift, axis, True)
            yield Kind.ROWS_SHIFTED, text, 0, _roll(shift, axis, False)
        text = f"the gradient of {{}} is summed over axis {axis - 1} as well"
        yield Kind.SUMMED_TOO_FAR, text, 0, _summed((axis,))
    if rank > 1:
        yield Kind.SUMMED_TOO_FAR, "the gradient of {} is summed over all axes", 0, _summed(None)
        both = lambda r: np.flip(r, (1, 2)) if r.ndim > 2 else r  # noqa: E731
        yield Kind.ORDER_REVERSED, "the gradient of {} runs backwards along its first two axes", 0.6, both
    for i in wrong:
        yield from _dropped(e, i)


def _dropped(e: Evidence, i: int) -> Iterator[tuple[Kind, str, float, Change]]:
    """Return the slices that are zero where everything else is right."""
    given, right = e.given[i], e.right[i]
    for axis in range(1, given.ndim):
        others = tuple(a for a in range(given.ndim) if a != axis)
        empty = ~np.any(given, axis=others) & np.any(right, axis=others)
        if 0 < empty.sum() < len(empty):
            which = np.flatnonzero(empty)
            shown = ", ".join(map(str, which[:6]))
            text = f"the gradient of {{}} is zero in slices {shown} of axis {axis - 1}"
            yield Kind.ROWS_DROPPED, text, 0, _without(which, axis)


def _additions(e: Evidence, wrong: Sequence[int]) -> Iterator[Hypothesis]:
    """Return additions that do not depend on the cotangent: c times the parameter, or a constant."""
    for i in wrong:
        extra = e.given[i] - e.right[i]
        value = e.measurement.value(i)
        for name, what, shape in (
            (Kind.REGULARISER_ADDED, "the parameter", value),
            (Kind.CONSTANT_ADDED, "1", value**0),
        ):
            k = parallel(extra, np.stack([shape, shape]))
            if k and e.matches(i, e.right[i] + k * shape):
                name_of_leaf = e.bench.names[i]
                text = (
                    f"{k:.3g} times {what} is added to the gradient of {name_of_leaf}, whatever the cotangent"
                )

                def predict(e: Evidence, i: int = i, k: float = k, constant: bool = what == "1") -> list:
                    value = e.measurement.value(i) ** (0 if constant else 1)
                    return [r + k * value if j == i else r for j, r in enumerate(e.right)]

                yield Hypothesis(name, text, predict)


def _exchanges(e: Evidence, wrong: Sequence[int]) -> Iterator[Hypothesis]:
    for cycle in itertools.permutations(wrong, 2) if len(wrong) < 6 else ():
        a, b = cycle
        if a < b and e.right[a].shape == e.right[b].shape:
            if e.matches(a, e.right[b]) and e.matches(b, e.right[a]):
                names = e.bench.names
                text = f"the gradients of {names[a]} and {names[b]} are exchanged"

                def predict(e: Evidence, a: int = a, b: int = b) -> list:
                    swapped = {a: b, b: a}
                    return [e.right[swapped.get(j, j)] for j in range(len(e.right))]

                yield Hypothesis(Kind.LEAVES_SWAPPED, text, predict)


def _permutations(e: Evidence, wrong: Sequence[int]) -> Iterator[Hypothesis]:
    """Return one fixed order of the elements that makes the gradient right."""
    for i in wrong:
        given, right = e.given[i].reshape(2, -1), e.right[i].reshape(2, -1)
        if given.shape != right.shape or len(np.unique(right[0])) < right.shape[1] or right.shape[1] < 3:
            continue
        order = np.empty(right.shape[1], int)
        order[np.argsort(given[0])] = np.argsort(right[0])
        move = lambda r, order=order: r.reshape(2, -1)[:, order].reshape(r.shape)  # noqa: E731
        if e.matches(i, move(e.right[i])):
            text = f"the gradient of {e.bench.names[i]} is right but for the order of its elements"
            yield Hypothesis(Kind.ORDER_OF_ELEMENTS, text, _only([i], move), less=1)


def _only(members: Sequence[int], change: Change) -> Callable[[Evidence], list[np.ndarray]]:
    return lambda e: [_apply(change, r) if i in members else r for i, r in enumerate(e.right)]


def _apply(change: Change, right: np.ndarray) -> np.ndarray:
    try:
        return change(right)
    except (ValueError, IndexError):
        return np.full(right.shape, np.nan)


def _swap(a: int, b: int) -> Change:
    return lambda r: np.swapaxes(r, a, b)


def _flip(axis: int) -> Change:
    return lambda r: np.flip(r, axis)


def _roll(shift: int, axis: int, around: bool) -> Change:
    def change(r: np.ndarray) -> np.ndarray:
        moved = np.roll(r, shift, axis)
        if not around:
            edge = [slice(None)] * r.ndim
            edge[axis] = slice(0, 1) if shift > 0 else slice(-1, None)
            moved[tuple(edge)] = 0
        return moved

    return change


def _summed(axes: tuple[int, ...] | None) -> Change:
    """Put the sum over these axes, or over all, in the place of every element."""

    def change(r: np.ndarray) -> np.ndarray:
        over = tuple(range(1, r.ndim)) if axes is None else axes
        return np.broadcast_to(r.sum(over, keepdims=True), r.shape)

    return change


def _without(which: np.ndarray, axis: int) -> Change:
    """Set the slices of these numbers to zero, whatever the size of the axis."""

    def change(r: np.ndarray) -> np.ndarray:
        kept = ~np.isin(np.arange(r.shape[axis]), which)
        return r * kept.reshape([-1 if a == axis else 1 for a in range(r.ndim)])

    return change


def _names(e: Evidence, members: Sequence[int]) -> str:
    return ", ".join(e.bench.names[i] for i in members)
