"""Finite differences with an error estimate, for a primal that cannot be differentiated: it is run as it is.

Central differences along random unit directions of each leaf, with steps h and h/2, combined by Richardson's
rule; what the two steps disagree by bounds the error (W. H. Press et al., Numerical Recipes, section 5.7).
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck import algebra
from vjpcheck.arguments import Arguments, exact, is_inexact, replaced
from vjpcheck.attempt import Attempts, first_line
from vjpcheck.bench import Bench, Measurement
from vjpcheck.catalogue import Kind
from vjpcheck.effort import compile_quickly, in_float64
from vjpcheck.judge import name_slopes
from vjpcheck.progress import Progress
from vjpcheck.report import Finding, Leaf, Verdict
from vjpcheck.subject import Subject

DIRECTIONS = 4
Function = Callable[[Sequence[Any]], list[np.ndarray]]


def differences(subject: Subject, arguments: Arguments, seed: int, p: Progress) -> None:
    """Compare the slopes that the backward pass claims with measured ones, leaf by leaf.

    Args:
        subject: the pair that is checked.
        arguments: the arguments, at which it is run.
        seed: the seed of the cotangents and the directions.
        p: the report in the making, to which all is added.
    """
    p.checks.append("finite differences")
    subject = replace(subject, primal=subject.surrogate or subject.primal)
    rng = np.random.default_rng(seed)
    try:
        ys = jax.tree.leaves(subject.forward(*arguments.unflatten(arguments.leaves))[0])
        shapes = [y for y in ys if _floats(y)]
        dys = algebra.stack([jax.ShapeDtypeStruct(np.shape(y), np.asarray(y).dtype) for y in shapes], rng)
        _, grads = subject.compiled(arguments)(arguments.leaves, dys)
    except Exception as error:  # the rules' own
        text = f"the rules raise {type(error).__name__}: {first_line(error)}"
        return p.fail("structure", text, Kind.RULE_RAISES)
    try:
        run, eps = _plainly(subject, arguments, p)
    except Exception as error:  # the function's own
        text = f"the function raises {type(error).__name__} when it is run: {first_line(error)}"
        p.findings.append(Finding("finite differences", Verdict.INCONCLUSIVE, text))
        return
    names = [arguments.names[i] for i in arguments.active]
    dtypes = [arguments.leaves[i].dtype for i in arguments.active]
    p.findings += algebra.linearity(
        names, grads, dtypes, [1e-3 * float(np.max(np.abs(g), initial=0)) for g in grads]
    )
    pairs = [
        _leaf(run, arguments, i, grad[0], [d[0] for d in dys], rng, eps)
        for i, grad in zip(arguments.active, grads, strict=True)
    ]
    p.leaves += [leaf for leaf, _ in pairs]
    if eps == np.finfo(np.float64).eps and any(leaf.verdict is Verdict.FAIL for leaf in p.leaves):
        again = lambda: _in_float64(subject, arguments, run, dys)  # noqa: E731
        exact_leaves = Attempts().run("the rule in float64", again, p.leaves)
        p.leaves[:] = map(_but_for_rounding, p.leaves, exact_leaves, dtypes)
    for leaf in p.leaves:
        if leaf.verdict is Verdict.INCONCLUSIVE:
            text = f"differences tell the slope of {leaf.name} to {leaf.tolerance:.1e} of it only"
            p.findings.append(Finding("finite differences", Verdict.INCONCLUSIVE, text, leaf.name))
    rates = ", ".join(f"{r:.2g}" for _, r in pairs)
    p.notes.append(f"halving the step divides the differences' error by {rates} (4 for a smooth function)")
    name_slopes(p)


def _in_float64(subject: Subject, arguments: Arguments, run: Function, dys: Sequence[Any]) -> list[Leaf]:
    """Judge the rule once more, run in float64: a solver's own tolerance may be that of the dtype."""
    wide = arguments.with_leaves([_widened(x) for x in arguments.leaves])
    with in_float64():
        _, grads = subject.compiled(wide)(wide.leaves, [exact(d) for d in dys])
    dy, eps = [d[0] for d in dys], float(np.finfo(np.float64).eps)
    each = zip(wide.active, grads, strict=True)
    return [_leaf(run, wide, i, g[0], dy, np.random.default_rng(0), eps)[0] for i, g in each]


