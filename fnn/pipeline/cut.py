"""A network cut into the stages of a pipeline: what is before its `Repeat`, the shares of that, the rest."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax

from fnn.compose.checks import key_of
from fnn.compose.loop import Loop
from fnn.compose.repeat import Repeat
from fnn.compose.serial import Serial
from fnn.core import Layer
from fnn.errors import InputError
from fnn.losses.objective import Objective


class Shares(NamedTuple):
    """Params, or a tree that begins like them, as the stages have them.

    Args:
        first: those of the layers before the `Repeat`, on every stage.
        body: those of the `Repeat`, (n, ...), cut along that axis.
        last: those of the layers behind it, on every stage.
        loss: the loss's own, on every stage.
    """

    first: Any
    body: Any
    last: Any
    loss: Any


@dataclass(frozen=True)
class Cut:
    """A network in stages.

    Args:
        net: the network, a chain with one `Repeat`, or a `Repeat`.
        loss: the loss.
        number: the number of the `Repeat` in the chain.
        repeat: the `Repeat`.
        stages: the number of stages.
    """

    net: Layer
    loss: Objective
    number: int
    repeat: Repeat
    stages: int

    @property
    def chain(self) -> Serial:
        """The network as a chain."""
        return self.net if isinstance(self.net, Serial) else Serial(self.net)

    @property
    def first(self) -> Serial:
        """The layers before the `Repeat`."""
        return self.chain.stretch(0, self.number)

    @property
    def body(self) -> Loop:
        """The loop of one stage."""
        return replace(self.repeat.uses, n=self.repeat.uses.n // self.stages)

    @property
    def last(self) -> Serial:
        """The layers behind the `Repeat`."""
        return self.chain.stretch(self.number + 1, len(self.chain.layers))

    def split(self, tree: Any) -> Shares:
        """Return the shares of params, or of a tree that begins like them."""
        of_net, of_loss = self.loss.split(tree)
        shares = self.net.shares(of_net) if isinstance(self.net, Serial) else (of_net,)
        return Shares(shares[: self.number], shares[self.number], shares[self.number + 1 :], of_loss)

    def merge(self, shares: Shares, params: Any) -> Any:
        """Undo `split`.

        Args:
            shares: the shares.
            params: the params, for the structure.
        """
        of_net = shares.body
        if isinstance(self.net, Serial):
            whole = (*shares.first, shares.body, *shares.last)
            of_net = self.net.gathered(whole, self.loss.split(params)[0])
        return self.loss.merge(of_net, shares.loss)

    def stretched(self, body: Any) -> Any:
        """Return the params of a stage, (n / stages, ...), as its loop takes them; `flat` undoes it."""
        every = self.repeat.every
        if every == 1:
            return body
        return jax.tree.map(lambda leaf: leaf.reshape(-1, every, *leaf.shape[1:]), body)

    def flat(self, body: Any) -> Any:
        """Undo `stretched`."""
        if self.repeat.every == 1:
            return body
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), body)

    def keys(self, key: Any, stage: Any) -> Any:
        """Return the keys of a stage's loop, or None: those that the network's `Repeat` would draw.

        Args:
            key: the key of the network, or None.
            stage: the number of the stage.
        """
        if key is None:
            return None
        own = key_of(key, self.number) if isinstance(self.net, Serial) else key
        keys = self.stretched(jax.random.split(own, self.repeat.n))
        count = self.body.n
        return jax.lax.dynamic_slice_in_dim(keys, stage * count, count)


def cut(net: Layer, loss: Objective, stages: int) -> Cut:
    """Cut a network into stages.

    Args:
        net: the network.
        loss: the loss.
        stages: the number of stages.

    Raises:
        InputError: where it is no chain with one `Repeat` of own params, or the stages do not divide that.
    """
    layers = net.layers if isinstance(net, Serial) else (net,)
    found = [(i, layer) for i, layer in enumerate(layers) if isinstance(layer, Repeat) and not layer.shared]
    if len(found) != 1:
        wanted = "a chain with one Repeat, whose params are not shared"
        fix = f"fnn.Serial(fnn.Dense(4), fnn.Repeat(fnn.Dense(4), {2 * stages}), fnn.Dense(2))"
        raise InputError("pipeline", wanted, f"{len(found)} in {net!r}", fix)
    ((number, repeat),) = found
    if repeat.uses.n % stages:
        wanted = f"n / every, here {repeat.uses.n}, to be a multiple of the {stages} stages"
        fix = f"fnn.Repeat(fnn.Dense(4), n={-(-repeat.n // stages) * stages})"
        raise InputError("pipeline", wanted, repr(repeat), fix)
    return Cut(net, loss, number, repeat, stages)
