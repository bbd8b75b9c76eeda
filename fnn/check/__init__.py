"""A gradient checker that names the mistake."""

from fnn.check.checker import gradient as gradient
from fnn.check.checker import pair as pair
from fnn.check.layers import layers as layers
from fnn.check.report import Finding as Finding
from fnn.check.report import GradientError as GradientError
from fnn.check.report import Leaf as Leaf
from fnn.check.report import Mistake as Mistake
from fnn.check.report import Report as Report
from fnn.check.report import Verdict as Verdict
