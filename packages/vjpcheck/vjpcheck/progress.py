"""What a check has found so far; the checks add to it, cheapest first."""

from dataclasses import dataclass, field

from vjpcheck.report import Finding, Leaf, Mistake, Report, Verdict


@dataclass
class Progress:
    """A report in the making.

    Args:
        notes: remarks.
        findings: what the checks found.
        mistakes: the mistakes by name, the likeliest first.
        leaves: the judgement of every leaf.
        checks: the names of the checks that ran.
        details: lines about what is wrong.
        where: the operation of the forward pass that the error begins at, or "".
    """

    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    where: str = ""

    @property
    def failed(self) -> bool:
        """Whether anything is wrong already."""
        return any(x.verdict is Verdict.FAIL for x in [*self.findings, *self.leaves])

    def fail(self, check: str, text: str, mistake: str = "", leaf: str = "", probe: str = "") -> None:
        """Add a failure, and a mistake where the failure itself is one.

        Args:
            check: the name of the check that failed.
            text: what it found.
            mistake: the name of the mistake, or "" to add none.
            leaf: the name of the leaf that it looked at, or "".
            probe: what was special about the inputs, or "" for those given.
        """
        self.findings.append(Finding(check, Verdict.FAIL, text, leaf, probe))
        if mistake:
            self.mistakes.append(Mistake(mistake, text))

    def report(self, subject: str, seconds: float) -> Report:
        """Return what was found as a `Report`.

        Args:
            subject: the name of what was checked.
            seconds: how long it took.
        """
        return Report(
            subject, tuple(self.findings), tuple(self.leaves), tuple(self.mistakes), self.where,
            tuple(self.details), tuple(self.notes), tuple(self.checks), seconds,
        )  # fmt: skip