def _but_for_rounding(leaf: Leaf, wide: Leaf, dtype: Any) -> Leaf:
    """Judge by the rule in float64: a formula stays as wrong as it is there, rounding does not."""
    if leaf.verdict is not Verdict.FAIL or wide.verdict is not Verdict.PASS and wide.error > leaf.error / 8:
        return leaf
    half = float(jnp.finfo(dtype).eps) ** 0.5
    return replace(leaf, verdict=Verdict.PASS if leaf.error <= half else Verdict.INCONCLUSIVE, tolerance=half)


def attested(
    stand: Bench, m: Measurement, leaves: Sequence[Leaf], p: Progress, probe: str = ""
) -> list[Leaf]:
    """Ask finite differences about the leaves that failed: where they agree with the rule, and not with
    autodiff, the rule is right (`where(w != 0, 3 * w, 0)` has the slope 3 at zero, autodiff says 0).

    Args: `stand`, the subject and the reference, compiled; `m`, what was measured; `leaves`, the leaves,
    judged; `p`, the report in the making, to which findings are added; `probe`, the name of the probe, or
    nothing for the inputs given.
    """
    failed = [leaf.name for leaf in leaves if leaf.verdict is Verdict.FAIL]
    if not failed or stand.subject.surrogate is not None:
        return list(leaves)
    attempts = Attempts()
    mended = attempts.run("finite differences", lambda: _mended(stand, m, failed), [])
    if mended:
        text = f"{', '.join(mended)}: differences agree with the rule, and not with autodiff of the function"
        if not any(note.startswith(text) for note in p.notes):
            p.notes.append(text + (f" ({probe})" if probe else ""))
    return [replace(leaf, verdict=Verdict.PASS) if leaf.name in mended else leaf for leaf in leaves]


def _mended(stand: Bench, m: Measurement, failed: Sequence[str]) -> list[str]:
    names = stand.names
    finite = [n for n, g in enumerate(m.grads) if names[n] in failed and np.all(np.isfinite(g))]
    told = by_differences(stand, m, finite, m.grads, m.right)
    return [names[n] for n, both in zip(finite, told, strict=True) if both == [Verdict.PASS, Verdict.FAIL]]


def by_differences(
    stand: Bench, m: Measurement, wanted: Sequence[int], *gradients: Sequence[np.ndarray]
) -> list[list[Verdict]]:
    """Judge gradients by the differences of the function at what was measured.

    Args: `stand`, the subject and the reference; `m`, what was measured; `wanted`, the numbers of the leaves;
    `gradients`, one or more lists of the gradients of all leaves, stacked over the cotangents.
    """
    (run, eps), dy = _plainly(stand.subject, m.arguments, Progress()), [d[0] for d in m.dys]
    judged = lambda i, g: _leaf(run, m.arguments, i, g, dy, np.random.default_rng(0), eps)[0].verdict  # noqa: E731
    return [[judged(m.arguments.active[n], g[n][0]) for g in gradients] for n in wanted]


