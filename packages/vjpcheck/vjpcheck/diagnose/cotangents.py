"""Mistakes in what is done to the incoming cotangent, before anything is differentiated."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vjpcheck.arguments import exact
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.hypothesis import Evidence, Hypothesis
from vjpcheck.diagnose.scale import parallel

Form = Callable[[np.ndarray], np.ndarray]  # of one cotangent, to what is used in its place


def hypotheses(e: Evidence) -> Iterator[Hypothesis]:
    """Return every form in which a cotangent may have been misused; all take one run of the reference."""
    dys = e.measurement.pair
    for name, words, less, form in _forms(dys):
        yield Hypothesis(name, words, _predict(lambda ds, f=form: [_each(f, d) for d in ds]), less=less)
    for i in range(len(dys)):
        for j in range(len(dys)):
            if j == i or dys[i].shape != dys[j].shape:
                continue
            if j < i:
                text = f"the cotangents of outputs {j} and {i} are exchanged"
                yield Hypothesis(Kind.COTANGENTS_SWAPPED, text, _predict(_taken({i: j, j: i})))
            text = f"the cotangent of output {j} takes the place of that of output {i}"
            yield Hypothesis(Kind.COTANGENTS_SWAPPED, text, _predict(_taken({i: j})), less=0.1)
        if len(dys) > 1:
            text = f"the cotangent of output {i} is not used"
            yield Hypothesis(
                Kind.TERM_DROPPED, text, _predict(lambda ds, i=i: [d * (n != i) for n, d in enumerate(ds)])
            )


def nonlinear(e: Evidence, wrong: Sequence[int]) -> Iterator[Hypothesis]:
    """Return the name of a rule that is not linear, if it is none.

    Args: `e`, what was given and what is right; `wrong`, the numbers of the wrong leaves.
    """
    found = _bent(e, wrong)
    if found is not None:
        yield found


def _bent(e: Evidence, wrong: Sequence[int]) -> Hypothesis | None:
    """Name it: clipped, where it is right for tiny cotangents and stays behind for large ones."""
    tiny, plain, large, at_zero = (_along(e, s) for s in (2.0**-30, 1.0, 2.0**10, 0.0))
    if tiny is None or plain is None or large is None or at_zero is None:
        return None
    if any(np.any(z) for z in at_zero):
        return _offset(e, at_zero, wrong)
    straight = [_gap(t, p) <= 1e-6 for t, p in zip(tiny, plain, strict=True)]
    if all(straight) and all(_gap(g, p) <= 1e-6 for g, p in zip(large, plain, strict=True)):
        return None
    behind = all(
        np.max(np.abs(large[i])) <= 0.5 * np.max(np.abs(e.right[i])) for i in wrong if np.any(e.right[i])
    )
    if behind and all(_gap(t, r) <= 1e-6 for t, r in zip(tiny, e.right, strict=True)):
        text = "the gradient is right for small cotangents and does not grow with large ones"
        return Hypothesis(Kind.COTANGENT_CLIPPED, text, lambda e: e.given if _bent(e, wrong) else e.right)
    text = "the gradient does not grow in proportion to the cotangent"
    return Hypothesis(Kind.COTANGENT_NOT_LINEAR, text, lambda e: e.given, less=4.5)


def _offset(e: Evidence, at_zero: Sequence[np.ndarray], wrong: Sequence[int]) -> Hypothesis | None:
    """Name what is added whatever the cotangent: a multiple of the parameter, where it is one."""
    for i in wrong:
        value = e.measurement.value(i)
        k = parallel(at_zero[i][0], value)
        if k and _gap(at_zero[i][0], k * value) <= 1e-5:
            name = e.bench.names[i]
            if not np.any(e.right[i]) and abs(k - 1) <= 1e-5:
                text = f"the value of {name} is handed back as its cotangent: leave it out by `wrt=`"
                return Hypothesis(Kind.STATE_FOR_A_GRADIENT, text, lambda e: e.given)
            text = f"{k:.3g} times the parameter is added to the gradient of {name}, whatever the cotangent"
            return Hypothesis(Kind.REGULARISER_ADDED, text, lambda e: e.given, less=0.1)
    return None


def _along(e: Evidence, scale: float) -> list[np.ndarray] | None:
    """Return the rule's gradients for scaled cotangents, scaled back."""
    if e.bench.exact is None:
        return None
    dys = [exact(d) * scale for d in e.measurement.dys]
    return [g[:2] / (scale or 1.0) for g in e.bench.exact(e.measurement.arguments.leaves, dys)]


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b), initial=0.0) / max(np.max(np.abs(b), initial=0.0), 1e-300))


