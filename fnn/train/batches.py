"""Batches out of arrays in memory, and what takes any batches to the devices ahead of the step."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from fnn.errors import InputError, describe


@dataclass
class Batches:
    """Batches of arrays in memory, in a new order each epoch; iterating goes on where it stood.

    The order follows from the seed and the epoch alone, on every machine. `get_state` and `set_state` are
    those of grain's iterators, so that a run resumes at the batch where it stopped.

    Args:
        data: the arrays (n, ...) of a batch: `(x, target)`, or any pytree of NumPy or JAX arrays.
        size: the number of examples of a batch. An epoch leaves out the few that do not fill one.
        seed: the seed of the order; None for the order of the data.
        epochs: the number of epochs, None for no end.
        sampling: a probability, for private steps: each batch draws every example with it, by itself (Poisson
            sampling), and is padded to `size`; a mask (n,) of the examples drawn is its last entry.
        share: `(i, processes)`, which part of every batch this process feeds: its rows from i / processes on.
        position: the number of batches taken; `_order`, of an epoch and its order, is found anew.

    Raises:
        InputError: where the arrays have different lengths, or no batch can be filled.

    >>> data = np.arange(6.0).reshape(6, 1), np.arange(6)
    >>> batches = Batches(data, 2, seed=None)
    >>> next(iter(batches))[1], batches.get_state()
    (array([0, 1]), {'position': 1, 'size': 2, 'seed': None})
    """

    data: Any
    size: int
    seed: int | None = 0
    epochs: int | None = None
    sampling: float | None = None
    share: tuple[int, int] = (0, 1)
    position: int = 0
    _order: tuple[int, Any] = field(default=(-1, None), init=False, repr=False)

    def __post_init__(self) -> None:
        lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(self.data)}
        if len(lengths) != 1 or () in lengths:
            raise InputError(
                "Batches", "arrays with one length of axis 0", describe(self.data), "(x, target)"
            )
        if not 1 <= self.size <= self._length:
            fix = f"fnn.train.Batches(data, {max(1, min(32, self._length))})"
            raise InputError("Batches", f"a size from 1 to {self._length}", repr(self.size), fix)
        if not 0 <= self.share[0] < self.share[1] or self.size % self.share[1]:
            fix = "fnn.train.Batches(data, size, share=(jax.process_index(), jax.process_count()))"
            raise InputError("Batches", f"a share of equal parts of {self.size}", repr(self.share), fix)
        if self.sampling is not None and not (0 < self.sampling <= 1 and self.seed is not None):
            fix = f"fnn.train.Batches(data, {self.size}, seed=0, sampling=0.01)"
            raise InputError("Batches", "a sampling in (0, 1], and a seed", repr(self.sampling), fix)

    @property
    def _length(self) -> int:
        return np.shape(jax.tree.leaves(self.data)[0])[0]

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._length // self.size

    def __iter__(self) -> Iterator[Any]:
        """Return itself: there is one position."""
        return self

    def __next__(self) -> Any:
        """Return the next batch."""
        epoch, i = divmod(self.position, len(self))
        if self.epochs is not None and epoch >= self.epochs:
            raise StopIteration
        if self.sampling is not None:
            rows, mask = self._drawn()
        else:
            rows, mask = slice(i * self.size, (i + 1) * self.size), None
            rows = rows if self.seed is None else self._rows(epoch)[rows]
        self.position += 1
        own = slice(*(self.size * end // self.share[1] for end in (self.share[0], self.share[0] + 1)))
        if isinstance(rows, slice):  # a view, which copies nothing
            batch = jax.tree.map(lambda leaf: leaf[rows][own], self.data)
        else:
            batch = jax.tree.map(lambda leaf: leaf[rows[own]], self.data)
        return batch if mask is None else (*batch, mask[own])

    @property
    def probability(self) -> float | None:
        """The probability with which a batch holds an example by itself, None where it is drawn otherwise."""
        return self.sampling if self.sampling is not None or self.size < self._length else 1.0

    def get_state(self) -> dict[str, int | None]:
        """Return where the iteration stands, and in which order of the data."""
        return {"position": self.position, "size": self.size, "seed": self.seed}

    def set_state(self, state: dict[str, int | None]) -> None:
        """Go to where an iteration stood, and warn where its order was another.

        Args: `state`, what `get_state` returned. Raises: InputError, where it is of other batches.
        """
        position = state.get("position")
        if not isinstance(position, int):
            wanted = "a state of `Batches`, which has a position"
            raise InputError("Batches", wanted, repr(state), "batches.get_state()")
        for name, own in (("size", self.size), ("seed", self.seed)):
            if state.get(name, own) != own:
                text = f"Batches of {name} {own} go on where those of {name} {state[name]} stood"
                warnings.warn(f"{text}: the order is another", UserWarning, stacklevel=3)
        self.position = position

    def _rows(self, epoch: int) -> Any:
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng((self.seed or 0, epoch)).permutation(self._length)
        return self._order[1]

    def _drawn(self) -> tuple[Any, Any]:
        random = np.random.default_rng((self.seed or 0, self.position))
        rows = np.flatnonzero(random.random(self._length) < (self.sampling or 0))
        if len(rows) > self.size:
            fix = f"fnn.train.Batches(data, {min(self._length, 2 * len(rows))}, sampling={self.sampling})"
            raise InputError("Batches", "a size that holds every draw", f"{len(rows)} examples drawn", fix)
        mask = np.arange(self.size) < len(rows)
        return np.concatenate([rows, np.zeros(self.size - len(rows), rows.dtype)]), mask


def prefetched(
    batches: Iterable[Any], place: Callable[[Any], Any], size: int = 2, skip: int = 0
) -> Iterator[tuple[Any, Any, Any]]:
    """Take batches to the devices ahead of the step: yield `(batch, before, after)`.

    Args:
        batches: the batches. Where they have `get_state`, as grain's iterators do, it is called around each.
        place: a function that puts a batch on the devices, without waiting for it.
        size: the number of batches to be ahead, 0 for none.
        skip: how many batches have been taken already, for batches without `get_state`.

    Yields:
        the batch on the devices, and the positions of the batches before and after it.

    >>> list(prefetched("ab", str.upper))
    [('A', 0, 1), ('B', 1, 2)]
    """
    iterator: Any = iter(batches)
    queue, taken = deque(), skip

    def position() -> Any:
        return iterator.get_state() if hasattr(iterator, "get_state") else taken

    before = position()
    for batch in iterator:
        taken += 1
        after = position()
        queue.append((place(batch), before, after))
        before = after
        if len(queue) > size:
            yield queue.popleft()
    yield from queue


def placed(batch: Any, sharding: Any) -> Any:
    """Put a batch on the devices, without waiting for it.

    Args:
        batch: a pytree of arrays; where there are several processes, the rows that this one feeds.
        sharding: a sharding, such as `NamedSharding(mesh, P("data"))`, or a tree of them; None for the
            default device.

    Raises:
        InputError: where an array's axes are not divided by the devices.

    >>> placed((np.zeros(2), np.ones(2)), None)[1]
    Array([1., 1.], dtype=float32)
    """
    if sharding is None:
        return jax.device_put(batch)

    def one(leaf: Any, own: Any) -> Any:
        leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        if jax.process_count() > 1:
            return jax.make_array_from_process_local_data(own, leaf)
        try:
            own.shard_shape(leaf.shape)
        except ValueError:
            shards = own.mesh.size
            fix = f"fnn.train.Batches(data, {max(shards, leaf.shape[0] // shards * shards)})"
            wanted = f"a batch that {own.spec} divides over {dict(own.mesh.shape)}"
            raise InputError("fit", wanted, describe(leaf), fix) from None
        return jax.device_put(leaf, own)

    many = not isinstance(sharding, jax.sharding.Sharding)
    return (
        jax.tree.map(one, batch, sharding) if many else jax.tree.map(lambda leaf: one(leaf, sharding), batch)
    )
