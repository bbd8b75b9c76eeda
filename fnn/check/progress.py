"""What a check has found so far; the checks add to it, cheapest first."""

from dataclasses import dataclass, field

from fnn.check.report import Finding, Leaf, Mistake, Report, Verdict


@dataclass
class Progress:
    """A report in the making."""

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
        """Add a failure, and its name where the failure itself is the mistake."""
        self.findings.append(Finding(check, Verdict.FAIL, text, leaf, probe))
        if mistake:
            self.mistakes.append(Mistake(mistake, text))

    def report(self, subject: str, seconds: float) -> Report:
        """Close it."""
        return Report(
            subject, tuple(self.findings), tuple(self.leaves), tuple(self.mistakes), self.where,
            tuple(self.details), tuple(self.notes), tuple(self.checks), seconds,
        )  # fmt: skip
