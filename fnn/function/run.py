"""Run a planned function: the trace again, with a zero added at every use and the other operands kept."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fnn.function import internals
from fnn.function.batch import is_literal
from fnn.function.placed import bound
from fnn.function.sites import Body, Plan, Site, Step

Zeros = dict[int, tuple[Any, ...]]
Kept = dict[int, tuple[Any, ...]]


@jax.custom_jvp
def _tap(value: Any, zero: Any) -> Any:
    """Return `value`, whose derivative by `zero` is 1: value + zero, but nothing is added."""
    return value


_tap.defjvps(lambda dvalue, y, value, zero: dvalue, lambda dzero, y, value, zero: dzero)


def zeros_for(plan: Plan) -> Zeros:
    """Make the zeros of a plan's sites, those of a site in loops stacked by them."""

    def of(site: Site, zero: Any) -> Any:
        return None if zero is None else jnp.zeros((*(p.length for p in site.loops), *zero[0]), zero[1])

    return {k: tuple(of(s, z) for z in s.zeros) for k, s in enumerate(plan.sites) if s.zeros}


def run(body: Body, sites: list[Site], values: list[Any], zeros: Zeros) -> tuple[list[Any], Kept]:
    """Run a body on the values of its operands.

    Args:
        body: the body.
        sites: all sites of the plan.
        values: an array or number for each operand of the body.
        zeros: for each of its sites that has zeros, by number, a tuple of them; see `zeros_for`.

    Returns:
        the results, and for each site, by number, the operands that it keeps; in loops stacked by them.
    """
    env: dict[Any, Any] = dict(zip(body.jaxpr.constvars, body.consts, strict=True))
    env.update(zip(body.jaxpr.invars, values, strict=True))
    last = _last_uses(body)
    kept: Kept = {}

    def read(var: Any) -> Any:
        return var.val if is_literal(var) else env[var]

    for place, step in enumerate(body.steps):
        eqn = step.eqn
        ins = [read(v) for v in eqn.invars]
        if step.bodies:
            own = {k: zeros[k] for b in step.bodies for k in b.sites if k in zeros}
            outs, more = _inside(step, sites, ins, own)
            kept.update(more)
        else:
            for k, number in step.before.items():
                (zero,) = zeros[number]
                ins[k] = _tap(_broadcast(ins[k], zero.shape), zero)
                kept[number] = ()
            outs = bound(eqn, ins)
            if step.at is not None:
                site = sites[step.at]
                kept[step.at] = tuple(jnp.asarray(ins[k]) for k in site.record)
                own = zeros.get(step.at, (None,) * len(outs))
                outs = [o if z is None else _tap(o, z) for o, z in zip(outs, own, strict=True)]
        env.update(zip(eqn.outvars, outs, strict=True))
        for var in last.get(place, ()):
            env.pop(var, None)
    return [read(v) for v in body.jaxpr.outvars], kept


def _broadcast(value: Any, shape: tuple[int, ...]) -> Any:
    return value if jnp.shape(value) == shape else jnp.broadcast_to(value, shape)


def _last_uses(body: Body) -> dict[int, list[Any]]:
    """Return for each step the values that nothing reads after it, so that eager runs let them go."""
    seen = {v for v in body.jaxpr.outvars if not is_literal(v)}
    last: dict[int, list[Any]] = {}
    for place in reversed(range(len(body.steps))):
        for var in body.steps[place].eqn.invars:
            if not is_literal(var) and var not in seen:
                seen.add(var)
                last.setdefault(place, []).append(var)
    return last


def _inside(step: Step, sites: list[Site], ins: list[Any], zeros: Zeros) -> tuple[list[Any], Kept]:
    if step.how == "call":

        def call(ins: list[Any], zeros: Zeros) -> tuple[list[Any], Kept]:
            return run(step.bodies[0], sites, ins, zeros)

        return internals.checkpointed(step.eqn, call)(ins, zeros)
    if step.how == "cond":
        return _cond(step, sites, ins, zeros)
    return _scan(step, sites, ins, zeros)


def _cond(step: Step, sites: list[Site], ins: list[Any], zeros: Zeros) -> tuple[list[Any], Kept]:
    """Run one of the branches; what the others would have kept is zero."""

    def of(body: Body) -> Any:
        return lambda ins, zeros: run(body, sites, ins, zeros)

    shapes = [jax.eval_shape(of(body), ins[1:], zeros)[1] for body in step.bodies]
    empty = {
        k: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), own)
        for part in shapes
        for k, own in part.items()
    }

    def branch(body: Body) -> Any:
        def take(ins: list[Any], zeros: Zeros) -> tuple[list[Any], Kept]:
            outs, kept = run(body, sites, ins, zeros)
            return outs, empty | kept

        return take

    return lax.switch(ins[0], [branch(body) for body in step.bodies], ins[1:], zeros)


def _scan(step: Step, sites: list[Site], ins: list[Any], zeros: Zeros) -> tuple[list[Any], Kept]:
    scan: Any = internals.scanned(step.eqn)
    consts, rest = ins[: scan.consts], ins[scan.consts :]
    carry, xs = rest[: scan.carry], rest[scan.carry :]

    def one(carry: list[Any], xs: Any) -> Any:
        own, zeros = xs
        outs, kept = run(step.bodies[0], sites, [*consts, *carry, *own], zeros)
        return outs[: scan.carry], (outs[scan.carry :], kept)

    carry, (ys, kept) = lax.scan(
        one, carry, (xs, zeros), scan.length, reverse=scan.reverse, unroll=scan.unroll
    )
    return [*carry, *ys], kept