def _leaf(
    run: Function,
    arguments: Arguments,
    i: int,
    grad: np.ndarray,
    dy: Sequence[np.ndarray],
    rng: np.random.Generator,
    eps: float,
) -> tuple[Leaf, float]:
    value, dtype = exact(arguments.leaves[i]), arguments.leaves[i].dtype
    claimed, measured, errors, rates = [], [], [], []
    reach = sum(float(np.sum(np.abs(exact(d) * y))) for d, y in zip(dy, run(arguments.leaves), strict=True))
    for n in range(DIRECTIONS):
        v = rng.standard_normal(value.shape) if n % 2 == 0 else _one_hot(value.shape, rng)
        v = v / np.linalg.norm(v)

        def slope(h: float, v: np.ndarray = v) -> float:
            up, down = (run(replaced(arguments.leaves, [i], [value + s * h * v])) for s in (1, -1))
            return sum(float(np.vdot(exact(d), a - b).real) for d, a, b in zip(dy, up, down, strict=True)) / (
                2 * h
            )

        h = max(1e-3, eps**0.2) * max(1.0, float(np.sqrt(np.mean(np.abs(value) ** 2))))
        slopes = [slope(h), slope(h / 2), slope(h / 4)]
        best = (4 * slopes[2] - slopes[1]) / 3
        measured.append(best)
        errors.append(max(abs(slopes[2] - slopes[1]), eps * reach / h))
        rates.append(abs(slopes[0] - best) / max(abs(slopes[1] - best), 1e-300))
        claimed.append(float(np.real(np.vdot(grad, v))))
    size = max(float(np.linalg.norm(measured)) / DIRECTIONS**0.5, 1e-300)
    rounding = 64 * float(jnp.finfo(dtype).eps) * float(np.linalg.norm(grad))
    distance = np.abs(np.subtract(claimed, measured))
    allowed = 8 * np.asarray(errors) + rounding + 1e-9 * size
    worst = int(np.argmax(distance / allowed))
    wrong = bool(distance[worst] > allowed[worst])
    sure = bool(allowed[worst] <= 0.05 * max(size, np.linalg.norm(grad)))
    verdict = Verdict.PASS if sure else Verdict.INCONCLUSIVE
    if wrong or not np.all(np.isfinite(distance)):
        verdict = Verdict.FAIL if sure or not np.all(np.isfinite(claimed)) else Verdict.INCONCLUSIVE
    ratio = float(np.vdot(measured, claimed) / np.vdot(measured, measured)) if any(measured) else float("nan")
    apart = float(np.linalg.norm(np.subtract(claimed, np.multiply(ratio, measured))))
    straight = apart <= max(1e-4 * abs(ratio) * size, min(float(np.linalg.norm(allowed)), 0.01 * size))
    leaf = Leaf(
        arguments.names[i],
        verdict,
        float(distance[worst] / size),
        float(allowed[worst] / size),
        ratio,
        0.0 if straight else 90.0,
    )
    return leaf, float(np.median(rates))


def _plainly(subject: Subject, arguments: Arguments, p: Progress) -> tuple[Function, float]:
    """Return the primal as it was written, in float64 where it runs there, and the eps that it rounds by."""
    wide = partial(_run, _compiled(subject), arguments, True)
    attempts = Attempts()
    ys = attempts.run("float64", lambda: wide(arguments.leaves))
    if ys is not None and all(y.dtype.itemsize >= 8 for y in ys):
        return lambda leaves: [exact(y) for y in wide(leaves)], float(np.finfo(np.float64).eps)
    narrow = partial(_run, _compiled(subject), arguments, False)
    ys = narrow(arguments.leaves)
    eps = max(float(jnp.finfo(y.dtype).eps) for y in ys)
    p.notes.append("the function does not run in float64, so the differences are as coarse as its dtype")
    return lambda leaves: [exact(y) for y in narrow(leaves)], eps


def _compiled(subject: Subject) -> Callable[..., Any]:
    return compile_quickly(subject.primal) if subject.traceable else subject.primal


def _run(
    primal: Callable[..., Any], arguments: Arguments, wide: bool, leaves: Sequence[Any]
) -> list[np.ndarray]:
    with in_float64() if wide else nullcontext():
        given = [
            jnp.asarray(np.asarray(x), None if wide else own.dtype) if is_inexact(own) else own
            for x, own in zip(map(_widened, leaves), arguments.leaves, strict=True)
        ]
        return [np.asarray(y) for y in jax.tree.leaves(primal(*arguments.unflatten(given))) if _floats(y)]


def _widened(x: Any) -> Any:
    return exact(x) if is_inexact(x) else x


def _floats(y: Any) -> bool:
    return is_inexact(y if hasattr(y, "dtype") else np.asarray(y))


def _one_hot(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    v = np.zeros(int(np.prod(shape)))
    v[rng.integers(len(v))] = 1.0
    return v.reshape(shape)
