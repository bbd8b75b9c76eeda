"""The mistakes of a loop as a whole: its adjoint runs through the steps in the wrong order."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vjpcheck.arguments import is_inexact
from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.backward import Back, Fault
from vjpcheck.interpret import Operation, evaluate
from vjpcheck.jaxprs import opened
from vjpcheck.nested import split


def loops(operation: Operation, inputs: Sequence[Any]) -> Iterator[Fault]:
    """Return the mistakes of a scan.

    Args: `operation`, the operation; `inputs`, its (abstract) inputs.
    """
    if operation.equation.primitive.name == "scan" and operation.floating(inputs):
        text = "the adjoint runs through the steps as the loop does, where it should run backwards"
        yield Fault(Kind.ORDER_REVERSED, text, _forwards, less=0.3)


def _forwards(b: Back) -> dict[int, Any]:
    """Return the cotangents of a scan whose adjoint begins at the first step."""
    params, given = b.operation.equation.params, list(b.inputs)
    body, constants = opened(params["jaxpr"])
    n, m = split(b.operation.equation)
    floats = [i for i, x in enumerate(given) if is_inexact(x)]
    carried = [i for i in floats if n <= i < m]

    def step(carry: Sequence[Any], x: Sequence[Any], some: Sequence[Any] = ()) -> tuple[list[Any], list[Any]]:
        full = [*given[:n], *carry, *x]
        for i, value in zip(floats, some, strict=False):
            full[i] = value
        outputs = evaluate(body, constants, full)
        return outputs[: m - n], outputs[m - n :]

    start, xs, length = tuple(given[n:m]), tuple(given[m:]), params["length"]
    way = params["reverse"]
    _, carries = lax.scan(lambda c, x: (tuple(step(c, x)[0]), c), start, xs, length, way)

    def adjoint(state: Any, at: Any) -> Any:
        dcarry, total = state
        carry, x, dys = at
        full = [*given[:n], *carry, *x]

        def floating(some: Any) -> Any:
            after, ys = step(carry, x, some)
            return [after[i - n] for i in carried], [y for y in ys if is_inexact(y)]

        (found,) = jax.vjp(floating, [full[i] for i in floats])[1]((dcarry, dys))
        by = dict(zip(floats, found, strict=True))
        total = [t + by[i] for t, i in zip(total, [i for i in floats if i < n], strict=True)]
        return ([by[i] for i in carried], total), [by[i] for i in floats if i >= m]

    ends, slices = b.dys[: m - n], [d for d in b.dys[m - n :] if is_inexact(d)]
    last = [ends[i - n] for i in carried]
    zeros = [jnp.zeros_like(given[i]) for i in floats if i < n]
    (first, total), dxs = lax.scan(adjoint, (last, zeros), (carries, xs, slices), length, way)
    found = [*total, *first, *dxs]
    return dict(zip(floats, found, strict=True))
