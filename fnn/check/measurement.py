"""What was given and what is right, on one set of arguments."""

from dataclasses import dataclass
from typing import Any

from fnn.check.arguments import Arguments
from fnn.check.reference import Arrays


@dataclass(frozen=True)
class Measurement:
    """What the subject gave and what is right, on one set of arguments; gradients are stacked over
    cotangents.
    """

    arguments: Arguments
    dys: list[Any]
    outputs: Arrays
    right_outputs: Arrays
    grads: Arrays
    right: Arrays

    @property
    def pair(self) -> list[Any]:
        """The two random cotangents, on which everything is compared."""
        return [d[:2] for d in self.dys]
