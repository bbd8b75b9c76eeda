"""Whether a function keeps its examples apart: found in its trace, with the line where they meet.

A value that is made of params alone is the same for all examples. Once it has met the examples, it lies along
their axis; where it loses that axis (a mean over the batch) and then meets the examples again, or where an
operation mixes along it, one example's result depends on others.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from fnn.function import internals
from fnn.function.batch import Batch, Sizes, is_literal, shape_of
from fnn.function.mixing import EACH, keeps
from fnn.function.order import followed
from fnn.function.positions import Scopes, inside, outermost
from fnn.function.rules import backwards
from fnn.function.sized import reads_number
from fnn.function.states import ALONG, LOST, PARAMS, Made, State, moved, worst
from fnn.function.trace import Traced


class Coupled(Exception):
    """Examples meet, at the place that the text says."""


def coupling(traced: Traced, values: bool = False, strict: bool = False) -> str | None:
    """Return where one example's result depends on others; None where none does.

    Args:
        traced: the function.
        values: False where only what depends on params counts, by a derivative or a choice, and nothing
            behind a `stop_gradient`: so it is for the gradients of the examples. True where whatever is made
            of the examples counts, as a statistic of the data, and their number: without one example, others
            would change.
        strict: whether `values` also counts what is not known.
    """
    followed, jaxpr, other = set(traced.params), traced.ours.jaxpr, traced.theirs.jaxpr
    count = len(jaxpr.invars)
    states: list[State] = [Made(PARAMS) if k in followed else None for k in range(count)]
    if values:
        pairs = zip(jaxpr.invars, other.invars, strict=True)
        lying = [traced.sizes.of(shape_of(v), shape_of(o)) for v, o in pairs]
        states = [s if b is None else Made(ALONG, "", b) for s, b in zip(states, lying, strict=True)]
    walk = _Walk(traced.sizes, values, strict or not values)
    ours, theirs = (outermost(closed, strict) for closed in (traced.ours, traced.theirs))
    try:
        outs = walk.through(jaxpr, other, states, "", (ours, theirs))
    except Coupled as found:
        return str(found)
    for out in filter(None, outs):
        if out.of == LOST:
            return f"a result of no examples, made in {out.where}"
        if out.lying and (out.lying.axis, out.lying.outer * out.lying.inner) != (0, 1):
            return f"a result whose examples do not lie on axis 0, but on axis {out.lying.axis}"
    return None


@dataclass(frozen=True)
class _Walk:
    """Follows what is made of params, or of the examples, through two traces.

    Args:
        sizes: the numbers of examples of both.
        values: whether values count, those behind a `stop_gradient` included.
        strict: whether an operation that is not known counts as one that mixes.
        rule: the place of the rule whose backward pass this is; "" for none.
    """

    sizes: Sizes
    values: bool
    strict: bool
    rule: str = ""

    def through(
        self, jaxpr: Any, other: Any, states: list[State], line: str, scopes: Scopes | None = None
    ) -> list[State]:
        """Return the states of a jaxpr's results.

        `line` is that of the operation that runs it, for the operations inside that have none of their own.
        """
        env: dict[Any, State] = dict(zip(jaxpr.invars, states, strict=True))

        def read(var: Any) -> State:
            return None if is_literal(var) else env.get(var)

        for eqn, theirs in zip(jaxpr.eqns, other.eqns, strict=True):
            own, where = [read(v) for v in eqn.invars], self.rule or internals.where(eqn) or line
            env.update(zip(eqn.outvars, self.step(eqn, theirs, own, where, scopes), strict=True))
            free = [] if not self.values or not any(own) else [state is None for state in own]
            if reads_number(self.sizes, scopes, (eqn, theirs), free, self.strict):
                raise Coupled(f"how many they are is read by `{eqn.primitive.name}` in {where}")
        return [read(v) for v in jaxpr.outvars]

    def step(
        self, eqn: Any, theirs: Any, states: list[State], line: str, scopes: Scopes | None
    ) -> list[State]:
        """Return the states of an operation's results."""
        if not any(states) or eqn.primitive.name == "stop_gradient" and not self.values:
            return [None] * len(eqn.outvars)
        if eqn.primitive.name in EACH:
            return states
        call = internals.called(eqn) or internals.ruled(eqn)
        if call is not None:
            other: Any = internals.called(theirs) or internals.ruled(theirs)
            within = inside(scopes, eqn, theirs, (call, other))
            outs = self.through(call[0], other[0], states, line, within)
            if not internals.called(eqn) and not self.rule:
                self._ruled((eqn, theirs), states, outs, line, scopes)
            return outs
        cases = internals.branches(eqn)
        if cases is not None:
            return self._cond(eqn, theirs, states, line)
        scan, loop = internals.scanned(eqn), internals.looped(eqn)
        if scan is not None:
            return self._scan(eqn, theirs, scan, states, line)
        if loop is not None:
            return self._while(theirs, loop, states, line)
        solve = internals.solved(eqn)
        if solve is not None:
            return self._solve(solve, internals.solved(theirs), states, line)
        shards = internals.sharded(eqn)
        if shards is not None:
            return self._sharded(eqn, theirs, shards, states, line)
        batches = [
            self.sizes.of(shape_of(v), shape_of(o)) for v, o in zip(eqn.outvars, theirs.outvars, strict=True)
        ]
        known = any(internals.differentiable(v.aval) for v in eqn.outvars)
        return [self._result((eqn, theirs), states, batch, line, scopes, known) for batch in batches]

    def _result(
        self, eqns: Any, states: list[State], batch: Batch | None, where: str, scopes: Any, strict: bool
    ) -> State:
        """Return the state of one result of an operation; `strict` where what is not known may mix."""
        most, name = worst(*states), eqns[0].primitive.name
        assert most is not None
        if most.of == ALONG and set(internals.collected(eqns[0])) & set(self.sizes.shards):
            raise Coupled(f"`{name}` mixes the examples of several shards in {where}")
        if most.of == LOST:
            return self._met(most, batch, where)
        if most.of == PARAMS:
            return Made(PARAMS) if batch is None else Made(ALONG, "", batch if batch.single else None)
        if batch is None:
            return Made(LOST, where)
        if batch.axes > 1:
            raise Coupled(f"pairs of examples are made in {where}")
        if not batch.whole:
            raise Coupled(f"some of the examples are taken apart in {where}")
        for k, state in enumerate(states):
            if state is not None and state.of == ALONG:
                own = self.sizes.of(shape_of(eqns[0].invars[k]), shape_of(eqns[1].invars[k]))
                kept = True if own is None else keeps(eqns, k, (own, batch), self.sizes, scopes)
                if kept is False or kept is None and self.strict and (strict or self.values):
                    raise Coupled(f"`{name}` mixes examples, or may do so, in {where}")
        lying = followed(eqns, [s.lying if s and s.of == ALONG else False for s in states], batch, self.sizes)
        if lying is False:
            raise Coupled(f"`{name}` puts examples in the place of others in {where}")
        return Made(ALONG, "", lying)

    def _met(self, lost: Made, batch: Batch | None, where: str) -> State:
        if batch is not None:
            raise Coupled(f"what lost the examples' axis in {lost.where} meets them again in {where}")
        return lost

    def _ruled(self, eqns: Any, states: list[State], outs: list[State], line: str, scopes: Any) -> None:
        """Follow the backward pass that a rule makes: it may couple what its value keeps apart."""
        pulls = [(pull.jaxpr, pull.consts) for pull in map(backwards, eqns) if pull is not None]
        if len(pulls) < 2 or len(pulls[0][0].eqns) != len(pulls[1][0].eqns):
            return
        pairs = zip(outs, eqns[0].outvars, strict=True)
        cotangents = [o for o, v in pairs if internals.differentiable(v.aval)]
        walk = replace(self, rule=f"the rule of a function in {line}")
        within = inside(scopes, eqns[0], eqns[1], (pulls[0], pulls[1]))
        walk.through(pulls[0][0], pulls[1][0], [*states, *cotangents], line, within)

    def _cond(self, eqn: Any, theirs: Any, states: list[State], line: str) -> list[State]:
        """Follow the branches; a choice that all examples made meets each of them."""
        cases: Any = zip(internals.branches(eqn) or (), internals.branches(theirs) or (), strict=True)
        found = [self.through(own.jaxpr, o.jaxpr, states[1:], line) for own, o in cases]
        outs = [worst(*column) for column in zip(*found, strict=True)]
        chosen = states[0]
        if chosen is None or chosen.of != LOST:
            return outs
        pairs = zip(eqn.outvars, theirs.outvars, strict=True)
        return [self._met(chosen, self.sizes.of(shape_of(v), shape_of(o)), line) for v, o in pairs]

    def _while(self, theirs: Any, loop: Any, states: list[State], where: str) -> list[State]:
        """Follow a loop of no known end: under `vmap` each example has an end of its own."""
        other: Any = internals.looped(theirs)
        carried = states[loop.first :]
        while True:
            outs = self.through(loop.body, other.body, [*states[loop.of_body], *carried], where)
            again = [worst(*pair) for pair in zip(carried, outs, strict=True)]
            if again == carried:
                break
            carried = again
        (end,) = self.through(loop.condition, other.condition, [*states[loop.of_condition], *carried], where)
        if end is not None and end.of == LOST and any(s and s.of == ALONG for s in carried):
            raise Coupled(f"a loop goes on until all examples are done in {where}")
        return carried

    def _solve(self, solve: Any, other: Any, states: list[State], line: str) -> list[State]:
        """Follow a linear solve through its solver, and then through the product with what it found."""
        own = [*states[solve.of_solver], *states[solve.right]]
        outs = self.through(solve.solver, other.solver, own, line)
        again = [worst(*pair) for pair in zip(outs, states[solve.right], strict=True)]
        found = self.through(solve.product, other.product, [*states[solve.of_product], *again], line)
        return [worst(*pair) for pair in zip(outs, found, strict=True)]

    def _sharded(self, eqn: Any, theirs: Any, shards: Any, states: list[State], where: str) -> list[State]:
        """Follow a `shard_map` through one of its shards."""
        cuts = set()
        for var, o, spec in zip(eqn.invars, theirs.invars, shards.specs, strict=True):
            batch = self.sizes.of(shape_of(var), shape_of(o))
            if batch is not None:
                cuts.add(spec[batch.axis] if batch.axis < len(spec) else ())
        if len(cuts) > 1:
            raise Coupled(f"the shards have other examples of some operands than of others in {where}")
        names = cuts.pop() if cuts else ()
        parts = math.prod(shards.mesh[name] for name in names)
        own = Sizes(self.sizes.n // parts, self.sizes.other // parts, names)
        other: Any = internals.sharded(theirs)
        return replace(self, sizes=own).through(shards.body, other.body, states, where)

    def _scan(self, eqn: Any, theirs: Any, scan: Any, states: list[State], where: str) -> list[State]:
        other: Any = internals.scanned(theirs)
        body, start = scan.body.jaxpr, scan.consts + scan.carry
        if other.length != scan.length:  # over the examples, one by one
            if (scan.length, other.length) != (self.sizes.n, self.sizes.other):
                raise Coupled(f"a loop takes several examples in one step in {where}")
            rest = [worst(*states[: scan.consts]), worst(*states[scan.consts : start])]
            if any(s is not None and s.of != PARAMS for s in rest):
                raise Coupled(f"a loop over the examples sees other examples in {where}")
            own = [None if s is None else Made(PARAMS) for s in states]
            outs = self.through(body, other.body.jaxpr, own, where)
            again = zip(body.outvars[: scan.carry], body.invars[scan.consts : start], strict=True)
            if any(o and new is not old for o, (new, old) in zip(outs, again, strict=False)):
                raise Coupled(f"a loop over the examples carries something on in {where}")
            met = Made(ALONG, "", Batch(0)) if any(states) else None
            return [met if k >= scan.carry else None for k in range(len(eqn.outvars))]
        states = [*states[:start], *(moved(s, -1) for s in states[start:])]
        while True:
            outs = self.through(body, other.body.jaxpr, states, where)
            carried = [worst(s, o) for s, o in zip(states[scan.consts : start], outs, strict=False)]
            again = [*states[: scan.consts], *carried, *states[start:]]
            if again == states:
                return [*carried, *(moved(o, 1) for o in outs[scan.carry :])]
            states = again
