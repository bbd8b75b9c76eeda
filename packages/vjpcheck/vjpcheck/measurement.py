"""What was given and what is right, on one set of arguments."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpcheck.arguments import Arguments, exact
from vjpcheck.reference import Arrays


@dataclass(frozen=True)
class Measurement:
    """What the subject gave and what is right, on one set of arguments.

    Args:
        arguments: the arguments.
        dys: the cotangents of each floating output, stacked as in `algebra.stack`, (5, ...).
        outputs: the floating outputs of the forward rule.
        right_outputs: those of the primal, in float64.
        grads: the subject's gradients of each active leaf, for all cotangents, (5, ...).
        right: the reference's, for the first two, (2, ...).
    """

    arguments: Arguments
    dys: list[Any]
    outputs: Arrays
    right_outputs: Arrays
    grads: Arrays
    right: Arrays

    def value(self, i: int) -> np.ndarray:
        """Return the value of an active leaf in float64; `i` is its place among them."""
        return exact(self.arguments.leaves[self.arguments.active[i]])

    @property
    def pair(self) -> list[Any]:
        """The two random cotangents, on which everything is compared."""
        return [d[:2] for d in self.dys]
