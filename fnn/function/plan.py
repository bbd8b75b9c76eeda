"""What is done where: a walk over a trace that finds every use of every param, before anything is computed.

The plan is the trace again, with a `Step` for each operation: where zeros are added and what is kept.
"""

from dataclasses import replace
from typing import Any

from fnn.errors import InputError
from fnn.function import internals
from fnn.function.batch import Batch, Sizes, is_literal, shape_of
from fnn.function.layout import Layout, through, whole
from fnn.function.sites import Body, Loop, Plan, Root, Site, Step, View
from fnn.function.uses import kind_of


class Mismatch(Exception):
    """The traces at two batch sizes are not the same program."""


class Planner:
    """Walks two traces of one function, at the two batch sizes, side by side.

    Args:
        sizes: the two batch sizes.
    """

    def __init__(self, sizes: Sizes):
        self.sizes = sizes
        self.sites: list[Site] = []
        self.roots: list[Root] = []
        self.loops = 0
        self.lines: list[str] = [""]  # of the operations around, for those inside that have none

    def whole(self, closed: Any, other: Any, params: list[int], batches: list[Batch | None]) -> Plan:
        """Plan a function.

        Args:
            closed: its first trace, a closed jaxpr.
            other: its second trace, likewise.
            params: the places of the operands that are the params to follow.
            batches: the examples in each operand.

        Raises:
            InputError: where an output is made of params alone.
            Mismatch: where the traces are not the same program.
        """
        views: list[View | None] = [None] * len(closed.jaxpr.invars)
        for place in params:
            aval = closed.jaxpr.invars[place].aval
            views[place] = self._root(Root(tuple(aval.shape), aval.dtype))
        body, out, batches = self._body(closed.jaxpr, other.jaxpr, closed.consts, views, batches, ())
        for k, view in enumerate(out):
            if view is not None:
                got = f"a function whose output {k} is made of params alone"
                fix = "f = lambda params, x: jnp.sum(params) + 0 * x.reshape(len(x), -1)[:, 0]"
                raise InputError("fnn.function", "outputs that depend on the examples", got, fix)
        return Plan(body, self.sites, self.roots, batches)

    def _body(
        self, jaxpr: Any, other: Any, consts: list[Any], views: list, batches: list, loops: tuple[Loop, ...]
    ) -> tuple[Body, list[View | None], list[Batch | None]]:
        """Plan a jaxpr: also give the views and the examples in its results."""
        first = len(self.sites)
        seen: dict[Any, View | None] = dict(zip(jaxpr.invars, views, strict=True))
        lying: dict[Any, Batch | None] = dict(zip(jaxpr.invars, batches, strict=True))

        def view(var: Any) -> View | None:
            return None if is_literal(var) else seen.get(var)

        def batch(var: Any) -> Batch | None:
            return None if is_literal(var) else lying.get(var)

        for var, theirs in zip(jaxpr.constvars, other.constvars, strict=True):
            lying[var] = self.sizes.of(shape_of(var), shape_of(theirs))
        steps = []
        if [e.primitive for e in jaxpr.eqns] != [e.primitive for e in other.eqns]:
            raise Mismatch
        for eqn, theirs in zip(jaxpr.eqns, other.eqns, strict=True):
            self.lines.append(internals.where(eqn) or self.lines[-1])
            own = [view(v) for v in eqn.invars]
            like = [batch(v) for v in eqn.invars]
            step, outs, lie = self._step(eqn, theirs, own, like, loops)
            self.lines.pop()
            steps.append(step)
            for var, v, b in zip(eqn.outvars, outs, lie, strict=True):
                seen[var], lying[var] = v, b
        body = Body(jaxpr, consts, steps, list(range(first, len(self.sites))))
        return body, [view(v) for v in jaxpr.outvars], [batch(v) for v in jaxpr.outvars]

    def _step(self, eqn: Any, theirs: Any, views: list, like: list, loops: tuple) -> tuple[Step, list, list]:
        """Plan one operation."""
        none = [None] * len(eqn.outvars)
        lie = [self.sizes.result(eqn, theirs, k, like) for k in range(len(eqn.outvars))]
        if not any(views) or eqn.primitive.name in ("stop_gradient", "while"):
            return Step(eqn), none, lie
        if eqn.primitive.name == "optimization_barrier":
            return Step(eqn), views, lie
        inside = self._inside(eqn, theirs, views, like, loops, lie)
        if inside is not None:
            return inside
        first = views[0]
        if first is not None and len(eqn.invars) == 1:
            layouts = through(eqn, first.layout)
            if layouts is not None:
                return Step(eqn), [View(first.root, own, first.stacks) for own in layouts], lie
        if not any(internals.differentiable(v.aval) for v in eqn.outvars):
            return Step(eqn), none, lie
        if not any(lie) and not any(loop.examples for loop in loops):
            return self._made(eqn, views, like, loops, none, lie)
        return self._used(eqn, views, like, loops, lie), none, lie

    def _used(self, eqn: Any, views: list, like: list, loops: tuple, lie: list) -> Step:
        """Plan a use: the operands that are broadcast to the examples have their zeros before it."""
        step = Step(eqn)
        left = {k: view for k, view in enumerate(views) if view is not None}
        name, out = eqn.primitive.name, eqn.outvars[0]
        elementwise, by_loop = name in internals.ELEMENTWISE, any(loop.examples for loop in loops)
        for k, view in sorted(left.items()):
            if name == "mul" and len(left) == 1 and internals.differentiable(out.aval):
                break
            shape, layout, batch = shape_of(eqn.invars[k]), view.layout, like[k]
            if elementwise and (lie[0] or by_loop):
                shape = shape_of(out)
                layout, batch = layout.to_shape(shape), lie[0]
            elif by_loop or batch is None:
                continue
            if batch is not None and layout.strides[batch.axis] != 0:
                continue
            zeros = ((shape, eqn.invars[k].aval.dtype),)
            own = View(view.root, layout, view.stacks)
            step.before[k] = self._site(Site("total", eqn, ((k, own),), loops, batch, zeros=zeros))
            del left[k]
        if not left:
            return step
        zeros = tuple(
            (shape_of(v), v.aval.dtype) if internals.differentiable(v.aval) else None for v in eqn.outvars
        )
        kind, record = kind_of(eqn, tuple(left), like, by_loop)
        if kind == "scale":
            left = {k: replace(v, layout=v.layout.to_shape(shape_of(out))) for k, v in left.items()}
        batch = next((b for b in lie if b), None)
        site = Site(kind, eqn, tuple(left.items()), loops, batch, record, tuple(like), zeros, tuple(lie))
        step.at = self._site(site)
        return step

    def _made(self, eqn: Any, views: list, like: list, loops: tuple, none: list, lie: list) -> Any:
        """Plan an operation on params alone: its results are roots of their own."""
        items = tuple((k, view) for k, view in enumerate(views) if view is not None)
        everything = tuple(range(len(eqn.invars)))
        site = self._site(Site("made", eqn, items, loops, None, everything, tuple(like)))
        outs = list(none)
        for k, var in enumerate(eqn.outvars):
            if internals.differentiable(var.aval):
                outs[k] = self._root(Root(shape_of(var), var.aval.dtype, loops, site, k))
        return Step(eqn, at=site), outs, lie

    def _inside(self, eqn: Any, theirs: Any, views: list, like: list, loops: tuple, lie: list) -> Any:
        """Plan an operation that runs others; None for any other, and where it is taken as one."""
        call = internals.called(eqn)
        if call is not None:
            jaxpr, consts = call
            other: Any = internals.called(theirs)  # of the same program
            body, outs, batches = self._body(jaxpr, other[0], consts, views, like, loops)
            return Step(eqn, bodies=(body,), how="call"), outs, batches
        cases = internals.branches(eqn)
        if cases is not None and views[0] is None:
            other = internals.branches(theirs)
            planned = [
                self._body(own.jaxpr, o.jaxpr, own.consts, views[1:], like[1:], loops)
                for own, o in zip(cases, other, strict=True)
            ]
            bodies = tuple(body for body, _, _ in planned)
            if all(out is None for _, outs, _ in planned for out in outs):
                return Step(eqn, bodies=bodies, how="cond"), [None] * len(eqn.outvars), lie
            self._forget(bodies)
            return None
        scan = internals.scanned(eqn)
        return None if scan is None else self._scan(eqn, theirs, scan, views, like, loops, lie)

    def _scan(
        self, eqn: Any, theirs: Any, scan: Any, views: list, like: list, loops: tuple, lie: list
    ) -> Any:
        """Plan a scan: params among its constants are shared by its steps, those among its inputs stacked."""
        other: Any = internals.scanned(theirs)  # of the same program
        self.loops += 1
        loop = Loop(self.loops, scan.length, scan.length != other.length)
        if loop.examples and (scan.length, other.length) != (self.sizes.n, self.sizes.other):
            got = f"{scan.length} steps for {self.sizes.n} examples in {self.lines[-1]}"
            raise InputError("fnn.function", "a step of a loop for each example", got, "jax.lax.map(f, x)")
        jaxpr, start = scan.body.jaxpr, scan.consts + scan.carry
        inside: list[View | None] = []
        for k, view in enumerate(views):
            if view is None or k < scan.consts:
                inside.append(view)
            elif k < start:  # carried: a param if it comes out as it went in
                same = jaxpr.outvars[k - scan.consts] is jaxpr.invars[k]
                inside.append(view if same else None)
                if not same:
                    return None
            else:
                stacks = ((loop, view.layout.strides[0]),)
                inside.append(View(view.root, view.layout.drop((0,)), (*view.stacks, *stacks)))
        batches = [
            self.sizes.of(shape_of(v), shape_of(o), like)
            for v, o in zip(jaxpr.invars, other.body.jaxpr.invars, strict=True)
        ]
        nested = (*loops, loop)
        body, outs, _ = self._body(jaxpr, other.body.jaxpr, scan.body.consts, inside, batches, nested)
        results: list[View | None] = [None] * len(eqn.outvars)
        for k, out in enumerate(outs):
            if out is None:
                continue
            if k < scan.carry and out == views[scan.consts + k]:
                results[k] = out
            elif not self._stacked(out, loop):
                self._forget((body,))
                return None
            else:
                stride = dict(out.stacks)[loop]
                own = out.layout
                layout = Layout((scan.length, *own.shape), (stride, *own.strides), own.offset)
                rest = tuple(s for s in out.stacks if s[0] != loop)
                results[k] = View(out.root, layout, rest)
                if k < scan.carry:
                    self._forget((body,))
                    return None
        return Step(eqn, bodies=(body,), how="scan", loop=loop), results, lie

    def _stacked(self, view: View, loop: Loop) -> bool:
        return loop in dict(view.stacks) and loop not in self.roots[view.root].loops

    def _forget(self, bodies: tuple[Body, ...]) -> None:
        """Take the sites of bodies, the last ones made, away again: their operation is taken as one."""
        first = min((body.sites[0] for body in bodies if body.sites), default=len(self.sites))
        del self.sites[first:]
        kept = [root for root in self.roots if root.site is None or root.site < first]
        del self.roots[len(kept) :]

    def _site(self, site: Site) -> int:
        self.sites.append(replace(site, where=self.lines[-1]))
        return len(self.sites) - 1

    def _root(self, root: Root) -> View:
        self.roots.append(root)
        shape = (*(loop.length for loop in root.loops), *root.shape)
        layout = whole(shape)
        count = len(root.loops)
        stacks = tuple(zip(root.loops, layout.strides[:count], strict=True))
        return View(len(self.roots) - 1, Layout(root.shape, layout.strides[count:]), stacks)
