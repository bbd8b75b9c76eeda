"""Which loops of no known end a derivative would have to go through: they are refused, by their line.

A `while_loop` keeps no record of its steps, so that it has no backward pass. One whose results have no
derivative, by an integer dtype or by `jax.lax.stop_gradient`, or one of the data alone, is as good as any.
"""

from typing import Any

from fnn.errors import InputError
from fnn.function import internals
from fnn.function.batch import is_literal


def check_loops(jaxpr: Any, depends: list[bool]) -> None:
    """Raise where a backward pass goes through a `while_loop`.

    Args:
        jaxpr: a trace.
        depends: for each of its operands, whether a derivative by it is wanted.

    Raises:
        InputError: with the line of the loop.
    """
    _walk(jaxpr, depends, [True] * len(jaxpr.outvars), "")


def _walk(jaxpr: Any, depends: list[bool], wanted: list[bool], line: str) -> list[bool]:
    """Return which results depend on what is differentiated; `wanted` are those whose derivative matters."""
    known: dict[Any, bool] = dict(zip(jaxpr.invars, depends, strict=True))

    def depend(var: Any) -> bool:
        return not is_literal(var) and known.get(var, False)

    for eqn in jaxpr.eqns:
        some = eqn.primitive.name != "stop_gradient" and any(map(depend, eqn.invars))
        known.update((var, some and internals.differentiable(var.aval)) for var in eqn.outvars)
    needed = {var for var, one in zip(jaxpr.outvars, wanted, strict=True) if one and depend(var)}
    for eqn in reversed(jaxpr.eqns):
        if any(var in needed for var in eqn.outvars):
            _enter(eqn, depend, [var in needed for var in eqn.outvars], internals.where(eqn) or line)
            needed.update(filter(depend, eqn.invars))
    return [depend(var) for var in jaxpr.outvars]


def _enter(eqn: Any, depend: Any, wanted: list[bool], line: str) -> None:
    """Look into one operation on the way of a backward pass."""
    own = [depend(var) for var in eqn.invars]
    if eqn.primitive.name == "while":
        if any(own[internals.conditions(eqn) :]):
            raise InputError(
                "fnn.function",
                "loops whose number of steps is known, for a backward pass",
                f"a while_loop in {line}, not behind jax.lax.stop_gradient",
                "jax.lax.fori_loop(0, 10, body, x)",
            )
        return
    call, cases, scan = internals.called(eqn), internals.branches(eqn), internals.scanned(eqn)
    if call is not None:
        _walk(call[0], own, wanted, line)
    for case in cases or ():
        _walk(case.jaxpr, own[1:], wanted, line)
    if scan is not None:
        carried = slice(scan.consts, scan.consts + scan.carry)
        while True:
            outs = _walk(scan.body.jaxpr, own, [True] * len(scan.body.jaxpr.outvars), line)
            again = [a or b for a, b in zip(own[carried], outs, strict=False)]
            if again == own[carried]:
                return
            own[carried] = again
