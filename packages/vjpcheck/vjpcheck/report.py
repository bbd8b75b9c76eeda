"""What a check says: findings, leaves, the mistake by name, and one verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from vjpcheck.catalogue import MISTAKES


class Verdict(StrEnum):
    """PASS: right to the accuracy of the dtype; FAIL: wrong; INCONCLUSIVE: it cannot be told from here.

    >>> Verdict.FAIL == "FAIL"
    True
    """

    PASS = "PASS"
    INCONCLUSIVE = "INCONCLUSIVE"
    FAIL = "FAIL"


class GradientError(AssertionError):
    """A backward pass is wrong; `report` says how.

    Args:
        report: the report, whose text is the error's.

    >>> GradientError(Report("double")).report.subject
    'double'
    """

    def __init__(self, report: "Report"):
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True)
class Finding:
    """What one check found at one place.

    Args:
        check: the name of the check.
        verdict: PASS, FAIL or INCONCLUSIVE.
        text: what it found, in words.
        leaf: the leaf that it looked at, or "".
        probe: what was special about the inputs, or "" for those given.

    >>> print(Finding("linearity", Verdict.FAIL, "it does not scale", "x", "inputs zero"))
    linearity (inputs zero): it does not scale
    """

    check: str
    verdict: Verdict
    text: str
    leaf: str = ""
    probe: str = ""

    def __str__(self) -> str:
        place = f" ({self.probe})" if self.probe else ""
        return f"{self.check}{place}: {self.text}"


@dataclass(frozen=True)
class Leaf:
    """One gradient beside its reference.

    Args:
        name: the name of the leaf, such as `params['w']`.
        verdict: PASS, FAIL or INCONCLUSIVE.
        error: the largest error, relative to the reference's largest element.
        tolerance: what rounding allows, relative likewise.
        ratio: the length of what was given over that of the reference, negative where they point apart.
        angle: the angle between the two, in degrees.
        probe: what was special about the inputs, or "" for those given.

    >>> Leaf("x", Verdict.FAIL, error=2.0, tolerance=1e-6, ratio=-1.0, angle=180.0).verdict.name
    'FAIL'
    """

    name: str
    verdict: Verdict
    error: float
    tolerance: float
    ratio: float
    angle: float
    probe: str = ""


@dataclass(frozen=True)
class Mistake:
    """A mistake that reproduces the wrong gradient.

    Args:
        name: its name, as in the catalogue.
        words: what it did.
        where: the line of the forward pass, or "".
        leaves: the names of the leaves whose gradients it explains.
        error: how far its gradient is from the one given, relative; NaN where none were compared.
        fresh: the same on inputs drawn afterwards.

    >>> Mistake("sign", "the opposite sign", leaves=("x",)).meaning
    'The gradient, or one path of it, has the opposite sign.'
    """

    name: str
    words: str
    where: str = ""
    leaves: tuple[str, ...] = ()  # whose gradients it explains
    error: float = float("nan")
    fresh: float = float("nan")

    @property
    def meaning(self) -> str:
        """What mistakes of this name have in common, as the catalogue says it."""
        return MISTAKES[self.name]


@dataclass(frozen=True)
class Report:
    """The outcome of a check; `print(report)` reads well, `report.raise_if_failed()` is for tests.

    Args:
        subject: the name of what was checked.
        findings: what the checks found.
        leaves: every gradient beside its reference.
        mistakes: what explains the wrong ones, the likeliest first.
        where: the layer in a report of `layers`, else the operation that the error begins at, or "".
        details: lines about what is wrong.
        notes: remarks.
        checks: the names of the checks that ran.
        seconds: how long it took.

    >>> Report("double").verdict.name, Report("double").mistake
    ('PASS', '')
    """

    subject: str
    findings: tuple[Finding, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    where: str = ""
    details: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """FAIL if anything is wrong, INCONCLUSIVE if a leaf could not be judged at the given input, else
        PASS.
        """
        verdicts = {f.verdict for f in self.findings} | {leaf.verdict for leaf in self.leaves}
        order = (Verdict.FAIL, Verdict.INCONCLUSIVE)
        return next((v for v in order if v in verdicts), Verdict.PASS)

    @property
    def mistake(self) -> str:
        """The name of the likeliest mistake, or an empty string where none reproduces what was given."""
        return self.mistakes[0].name if self.mistakes else ""

    def raise_if_failed(self, inconclusive: bool = False) -> "Report":
        """Return the report, or raise.

        Args:
            inconclusive: whether to raise on INCONCLUSIVE too.

        Raises:
            GradientError: on FAIL, and on INCONCLUSIVE where that is asked for.
        """
        if self.verdict is Verdict.FAIL or (inconclusive and self.verdict is Verdict.INCONCLUSIVE):
            raise GradientError(self)
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dict of plain values, ready for `json.dumps`."""
        return {"verdict": str(self.verdict), "mistake": self.mistake, **_plain(asdict(self))}

    def __str__(self) -> str:
        lines = [f"{self.verdict}  {self.subject}"]
        wrong = {leaf.name for leaf in self.leaves if leaf.verdict is Verdict.FAIL}
        lines += [line for m in self.mistakes for line in _mistake_lines(m, wrong)]
        if self.where:
            lines.append(f"  where    {self.where}")
        lines += [f"  detail   {text}" for text in self.details]
        lines += [f"  found    {f}" for f in self.findings if f.verdict is Verdict.FAIL][:8]
        if self.verdict is not Verdict.PASS:
            lines += _table(self.leaves)
        lines += [f"  unsure   {f}" for f in self.findings if f.verdict is Verdict.INCONCLUSIVE]
        lines += [f"  note     {text}" for text in self.notes]
        lines.append(f"  checked  {', '.join(self.checks)} in {self.seconds:.2g} s")
        return "\n".join(lines)


def _mistake_lines(mistake: Mistake, wrong: set[str]) -> list[str]:
    lines = [f"  mistake  {mistake.name}: {mistake.words}"]
    if mistake.where:
        lines.append(f"           at {mistake.where}")
    if mistake.leaves and not wrong <= set(mistake.leaves):
        lines.append(f"           explains {', '.join(mistake.leaves)}, not all that is wrong")
    if mistake.error == mistake.error:
        fresh = f", on fresh inputs to {mistake.fresh:.0e}" if mistake.fresh == mistake.fresh else ""
        lines.append(f"           reproduces the gradient to {mistake.error:.0e}{fresh}")
    return lines


def _table(leaves: Sequence[Leaf]) -> list[str]:
    rows = [("leaf", "verdict", "error", "allowed", "ratio", "angle")]
    for leaf in leaves:
        numbers = (f"{leaf.error:.1e}", f"{leaf.tolerance:.1e}", f"{leaf.ratio:.4g}", f"{leaf.angle:.3g}")
        rows.append((leaf.name, str(leaf.verdict), *numbers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return str(value)  # JSON has no NaN
    return str(value) if isinstance(value, StrEnum) else value
