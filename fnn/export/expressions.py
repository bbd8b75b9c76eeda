"""Elementwise functions of x in a normal form, so that two ways of writing one compare as equal.

An expression is a nest of tuples: `X`, ("sum", c, terms), ("product", c, factors), or an operator with its
arguments, which are expressions and numbers. Sums are in products, their first term has the coefficient 1,
and both are sorted, so that x (1 + erf(x / √2)) / 2 is one expression in whatever order it was computed.
"""

import math
from typing import Any

Expression = tuple[Any, ...]

X: Expression = ("x",)


def constant(value: float) -> Expression:
    """Return the expression of a number: the product of no factors."""
    return ("product", value, ())


def number(expression: Expression) -> float | None:
    """Return the number that an expression is; None where it is none."""
    return expression[1] if expression[0] == "product" and not expression[2] else None


def line(expression: Expression) -> tuple[float, float] | None:
    """Return a and b where an expression is a x + b; None where it is not."""
    factor, inner = _apart(expression)
    if inner[0] == "sum" and inner[2] == (X,):
        return factor, factor * inner[1]
    return (factor, 0.0) if inner == X else None


def product(*expressions: Expression) -> Expression:
    """Multiply expressions."""
    coefficient, factors = 1.0, []
    for expression in expressions:
        if expression[0] == "product":
            coefficient *= expression[1]
            factors += expression[2]
        else:
            factors.append(expression)
    if coefficient == 1 and len(factors) == 1:
        return factors[0]
    return ("product", coefficient, tuple(sorted(factors, key=_order)))


def scaled(factor: float, expression: Expression) -> Expression:
    """Multiply an expression by a number.

    Args:
        factor: the number.
        expression: the expression.
    """
    return product(constant(factor), expression)


def total(*expressions: Expression) -> Expression:
    """Add expressions; like terms become one."""
    offset, terms = 0.0, {}
    for expression in expressions:
        factor, inner = _apart(expression)
        if number(expression) is not None:
            offset += factor
            continue
        added, parts = (inner[1], inner[2]) if inner[0] == "sum" else (0.0, (inner,))
        offset += factor * added
        for part in parts:
            own, term = _apart(part)
            terms[term] = terms.get(term, 0.0) + factor * own
    terms = {term: factor for term, factor in terms.items() if factor}
    if not terms:
        return constant(offset)
    ordered = sorted(terms, key=_order)
    first = terms[ordered[0]]
    if not offset and len(ordered) == 1:
        return scaled(first, ordered[0])
    return scaled(first, ("sum", offset / first, tuple(scaled(terms[t] / first, t) for t in ordered)))


def reciprocal(expression: Expression) -> Expression:
    """Divide 1 by an expression, each factor by itself."""
    factor, inner = _apart(expression)
    factors = inner[2] if inner[0] == "product" else (inner,)
    return scaled(1 / factor if factor else math.nan, product(*map(_turned, factors)))


def _turned(factor: Expression) -> Expression:
    match factor:
        case "Reciprocal", inner:
            return inner
        case "sum", 1.0, (("Exp", inner),):  # 1 / (1 + exp(-x))
            return "Sigmoid", scaled(-1, inner)
        case _:
            return "Reciprocal", factor


def clip(expression: Expression, low: float, high: float) -> Expression:
    """Clip an expression between two numbers; a factor is taken out of the clip, and a clip of a clip is one.

    Args:
        expression: the expression.
        low: the least value.
        high: the largest value.
    """
    factor, inner = _apart(expression)
    if factor < 0:
        return scaled(-1, clip(scaled(-1, expression), -high, -low))
    if factor not in (0, 1) and number(expression) is None:
        return scaled(factor, clip(inner, low / factor, high / factor))
    if expression[0] == "Clip":
        _, inner, first, last = expression
        return clip(inner, min(max(first, low), high), min(max(last, low), high))
    return ("Clip", expression, low, high)


def mean(expression: Expression) -> Expression:
    """Take the mean over the last axis."""
    factor, inner = _apart(expression)
    return scaled(factor, ("Mean", inner))


def same(one: Any, other: Any, tolerance: float) -> bool:
    """Return whether two expressions are equal up to their numbers' rounding.

    Args:
        one: an expression.
        other: another.
        tolerance: the relative difference up to which numbers are equal.
    """
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=tolerance)
    return type(one) is type(other) and one == other


def numbers(expression: Any) -> set[float]:
    """Collect the numbers in an expression."""
    if isinstance(expression, tuple):
        return set().union(*map(numbers, expression))
    return {expression} if isinstance(expression, float | int) else set()


def operators(expression: Any) -> set[str]:
    """Collect the operators of an expression, beside sums and products."""
    if expression[0] in ("sum", "product"):
        return set().union(*map(operators, expression[2]))
    return set().union(
        *(operators(a) for a in expression[1:] if isinstance(a, tuple)), {expression[0]} - {"x"}
    )


def _apart(expression: Expression) -> tuple[float, Expression]:
    """Take an expression apart into its coefficient and what is left."""
    if expression[0] != "product":
        return 1.0, expression
    return expression[1], product(("product", 1.0, expression[2]))


def _order(expression: Expression) -> tuple[str, str]:
    """Order by structure first: numbers may differ by their rounding."""
    return repr(_without_numbers(expression)), repr(expression)


def _without_numbers(expression: Any) -> Any:
    if isinstance(expression, tuple):
        return tuple(map(_without_numbers, expression))
    return 0 if isinstance(expression, float | int) else expression