def _forms(dys: Sequence[np.ndarray]) -> Iterator[tuple[Kind, str, float, Form]]:
    yield Kind.COTANGENT_IGNORED, "the incoming cotangent is not used: ones take its place", 0, np.ones_like
    first = lambda d: np.full_like(d, d.ravel()[0])  # noqa: E731
    yield (
        Kind.FIRST_ELEMENT_OF_THE_COTANGENT,
        "only the first element of the cotangent is used, for all",
        0,
        first,
    )
    yield Kind.COTANGENT_NOT_LINEAR, "the cotangent is squared", 0, np.square
    yield Kind.COTANGENT_NOT_LINEAR, "only the sign of the cotangent is used", 0, np.sign
    yield Kind.COTANGENT_NOT_LINEAR, "the absolute value of the cotangent is used", 0, np.abs
    if any(d.size > 2 for d in dys):
        mean = lambda d: np.full_like(d, d.mean())  # noqa: E731
        yield (
            Kind.COTANGENT_AVERAGED,
            "the mean of the cotangent takes the place of each of its elements",
            0,
            mean,
        )
        total = lambda d: np.full_like(d, d.sum())  # noqa: E731
        yield (
            Kind.COTANGENT_AVERAGED,
            "the sum of the cotangent takes the place of each of its elements",
            0,
            total,
        )
    if any(d.ndim == 3 and d.shape[1] == d.shape[2] for d in dys):
        yield Kind.TRANSPOSE_MISSING, "the cotangent is transposed", 0.5, lambda d: d.T if d.ndim == 2 else d
    for name, words, keep in _ROWS:
        yield name, words, 2.2, lambda d, keep=keep: _rows(d, keep)


def _rows(d: np.ndarray, keep: Callable[[int], slice]) -> np.ndarray:
    out = np.zeros_like(d)
    if d.ndim:
        out[keep(len(d))] = d[keep(len(d))]
    return out


_ROWS = (
    (Kind.ROWS_DROPPED, "the last row of the cotangent is left out", lambda n: slice(0, n - 1)),
    (Kind.ROWS_DROPPED, "the first row of the cotangent is left out", lambda n: slice(1, n)),
    (Kind.ROWS_DROPPED, "only the first row of the cotangent is used", lambda n: slice(0, 1)),
    (Kind.ROWS_DROPPED, "only the last row of the cotangent is used", lambda n: slice(n - 1, n)),
    (Kind.ROWS_DROPPED, "rows that do not fill a pair are left out", lambda n: slice(0, n // 2 * 2)),
    (Kind.ROWS_DROPPED, "rows that do not fill a tile of 4 are left out", lambda n: slice(0, n // 4 * 4)),
    (Kind.ROWS_DROPPED, "rows that do not fill a tile of 8 are left out", lambda n: slice(0, n // 8 * 8)),
    (Kind.ROWS_DROPPED, "the second half of the rows is left out", lambda n: slice(0, n // 2)),
)


def _each(form: Form, stacked: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(form(d)).astype(stacked.dtype) for d in stacked])


def _taken(instead: dict[int, int]) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    """Take the cotangents of other outputs for those of some."""
    return lambda ds: [ds[instead.get(n, n)] for n in range(len(ds))]


def _predict(
    change: Callable[[list[np.ndarray]], list[np.ndarray]],
) -> Callable[[Evidence], list[np.ndarray]]:
    def predict(e: Evidence) -> list[np.ndarray]:
        dys = [exact(d) for d in e.measurement.pair]
        return e.bench.reference.wide(e.measurement.arguments.leaves, change(dys))[1]

    return predict
