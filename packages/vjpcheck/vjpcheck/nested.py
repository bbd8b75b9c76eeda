"""How what holds other programs is run: calls, conditionals, scans and loops.

Each takes `closed`, which runs one of the programs; `part` sets the places in several of them apart.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from vjpcheck.jaxprs import CALLS, platform_branch

Run = Callable[..., list[Any]]
_BRANCH = 1 << 20  # sets the places in the branches of one conditional apart


def _call(key: str) -> Callable[..., list[Any]]:
    return lambda closed, equation, inputs: closed(equation.params[key], *inputs)


def _cond(closed: Run, equation: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    here = platform_branch(equation)
    if here is not None:
        return closed(equation.params["branches"][here], *inputs[1:], part=_BRANCH + here)
    branches = [
        lambda *xs, b=b, n=n: tuple(closed(b, *xs, part=_BRANCH + n))
        for n, b in enumerate(equation.params["branches"])
    ]
    return list(lax.switch(jnp.asarray(inputs[0]).astype(np.int32), branches, *inputs[1:]))


def _scan(closed: Run, equation: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """Run a scan. In: constants, what is carried, what is sliced; out: what is carried, what is stacked."""
    body, params = equation.params["jaxpr"], equation.params
    n, m = split(equation)
    carried = m - n

    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        outputs = closed(body, *inputs[:n], *carry, *x)
        return tuple(outputs[:carried]), tuple(outputs[carried:])

    carry, ys = lax.scan(step, tuple(inputs[n:m]), tuple(inputs[m:]), params["length"], params["reverse"])
    return [*carry, *ys]


def split(equation: JaxprEqn) -> tuple[int, int]:
    """Return where, among the inputs of a scan, what is carried begins, and where what is sliced."""
    body = equation.params["jaxpr"]
    carried = len(equation.outvars) - _with_one_axis_more(equation.outvars, body.out_avals)
    m = len(equation.invars) - _with_one_axis_more(equation.invars, body.in_avals)
    return m - carried, m


def _with_one_axis_more(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    return sum(v.aval.ndim > aval.ndim for v, aval in zip(outside, inside, strict=True))


def _while(closed: Run, equation: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """Run a loop; under vmap its condition has an axis for the batch, and those that are done stay."""
    params = equation.params
    n, m = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    goes_on = lambda carry: closed(params["cond_jaxpr"], *inputs[:n], *carry)[0]  # noqa: E731

    def body(carry: Any) -> Any:
        after = closed(params["body_jaxpr"], *inputs[n:m], *carry, part=-1)
        on = goes_on(carry)
        if not on.ndim:
            return tuple(after)
        return tuple(_where(on, a, c) for a, c in zip(after, carry, strict=True))

    return list(lax.while_loop(lambda carry: jnp.any(goes_on(carry)), body, tuple(inputs[m:])))


def _where(on: Any, a: Any, b: Any) -> Any:
    return jnp.where(on.reshape(on.shape + (1,) * (jnp.ndim(a) - on.ndim)), a, b)


NESTED: dict[str, Callable[..., list[Any]]] = {
    **{name: _call(key) for name, key in CALLS.items()},
    "cond": _cond,
    "scan": _scan,
    "while": _while,
}
