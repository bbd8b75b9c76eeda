"""The gradient checker, which names the mistake: `vjpcheck`, and a walk through the layers of a network.

Not imported by `import fnn`: it needs the extra `fnn[check]`.
"""

try:
    from vjpcheck import MISTAKES as MISTAKES
    from vjpcheck import Finding as Finding
    from vjpcheck import GradientError as GradientError
    from vjpcheck import Leaf as Leaf
    from vjpcheck import Mistake as Mistake
    from vjpcheck import Report as Report
    from vjpcheck import Verdict as Verdict
    from vjpcheck import gradient as gradient
    from vjpcheck import pair as pair
except ModuleNotFoundError as error:
    if error.name != "vjpcheck":
        raise
    raise ImportError(
        "fnn.check: expected the package vjpcheck, got none: try `pip install 'fnn[check]'`", name="vjpcheck"
    ) from None

from fnn.check.layers import layers as layers
