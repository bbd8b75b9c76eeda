"""What all explanations have in common: a name, and the gradients that the mistake would give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from vjpcheck.bench import Bench, Measurement
from vjpcheck.diagnose.backward import Named

Arrays = list[np.ndarray]
_COARSEST = 1e-4  # a narrow dtype rounds constants, not what is computed in float64


@dataclass(frozen=True)
class Evidence:
    """One measurement as the diagnosis reads it: what was `given` and what is `right`, stacked over two
    cotangents.

    Args: `bench`, the subject and the reference, compiled; `measurement`, what was measured; `given`, the
    rule's gradients, in float64 where they can be had; `right`, the reference's; `tolerance`, up to which two
    are the same, relative.
    """

    bench: Bench
    measurement: Measurement
    given: Arrays
    right: Arrays
    tolerance: float

    def matches(self, i: int, predicted: np.ndarray) -> bool:
        """Whether a prediction is what was given for leaf `i`.

        Args: `i`, the number of the leaf; `predicted`, its gradient, (2, ...).
        """
        return self.distance(i, predicted) <= self.tolerance

    def distance(self, i: int, predicted: np.ndarray) -> float:
        """How far a prediction is from what was given, relative to the larger of given and right.

        Args: `i`, the number of the leaf; `predicted`, its gradient, (2, ...).
        """
        given, right = self.given[i], self.right[i]
        if predicted.shape != given.shape or not np.all(np.isfinite(predicted)):
            return float("inf")
        size = max(np.max(np.abs(given), initial=0.0), np.max(np.abs(right), initial=0.0), 1e-300)
        return float(np.max(np.abs(given - predicted), initial=0.0) / size)


@dataclass(frozen=True)
class Hypothesis(Named):
    """A mistake: `predict` gives the gradients that it would lead to on any evidence, None for a leaf it
    says nothing of.

    Args: `name`, `words`, `less`, as for `Named`; `predict`, the gradients on any evidence; `where`, the line
    of the forward pass, or nothing; `anywhere`, whether it can predict for other shapes too.
    """

    predict: Callable[[Evidence], Sequence[np.ndarray]]
    where: str = ""
    anywhere: bool = True  # whether it can predict for other shapes too


def mixed(zero: Arrays, one: Arrays, t: float) -> Arrays:
    """Return what lies on the line through two gradients: the first at 0, the second at 1.

    Args: `zero`, the first; `one`, the second; `t`, the place on the line.
    """
    return [a + t * (b - a) for a, b in zip(zero, one, strict=True)]


def apart(a: Arrays, b: Arrays, members: Sequence[int]) -> np.ndarray:
    """Return the difference of two gradients on some leaves, as one vector.

    Args: `a`, the gradients; `b`, those taken off; `members`, the numbers of the leaves.
    """
    return np.concatenate([(a[i] - b[i]).ravel() for i in members])


def evidence(bench: Bench, m: Measurement) -> Evidence:
    """Take the rule's gradients in float64 where they can be had, so that rounding hides nothing.

    Args: `bench`, the subject and the reference, compiled; `m`, what was measured.
    """
    given = bench.exact(m.arguments.leaves, m.dys) if bench.exact else m.grads
    given = [g[:2] for g in given]
    eps = max(float(jnp.finfo(d).eps) for d in bench.dtypes)
    return Evidence(bench, m, given, m.right, 64 * min(eps, _COARSEST))
