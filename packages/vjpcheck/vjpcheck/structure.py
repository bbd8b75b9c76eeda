"""What can be seen without numbers: trees, shapes, dtypes, what JAX accepts in silence, and whether it
repeats.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck.arguments import Arguments, is_inexact
from vjpcheck.attempt import first_line
from vjpcheck.catalogue import Kind
from vjpcheck.reference import Trace
from vjpcheck.report import Finding, Mistake, Verdict
from vjpcheck.subject import Subject, cotangent, match


@dataclass(frozen=True)
class Structure:
    """What the trees say.

    Args:
        findings: what is wrong with them.
        mistakes: the mistakes that they prove.
        repairs: pairs of the name of a leaf and a mistake that the numbers must confirm.
        fatal: whether no numbers can be had.
    """

    findings: tuple[Finding, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    repairs: tuple[tuple[str, Mistake], ...] = ()
    fatal: bool = False


def inspect_rule(subject: Subject, arguments: Arguments, traced: Trace) -> Structure:
    """Run both rules, on abstract values where JAX can trace them, and compare what they give.

    Args:
        subject: the pair that is checked.
        arguments: the arguments that the rules are run on; their leaves say how the cotangents must look.
        traced: the trace of the primal, which says how the outputs must look.
    """
    try:
        out, flat, untouched = _abstract(subject, arguments)
    except Exception as error:  # whatever the user's rules raise is the finding
        return _raised(error)
    findings, mistakes, repairs = [], [], []
    different = _difference(out, traced)
    if not untouched:
        text = "the backward rule changed its residuals, which others may still read"
        findings.append(Finding("structure", Verdict.FAIL, text))
        mistakes.append(Mistake(Kind.RESIDUAL_CHANGED, text))
    if different:
        findings.append(Finding("structure", Verdict.FAIL, different))
        mistakes.append(Mistake(Kind.FORWARD_DIFFERS, different))
    for i, (name, x, ct) in enumerate(zip(arguments.names, arguments.leaves, flat, strict=True)):
        if i not in arguments.active and is_inexact(x):
            continue
        label, text, numeric = _leaf(name, x, ct)
        if not label:
            continue
        mistake = Mistake(label, text)
        if numeric:
            repairs.append((name, mistake))
        else:
            mistakes.append(mistake)
        if label != Kind.MISSING_GRADIENT:
            findings.append(Finding("structure", Verdict.FAIL, text, name))
    return Structure(
        tuple(findings),
        tuple(mistakes),
        tuple(repairs),
        fatal=bool(different) and not _same_shapes(out, traced),
    )


def _abstract(subject: Subject, arguments: Arguments) -> tuple[Any, list[Any], bool]:
    seen: dict[str, Any] = {}

    def run(leaves: Any) -> None:
        args = arguments.unflatten(leaves)
        out, residuals = subject.forward(*args)
        before, tree = jax.tree.flatten(residuals)
        flat, out_tree = jax.tree.flatten(out)
        dy = [jnp.ones(y.shape, y.dtype) for y in flat if is_inexact(y)]
        cotangents = subject.backward(residuals, cotangent(flat, out_tree, dy))
        after, tree_after = jax.tree.flatten(residuals)
        same = tree == tree_after and all(a is b for a, b in zip(before, after, strict=True))
        seen["out"] = jax.tree.map(_shape, out)
        seen["flat"] = [None if c is None else _shape(c) for c in match(cotangents, args)]
        seen["same"] = same or not subject.strict

    if subject.traceable:
        jax.eval_shape(run, list(arguments.leaves))
    else:
        run(arguments.leaves)
    return seen["out"], seen["flat"], seen["same"]


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(x), x.dtype if hasattr(x, "dtype") else jnp.asarray(x).dtype)


def _difference(out: Any, traced: Trace) -> str:
    shapes, tree = jax.tree.flatten(out)
    if tree != traced.out_tree:
        return f"the forward rule gives {tree} where the primal gives {traced.out_tree}"
    for got, want in zip(shapes, traced.shapes, strict=True):
        if (got.shape, got.dtype) != (want.shape, want.dtype):
            return f"the forward rule gives {_describe(got)} where the primal gives {_describe(want)}"
    return ""


def _same_shapes(out: Any, traced: Trace) -> bool:
    shapes, tree = jax.tree.flatten(out)
    return tree == traced.out_tree and [s.shape for s in shapes] == [s.shape for s in traced.shapes]


def _leaf(name: str, x: Any, ct: Any) -> tuple[str, str, bool]:
    """Return a mistake's name and words, and whether numbers must confirm it."""
    if not is_inexact(x):
        wrong = ct is not None and ct.dtype != jax.dtypes.float0
        text = (
            f"{name} holds integers ({x.dtype}), its cotangent should be None or float0, got {_describe(ct)}"
        )
        return (Kind.GRADIENT_FOR_INTEGERS, text, False) if wrong else ("", "", False)
    if ct is None or ct.dtype == jax.dtypes.float0:
        got = "None" if ct is None else "float0"
        return (
            Kind.MISSING_GRADIENT,
            f"the cotangent of {name} is {got}, which JAX takes for zeros in silence",
            True,
        )
    if ct.shape != x.shape:
        extra = len(ct.shape) - len(x.shape)
        if extra > 0 and ct.shape[extra:] == x.shape:
            text = f"the cotangent of {name} has shape {ct.shape}: sum it over its leading axes, to {x.shape}"
            return Kind.BROADCAST_NOT_SUMMED, text, True
        text = f"the cotangent of {name} has shape {ct.shape}, expected {x.shape}"
        return (
            (Kind.TRANSPOSE_MISSING, text, True)
            if ct.shape == x.shape[::-1]
            else (Kind.WRONG_SHAPE, text, False)
        )
    if ct.dtype != x.dtype:
        text = f"the cotangent of {name} is {ct.dtype}, expected {x.dtype}: JAX passes it on in silence"
        return Kind.WRONG_DTYPE, text, False
    return "", "", False


def _describe(x: Any) -> str:
    return "None" if x is None else f"{x.dtype}[{','.join(map(str, x.shape))}]"


def _raised(error: Exception) -> Structure:
    kind, first = type(error).__name__, first_line(error)
    name, words = Kind.WRONG_TREE, first
    if isinstance(error, jax.errors.UnexpectedTracerError):
        name, words = (
            Kind.LEAKED_TRACER,
            "a rule uses a traced value from outside: pass it as an argument instead",
        )
    elif isinstance(error, jax.errors.JAXTypeError):
        name, words = Kind.NOT_TRACEABLE, f"a rule needs concrete values: {first}"
    elif "cotangent" not in first and "custom" not in first.lower():
        name, words = Kind.RULE_RAISES, f"{kind}: {first}"
    return Structure((Finding("structure", Verdict.FAIL, words),), (Mistake(name, words),), fatal=True)


def same_twice(run: Callable[..., Any], *example: Any) -> bool:
    """Whether two traces of a function are the same program: state and chance in Python show here.

    Args:
        run: the function.
        example: its arguments, arrays or their shapes.
    """
    first, second = (jax.make_jaxpr(lambda *xs: run(*xs))(*example) for _ in range(2))
    texts = [re.sub(r"0x[0-9a-f]+", "", str(t)) for t in (first, second)]
    constants = zip(first.consts, second.consts, strict=False)
    equal = all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True) for a, b in constants if is_inexact(a)
    )
    return texts[0] == texts[1] and equal
