"""One subject at one set of shapes, compiled: run it beside its reference and compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck import algebra, kinks
from vjpcheck.arguments import Arguments
from vjpcheck.arguments import exact as exactly
from vjpcheck.attempt import Budget
from vjpcheck.jaxprs import RULED, every
from vjpcheck.judge import SAFETY, Margin, exact_margin, judge, margin, worst
from vjpcheck.measurement import Measurement as Measurement
from vjpcheck.reference import Arrays, Reference, Trace, narrowest, wide_rule
from vjpcheck.report import Finding, Leaf, Verdict
from vjpcheck.roughness import KINKED
from vjpcheck.subject import Subject

SHRUNK = 1e-5  # of an error in the working precision: what is left of it in float64 if it was rounding
SAMPLES = 3  # of rounding errors, for a second opinion


@dataclass(frozen=True)
class Bench:
    """A subject beside its reference at the shapes of a trace, each compiled when it is first run.

    Args:
        subject: the pair that is checked.
        traced: the trace of the function whose gradient is right: the surrogate, or else the primal.
        reference: the right outputs and gradients of that trace.
        run: the subject, compiled: `run(leaves, dys)` returns its outputs and its gradients.
        budget: the seconds of the check.
        outputs: the reference of the primal, where a surrogate is traced, or None.
    """

    subject: Subject
    traced: Trace
    reference: Reference
    run: Callable[..., tuple[Arrays, Arrays]]
    budget: Budget
    outputs: Reference | None = None  # of the primal, where the backward is that of a surrogate

    @property
    def names(self) -> list[str]:
        """The names of the leaves that have a gradient."""
        return [self.traced.arguments.names[i] for i in self.traced.arguments.active]

    @property
    def dtypes(self) -> list[Any]:
        """Their dtypes."""
        return [self.traced.arguments.leaves[i].dtype for i in self.traced.arguments.active]

    @cached_property
    def has_kinks(self) -> bool:
        """Whether the primal has an operation with a kink or a jump."""
        return any(q.primitive.name in KINKED for q in every(self.traced.jaxpr.jaxpr))

    @cached_property
    def has_rules(self) -> bool:
        """Whether the gradient is declared by a rule, and not by a function alone."""
        return self.traced.ruled and any(q.primitive.name in RULED for q in every(self.traced.jaxpr.jaxpr))

    @cached_property
    def exact(self) -> Callable[[Sequence[Any], Sequence[Any]], Arrays] | None:
        """The rule in float64, or None where it cannot be traced."""
        arguments = self.traced.arguments
        dys = self.cotangents(np.random.default_rng(0))
        return wide_rule(self.subject.rule(arguments), arguments, dys) if self.subject.traceable else None

    @cached_property
    def _roughly(self) -> Sequence[Callable[..., Arrays] | None]:
        """The rule, and what its forward gives, in float64 with the rounding errors of their dtypes."""
        arguments, subject = self.traced.arguments, self.subject
        dys = self.cotangents(np.random.default_rng(0))
        if not subject.traceable:
            return None, None
        return [wide_rule(r(arguments), arguments, dys, rough=True) for r in (subject.rule, subject.outputs)]

    @cached_property
    def is_narrow(self) -> bool:
        """Whether the rule computes in a narrower dtype than anything in the primal and its arguments."""
        shapes = [self.traced.shapes[i] for i in self.traced.outputs]
        dy = [jax.ShapeDtypeStruct(s.shape, s.dtype) for s in shapes]
        rule = jax.make_jaxpr(self.subject.rule(self.traced.arguments))(self.traced.arguments.leaves, dy)
        eps = [float(jnp.finfo(d).eps) for d in self.dtypes]
        return narrowest(rule.jaxpr) > max(narrowest(self.traced.jaxpr.jaxpr), *eps)

    def cotangents(self, rng: np.random.Generator) -> list[Any]:
        """Draw cotangents at random, stacked as `algebra.stack` says."""
        return algebra.stack([self.traced.shapes[i] for i in self.traced.outputs], rng)

    def measure(self, arguments: Arguments, dys: list[Any]) -> Measurement:
        """Run the subject on all cotangents, and the reference on the first two.

        Args:
            arguments: the arguments, of the shapes of the trace.
            dys: the cotangents of each floating output, (5, ...).
        """
        outputs, grads = self.run(arguments.leaves, dys)
        pair = [d[:2] for d in dys]
        right_outputs, right = self.reference.wide(arguments.leaves, pair)
        if self.outputs is not None:
            right_outputs, _ = self.outputs.wide(arguments.leaves, [d[:0] for d in pair])
        return Measurement(arguments, dys, outputs, right_outputs, grads, right)

    def leaves(self, m: Measurement, probe: str = "") -> list[Leaf]:
        """Judge every leaf.

        Beside autodiff's own error first; what fails there is run again in float64, and is wrong if it is
        wrong there too, or if the rule computes in a narrower dtype than the primal; where rounding alone
        takes more than half of the digits the leaf is INCONCLUSIVE.

        Args:
            m: what was measured.
            probe: what was special about the inputs, or "" for those given.
        """
        if probe and all(self._close(i, m) for i in range(len(m.right))):
            return [self._judge(i, m, [], probe) for i in range(len(m.right))]
        _, working = self.reference.working(m.arguments.leaves, m.pair)
        judged = [self._judge(i, m, [w], probe) for i, w in enumerate(working)]
        failed = [i for i, leaf in enumerate(judged) if leaf.verdict is Verdict.FAIL]
        if not failed:
            return judged
        sides = kinks.sides(self.reference, m, made_up=bool(probe)) if self.has_kinks else []
        slack = kinks.slack(m, sides)
        exact = self.exact(m.arguments.leaves, m.dys) if self.exact else None
        rough: list[tuple[Arrays, Arrays]] = []
        for i in failed:
            if exact is not None and self._is_wrong(i, m, exact[i], slack[i], []):
                # at inputs that nobody gave a rule may round as it likes: large logits do
                own = self._own_rounding(m, exact) if probe else []
                if not own or self._is_wrong(i, m, exact[i], slack[i], [m.right[i] + r[i] for r in own]):
                    continue
            if exact is not None and sides and not probe and kinks.breaks_a_sum(i, m, exact[i], sides):
                continue
            rough = rough or self._rough(m)
            second = self._judge(i, m, [working[i], *(r[1][i] for r in rough)], probe, slack[i])
            if exact is not None and not self.is_narrow and np.all(np.isfinite(m.grads[i][:2])):
                half = float(np.sqrt(float(jnp.finfo(self.dtypes[i]).eps)))
                if second.error <= half:
                    second = replace(second, verdict=Verdict.PASS, tolerance=half)
                elif second.verdict is Verdict.FAIL:
                    second = replace(second, verdict=Verdict.INCONCLUSIVE)
            judged[i] = second
        return judged

    def _close(self, i: int, m: Measurement) -> bool:
        return all(self._leaf(i, m, c, [], "", 0.0).verdict is Verdict.PASS for c in range(2))

    def _rough(self, m: Measurement) -> list[tuple[Arrays, Arrays]]:
        """Return the right outputs and gradients with rounding errors drawn at random, some times over."""
        return [self.reference.rough(m.arguments.leaves, m.pair, s) for s in range(SAMPLES)]

    def _own_rounding(self, m: Measurement, exact: Arrays) -> list[Arrays]:
        """Return how far rounding errors of its dtypes move the gradients of the rule, some times over."""
        rule = self._roughly[0]
        if rule is None:
            return []
        runs = [rule(m.arguments.leaves, m.pair, s) for s in range(SAMPLES)]
        return [[r - e[:2] for r, e in zip(run, exact, strict=True)] for run in runs]

    def _rounds_itself(self, i: int, m: Measurement, got: np.ndarray, right: np.ndarray) -> bool:
        """Whether rounding alone moves an output of the forward rule as far as it is off."""
        outputs = self._roughly[1]
        if outputs is None or not np.all(np.isfinite(got)):
            return False
        runs = [outputs(m.arguments.leaves, [d[:1] for d in m.dys], s)[i][0] for s in range(SAMPLES)]
        return float(np.max(np.abs(got - right))) <= SAFETY * max(
            float(np.max(np.abs(r - right))) for r in runs
        )

    def _is_wrong(
        self, i: int, m: Measurement, exact: np.ndarray, slack: Any, others: Sequence[np.ndarray]
    ) -> bool:
        if np.max(np.abs(exact[:2] - m.right[i])) <= SHRUNK * np.max(np.abs(m.grads[i][:2] - m.right[i])):
            return False  # a formula stays as wrong as it is in any precision, rounding does not
        name, dtype = self.names[i], self.dtypes[i]
        # where all is zero there is nothing to measure the rounding of constants by, but the cotangent
        unit = 1e-12 if np.any(m.right[i]) else SAFETY * float(jnp.finfo(dtype).eps)
        floor = unit * max(float(np.max(np.abs(d[:2]), initial=0.0)) for d in m.dys)
        if others:
            floor = max(floor, SAFETY * max(float(np.max(np.abs(o - m.right[i]))) for o in others))
        allowed = [exact_margin(m.right[i][c], dtype, floor, _at(slack, c)) for c in range(2)]
        return any(
            judge(name, exact[c], m.right[i][c], allowed[c], dtype).verdict is Verdict.FAIL for c in range(2)
        )

    def _judge(
        self, i: int, m: Measurement, others: Sequence[np.ndarray], probe: str, slack: Any = 0.0
    ) -> Leaf:
        return worst([self._leaf(i, m, c, others, probe, slack) for c in range(2)])

    def _leaf(
        self, i: int, m: Measurement, c: int, others: Sequence[np.ndarray], probe: str, slack: Any
    ) -> Leaf:
        right, dtype = m.right[i][c], self.dtypes[i]
        allowed = margin(right, [o[c] for o in others], dtype, _at(slack, c))
        return judge(self.names[i], m.grads[i][c], right, allowed, dtype, probe)

    def linearity(self, m: Measurement) -> list[Finding]:
        """Test the rule's algebra, and again in float64 what rounding could explain.

        A surrogate with rules of its own may be anything, and is not asked to be linear.
        """
        if self.has_rules:
            return []
        found = algebra.linearity(self.names, m.grads, self.dtypes, self.tolerances(m))
        if not found or self.exact is None:
            return found
        dys = [algebra.combine(exactly(d[0]), exactly(d[1])) for d in m.dys]
        grads = self.exact(m.arguments.leaves, dys)
        size = 1e-9 * max(float(np.max(np.abs(g[:2]), initial=0)) for g in [*grads, *dys])
        dtypes = [np.dtype(np.float64)] * len(grads)
        return algebra.linearity(self.names, grads, dtypes, [size] * len(grads))

    def forward(self, m: Measurement, probe: str = "") -> list[Finding]:
        """Compare the forward rule's outputs with the primal's. Args: `m` and `probe`, as for `leaves`."""
        findings = []
        for i, (got, right) in enumerate(zip(m.outputs, m.right_outputs, strict=True)):
            dtype = self.traced.shapes[self.traced.outputs[i]].dtype
            leaf = judge(f"output {i}", got, right, margin(right, [], dtype), dtype)
            if leaf.verdict is not Verdict.FAIL:
                continue
            reference = self.outputs or self.reference
            others = [reference.working(m.arguments.leaves, m.pair)[0][i]]
            leaf = judge(leaf.name, got, right, Margin(margin(right, others, dtype).tolerance), dtype)
            rounding = probe and not self.is_narrow
            if leaf.verdict is Verdict.FAIL and not (rounding and self._rounds_itself(i, m, got, right)):
                text = f"the forward rule's output is off by {leaf.error:.1e}, the primal's by rounding alone"
                findings.append(Finding("forward", Verdict.FAIL, text, leaf.name, probe))
        return findings

    def tolerances(self, m: Measurement) -> list[float]:
        """Return the absolute tolerance of each leaf on a measurement."""
        _, working = self.reference.working(m.arguments.leaves, m.pair)
        return [
            max(margin(r[c], [w[c]], d).tolerance for c in range(2))
            for r, w, d in zip(m.right, working, self.dtypes, strict=True)
        ]


def _at(slack: Any, c: int) -> Any:
    return slack[c] if isinstance(slack, np.ndarray) else slack
