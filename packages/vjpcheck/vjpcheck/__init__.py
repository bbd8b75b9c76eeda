"""A gradient checker that names the mistake."""

from vjpcheck.catalogue import MISTAKES as MISTAKES
from vjpcheck.checker import gradient as gradient
from vjpcheck.checker import pair as pair
from vjpcheck.report import Finding as Finding
from vjpcheck.report import GradientError as GradientError
from vjpcheck.report import Leaf as Leaf
from vjpcheck.report import Mistake as Mistake
from vjpcheck.report import Report as Report
from vjpcheck.report import Verdict as Verdict

__version__ = "0.1.0"
__all__ = ["MISTAKES", "Finding", "GradientError", "Leaf", "Mistake", "Report", "Verdict", "gradient", "pair"]
