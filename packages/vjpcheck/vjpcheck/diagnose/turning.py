"""Turn every dial once and read off what it explains: as it is, by a factor, or two left-out paths
together.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.board import Dial
from vjpcheck.diagnose.dials import DROP, Panel
from vjpcheck.diagnose.hypothesis import Arrays, Evidence, Hypothesis, apart, mixed
from vjpcheck.diagnose.scale import TELLING, name_scale, parallel
from vjpcheck.diagnose.search import Match, matched

_LACKING = (
    Kind.DERIVATIVE_MISSING,
    Kind.TRANSPOSE_MISSING,
    Kind.CONSTANT_LEFT_OUT,
    Kind.CONSTANT_APPLIED_TWICE,
)
_SIMPLE = (2.0, 0.5, -1.0, 3.0, 1 / 3, 4.0, 0.25)  # factors that an otherwise known mistake may carry


def turned(panel: Panel, e: Evidence) -> list[Arrays]:
    """Return the gradients with each dial at 1, the paths that carry nothing left out for good.

    Args: `panel`, all dials; `e`, what was given and what is right.
    """
    at_one = panel.each(e)
    still = [_same(g, e.right) for g in at_one]
    idle = [n for n, d in enumerate(panel.dials) if d.fault.name == DROP and still[n]]
    if idle and panel.set_idle(idle, e):
        at_one = panel.each(e)
    return at_one


def explanations(
    panel: Panel, at_one: Sequence[Arrays], e: Evidence, wrong: Sequence[int]
) -> Iterator[Match]:
    """Return every dial that explains a wrong leaf.

    Args: `panel`, all dials; `at_one`, the gradients with each dial at 1; `e`, what was given and what is
    right; `wrong`, the numbers of the wrong leaves.
    """
    moves = [not _same(g, e.right) for g in at_one]
    drops: dict[int, Arrays] = {}
    for n, dial in enumerate(panel.dials):
        if dial.fault.name == DROP:
            drops[n] = at_one[n]
        if not moves[n] or dial.fault.name != DROP and _is_a_drop(panel, n, at_one, drops):
            continue
        fault, words = dial.fault, _words(dial, dial.fault.words)
        h = Hypothesis(fault.name, words, _line(panel, n, 1.0), dial.where, False, less=fault.less)
        yield from matched(h, at_one[n], e, wrong)
        if dial.repeated and dial.fault.name == DROP:
            yield from _in_every_step(panel, n, e, wrong)
        if dial.fault.name in (DROP, Kind.WEIGHTS_UPDATED_EARLY):
            yield from _by_a_factor(panel, n, at_one[n], e, wrong)
        else:
            beside = [m for m in drops if panel.dials[m].place == dial.place]
            yield from _scaled(panel, n, at_one[n], [(m, drops[m]) for m in beside], e, wrong)
    yield from _pairs(panel, {n: g for n, g in drops.items() if moves[n]}, e, wrong)


def _is_a_drop(panel: Panel, n: int, at_one: Sequence[Arrays], drops: dict[int, Arrays]) -> bool:
    """Whether a mistake does no more than leave a path of its operation out, which is its plainer name."""
    here = (drop for m, drop in drops.items() if panel.dials[m].place == panel.dials[n].place)
    return any(_same(at_one[n], drop) for drop in here)


def _in_every_step(panel: Panel, n: int, e: Evidence, wrong: Sequence[int]) -> Iterator[Match]:
    """Try simple factors on a path of all steps of a loop: step by step they multiply, and make no line."""
    for factor, name, words in (
        (-1.0, Kind.SIGN, "that of the opposite sign"),
        (2.0, Kind.FACTOR, "taken twice"),
    ):

        def predict(e: Evidence, to: float = 1 - factor) -> Arrays:
            return panel.gradients(n, e, to)

        text = f"the path through {panel.dials[n].operation} is {words} in every step"
        h = Hypothesis(name, text, predict, panel.dials[n].where, False, less=2.4 - name.cost)
        yield from matched(h, predict(e), e, wrong)


def _by_a_factor(panel: Panel, n: int, at_one: Arrays, e: Evidence, wrong: Sequence[int]) -> Iterator[Match]:
    """Fit given = right + t (at_one - right), on the wrong leaves together and on each by itself."""
    dial = panel.dials[n]
    for members in {tuple(wrong), *((i,) for i in wrong)}:
        t = parallel(apart(e.given, e.right, members), apart(at_one, e.right, members))
        if t is None or abs(t) < 1e-6 or abs(t - 1) < 1e-5:
            continue
        if dial.fault.name == DROP:
            name, words = name_scale(1 - t, e.measurement.arguments, e.bench.traced)
            plain = any(abs(1 - t - k) < 1e-5 for k in _SIMPLE[:2])
            less = 0.05 if name in TELLING else (3.35 if plain else 4.1) - name.cost
            less += 0.15 if name == Kind.SIGN else 0
            text = f"the path through {dial.operation} is {words}"
        else:
            name, less = dial.fault.name, dial.fault.less
            text = _words(dial, f"{dial.fault.words}, by {-t:.3g} times its gradient")
        h = Hypothesis(name, text, _line(panel, n, t), dial.where, False, less=less)
        yield from matched(h, mixed(e.right, at_one, t), e, wrong)


def _scaled(
    panel: Panel,
    n: int,
    at_one: Arrays,
    beside: Sequence[tuple[int, Arrays]],
    e: Evidence,
    wrong: Sequence[int],
) -> Iterator[Match]:
    """Fit given = dropped + k (at_one - dropped): the same mistake, and a simple factor on it."""
    dial = panel.dials[n]
    for m, dropped in beside:
        k = parallel(apart(e.given, dropped, wrong), apart(at_one, dropped, wrong))
        simple = _SIMPLE[:3] if dial.fault.name in _LACKING else _SIMPLE
        if k is None or abs(k - 1) < 1e-5 or not any(abs(k - s) < 1e-5 for s in simple):
            continue

        def predict(e: Evidence, m: int = m, k: float = k) -> Arrays:
            return mixed(panel.gradients(m, e), panel.gradients(n, e), k)

        text = _words(dial, f"{dial.fault.words}, and is taken {k:.4g} times")
        h = Hypothesis(dial.fault.name, text, predict, dial.where, False, less=dial.fault.less + 0.8)
        yield from matched(h, mixed(dropped, at_one, k), e, wrong)


def _pairs(panel: Panel, drops: dict[int, Arrays], e: Evidence, wrong: Sequence[int]) -> Iterator[Match]:
    """Try every two paths that are left out together, or taken by one factor."""
    error = apart(e.given, e.right, wrong)
    paths = {n: apart(g, e.right, wrong) for n, g in drops.items()}
    for a, b in _aligned(error, paths):
        t = parallel(error, paths[a] + paths[b])
        if t is None or panel.dials[a].place == panel.dials[b].place:
            continue
        first, second = panel.dials[a], panel.dials[b]
        name, words = DROP, f"{first.fault.words}, and {second.fault.words}"
        if abs(t - 1) > 1e-5:
            name, scale = name_scale(1 - t, e.measurement.arguments, e.bench.traced)
            words = f"the paths through {first.operation} and {second.operation} are {scale}"
        where = " and ".join(filter(None, (first.where, second.where)))
        less = (3.2 if name in (DROP, Kind.SIGN) else 4.2) - name.cost
        h = Hypothesis(name, words, _two(panel, a, b, t), where, False, less=less)
        yield from matched(h, h.predict(e), e, wrong)
        if name == DROP:
            return


def _aligned(error: np.ndarray, paths: dict[int, np.ndarray]) -> Iterator[tuple[int, int]]:
    """Return the pairs of paths whose sum is the error but for a factor."""
    numbers, stacked = list(paths), np.stack([*paths.values(), error])
    gram = stacked @ stacked.T
    own, along, square = np.diag(gram)[:-1], gram[-1, :-1], gram[-1, -1]
    size = own[:, None] + own[None] + 2 * gram[:-1, :-1]
    with np.errstate(all="ignore"):
        fits = (along[:, None] + along[None]) ** 2 >= (1 - 1e-9) * square * size
    for a, b in np.argwhere(np.triu(fits & (size > 0), 1)):
        yield numbers[a], numbers[b]


def _two(panel: Panel, a: int, b: int, t: float):  # noqa: ANN202
    def predict(e: Evidence) -> Arrays:
        both = zip(panel.gradients(a, e), panel.gradients(b, e), e.right, strict=True)
        return [r + t * (x + y - 2 * r) for x, y, r in both]

    return predict


def _line(panel: Panel, n: int, t: float):  # noqa: ANN202
    return lambda e: mixed(e.right, panel.gradients(n, e), t)


def _same(a: Arrays, b: Arrays) -> bool:
    largest = max(float(np.max(np.abs(y), initial=0.0)) for y in b)
    gaps = (float(np.max(np.abs(x - y), initial=0.0)) for x, y in zip(a, b, strict=True))
    return all(gap <= 1e-12 * max(largest, 1e-300) for gap in gaps)


def _words(dial: Dial, text: str) -> str:
    return f"{dial.operation}: {text}"
