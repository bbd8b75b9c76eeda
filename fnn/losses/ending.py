"""How a head with a tied weight ends a network: alone, or as one loss of a sum."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fnn.reading import Reading

if TYPE_CHECKING:
    from fnn.losses.combined import Combined
    from fnn.losses.linear import LinearCrossEntropy


class End(Protocol):
    """How a head ends a network: alone, or in a sum of losses."""

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Return the network's and the head's own part of params, or of a tree that begins like them."""
        ...

    def entries(self, y: Any, target: Any, weights: Any) -> tuple[Any, Any, Any]:
        """Return the head's outputs, targets and weights.

        Args:
            y: the outputs of the network.
            target: the targets of all losses.
            weights: the weights of all losses, or None.
        """
        ...

    def ended(self, value: Any, dy: Any) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
        """Return the value and the gradient by all outputs, and what merges the readings of net and head.

        Args:
            value: the head's value.
            dy: the head's gradient by its outputs.
        """
        ...


@dataclass(frozen=True)
class Alone:
    """A head that is the only loss.

    Args:
        head: the head.
    """

    head: "LinearCrossEntropy"

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Take the pair apart."""
        return self.head.split(tree)

    def entries(self, y: Any, target: Any, weights: Any) -> tuple[Any, Any, Any]:
        """Return all. Args: `y`, `target`, `weights`, as for `End`."""
        return y, target, weights

    def ended(self, value: Any, dy: Any) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
        """Return what the head gives. Args: `value`, `dy`, as for `End`."""
        return value, dy, self.head.merge


@dataclass(frozen=True)
class InSum:
    """A head that is one loss of a sum.

    Args:
        loss: the sum.
        i: the number of the head in it.
        params: those of the network and of all losses.
        target: the targets of all losses.
        weights: the weights of all losses, or None.
        read: the reading of all params.
        scale: a number that the gradients are multiplied by, or None.
        y: the outputs of the network.
    """

    loss: "Combined"
    i: int
    params: Any
    target: Any
    weights: Any
    read: Reading
    scale: Any
    y: Any

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Return the network's and the head's own part."""
        of_net, of_losses = self.loss.split(tree)
        return of_net, self.loss._own(of_losses, self.i)

    def entries(self, y: Any, target: Any, weights: Any) -> tuple[Any, Any, Any]:
        """Return the head's entries. Args: `y`, `target`, `weights`, as for `End`."""
        return self.loss._entries(self.i, y, target, weights)

    def ended(self, value: Any, dy: Any) -> tuple[Any, Any, Callable[[Any, Any], Any]]:
        """Run the other losses, and add up. Args: `value`, `dy`, as for `End`."""
        loss, own = self.loss, self.loss.split(self.params)[1]
        of_losses = self.read.mapped(lambda tree: loss.split(tree)[1])
        found = [
            (value, dy, ()) if i == self.i else
            loss._pull_one(i, own, self.y, self.target, self.weights, of_losses, self.scale)
            for i in range(len(loss.terms))
        ]  # fmt: skip
        value, dy, _ = loss._joined(self.y, found)

        def merge(of_net: Any, of_head: Any) -> Any:
            readings = [of_head if i == self.i else r for i, (_, _, r) in enumerate(found)]
            return loss.merge(of_net, loss._of_losses(readings))

        return value, dy, merge
