"""A chain of layers, described by its boundaries."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import jax

from fnn.compose.boundaries import Boundaries, Segment, check_plan, kept_boundaries, reach, rebuilds, rebuilt
from fnn.compose.checks import check_layers, coupled, key_of
from fnn.compose.ordering import is_small, with_dependency
from fnn.compose.remat import Remat
from fnn.compose.spelling import Spelling, spliced
from fnn.contract import run
from fnn.core import Composition, Kept, Layer, Part, pull
from fnn.errors import InputError, at
from fnn.reading import Reading

Layers = tuple[Layer, ...]
Plan = Sequence[Segment]
Places = tuple[str, ...] | None


@dataclass(frozen=True, init=False, repr=False)
class Serial(Composition):
    """Run layers one after the other: `Serial(a, b)`, or with names `Serial(encoder=a, head=b)`.

    params: a tuple with those of each layer; with names a dict with those of each layer that has any. A layer
    draws them by its name, or where it has none by the number of layers with params before it. `net[0]`,
    `net["encoder"]` and `net[:2]` are the layers and the shorter chain that stand there.

    A chain inside a chain runs as a part of the whole, so that the kept boundaries are chosen for the whole:
    `Serial(a, Serial(b, c))` equals `Serial(a, b, c)`; a chain with names, or inside of one, has its own
    params. The attribute `layers` has the layers of all chains inside, in the order in which they run. The
    extras are the kept inner boundaries by number, and the extras of the layers.

    Args:
        layers, named: the layers, without names or by name.
        plan: the segments whose inner boundaries are not kept but recomputed, as `fnn.memory.fit` finds them.
            A plan does not change params, values or gradients.

    Raises:
        InputError: where an argument is no layer, only some have names, or the plan is of another chain.

    >>> import fnn
    >>> fnn.Serial(fnn.Dense(3), fnn.relu)[0]
    Dense(3)
    """

    layers: tuple[Layer, ...]
    spelling: Spelling
    plan: tuple[Segment, ...]
    places: tuple[str, ...]  # where the layers stand in the whole chain, of which this may be a segment
    first: int  # the number of the first layer there

    def __init__(self, *layers: Layer, plan: tuple[Segment, ...] = (), **named: Layer):
        if layers and named:
            got = f"{len(layers)} without and {', '.join(named)}"
            raise InputError("Serial", "names for all layers or for none", got, "fnn.Serial(a=a, b=b)")
        if isinstance(plan, Layer):
            raise InputError("Serial", "another name than plan", repr(plan), f"fnn.Serial(body={plan!r})")
        entries = dict(enumerate(layers)) if layers else named
        if entries:
            check_layers("Serial", tuple(entries.values()), "fnn.Serial(a, b)")
        inside = {name: f.spelling if isinstance(f, Serial) else None for name, f in entries.items()}
        spelling, starts = spliced(inside, bool(named))
        flat, segments = [], []
        for start, layer in zip(starts, entries.values(), strict=True):
            chain = isinstance(layer, Serial)
            flat += layer.layers if chain else (layer,)
            segments += [segment.shifted(start) for segment in layer.plan] if chain else []
        self._set(tuple(flat), spelling, (*segments, *plan))

    def _set(self, layers: Layers, spelling: Spelling, plan: Plan, places: Places = None, first: int = 0):
        plan = tuple(sorted(Segment(*segment) for segment in plan))
        check_plan(plan, len(layers))
        places = tuple(spelling.places()) if places is None else places
        vars(self).update(layers=layers, spelling=spelling, plan=plan, places=places, first=first)
        blocks = tuple(layer for _, layer in self.blocks)
        kept, ends = kept_boundaries(blocks), {0: "input", len(blocks): "output"}
        vars(self).update(
            kept=kept,
            needs=frozenset(ends[i] for i in kept if i in ends),
            cheap=all(layer.cheap for layer in blocks),
            rebuilds=rebuilt(blocks, kept),
            couples_examples=coupled(layers),
        )

    kept: ClassVar[tuple[int, ...]]  # the kept boundaries, numbered by the blocks

    def __repr__(self) -> str:
        bare, names = self.with_plan(()) if self.plan else self, self.spelling.names
        shown = [f"{n}={bare[n]!r}" if self.spelling.named else repr(bare[n]) for n in names]
        shown += [f"plan={[tuple(s) if s.plan else s[:2] for s in self.plan]}"] if self.plan else []
        return f"Serial({', '.join(shown)})"

    def __len__(self) -> int:
        """Count the layers and chains that stand in this one."""
        return len(self.spelling.items)

    def __getitem__(self, index: int | str | slice) -> Layer:
        """Return the layer or chain at a number or name, or the chain of those in a slice."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise InputError("Serial", "layers one after the other", repr(index), f"net[{start}:{stop}]")
            return self._between(*self.spelling.between(start, max(start, stop)))
        item = self.spelling.item(index)
        if isinstance(item, int):
            return self.layers[item]
        return self._between(item.shifted(-item.start), item.start)

    def _between(self, spelling: Spelling, start: int) -> "Serial":
        """Return the chain of so spelled layers from `start` on, with the segments that lie in it."""
        stop = start + spelling.size
        plan = [s.shifted(-start) for s in self.plan if start <= s.start and s.stop <= stop]
        return _chain(self.layers[start:stop], spelling, plan)

    def with_layers(self, *layers: Layer) -> "Serial":
        """Return a chain of other layers under the same names and the same plan."""
        return _chain(layers, self.spelling, self.plan, self.places, self.first)

    def with_plan(self, plan: tuple[Segment, ...]) -> "Serial":
        """Return the same chain under another plan."""
        return _chain(self.layers, self.spelling, plan, self.places, self.first)

    def shares(self, tree: Any) -> tuple[Any, ...]:
        """Return for each of `layers` its part of the params, or of a tree that begins like them."""
        return self.spelling.shares(tree)

    def gathered(self, shares: Sequence[Any], params: Any) -> Any:
        """Undo `shares`.

        Args:
            shares: a part for each of `layers`.
            params: the params of the chain, for the structure.
        """
        return self.spelling.gathered(shares, params)

    @cached_property
    def blocks(self) -> tuple[tuple[int | slice, Layer], ...]:
        """What is run in turn: layers, each with its number, and segments, each with its slice."""
        found, i = [], 0
        for start, stop, plan in (*self.plan, Segment(len(self.layers), len(self.layers))):
            found += [(j, self.layers[j]) for j in range(i, start)]
            if start < stop:
                found.append((slice(start, stop), Remat(self.stretch(start, stop, plan), place="")))
            i = stop
        return tuple(found)

    def stretch(self, start: int, stop: int, plan: Plan = ()) -> "Serial":
        """Return `layers[start:stop]` in their places, with their noise. Args: `start`, `stop`, `plan`."""
        numbers, where = tuple(range(stop - start)), (self.places[start:stop], self.first + start)
        return _chain(self.layers[start:stop], Spelling(numbers, numbers), plan, *where)

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the blocks, each on the last one's output; a kept inner boundary is its reader's input."""
        found, own = [], self.shares(params)
        for i, (where, layer) in enumerate(self.blocks):
            keeps: frozenset[Kept] = frozenset({"input"}) if 0 < i in self.kept else frozenset()
            takes = "previous" if i else "input"
            found.append(Part(self._place(where), layer, own[where], x, key, keeps=keeps, takes=takes))
            x, _ = jax.eval_shape(lambda own, x, f=layer: run(f, own, x, None), own[where], x)
        return found

    def init(self, key: Any, x: Any) -> Any:
        """Make each layer's params for the shape that reaches it."""
        return self.spelling.init(self.layers, key, x, iter(self.places))[0]

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, tuple[Boundaries, Any]]:
        """v[i + 1] = block i of v[i]"""
        self.spelling.check("Serial", params)
        params, inner, extras = self.shares(params), {}, []
        for i, (where, layer) in enumerate(self.blocks):
            if 0 < i in self.kept:
                inner[i] = x
            with at(self._place(where)):
                x, extra = run(layer, params[where], x, self._key(where, key))
            extras.append(extra)
        return x, (inner, tuple(extras))

    def recompute(self, params: Any, x: Any, extras: tuple[Boundaries, Any]) -> Any:
        """v[i + 1] = block i of v[i]"""
        params = self.shares(params)
        for (where, layer), extra in zip(self.blocks, extras[1], strict=True):
            with at(self._place(where)):
                x = layer.recompute(params[where], x, extra)
        return x

    def backward(
        self, params: Any, x: Any, y: Any, extras: tuple[Boundaries, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dv[i] = the backward of block i at dv[i + 1]: the chain rule, last block first."""
        self.spelling.check("Serial", params)
        of_chain, params, blocks, (inner, extras) = params, self.shares(params), self.blocks, extras
        known = {i: v for i, v in ({0: x, len(blocks): y} | inner).items() if v is not None}
        free = read.in_loop or is_small(known)

        def boundary(i: int, dy: Any) -> Any:
            hold = (lambda v: v) if free else partial(with_dependency, on=dy)
            return reach(blocks, i, params, known, extras, hold, self._place)

        readings = []
        for i, (where, layer) in reversed(list(enumerate(blocks))):
            v_out = boundary(i + 1, dy) if "output" in layer.needs else None
            v_in = boundary(i, dy) if "input" in layer.needs else None
            share = read.mapped(lambda tree, where=where: self.shares(tree)[where])
            with at(self._place(where)):
                reading, dy = pull(layer, params[where], v_in, v_out, extras[i], dy, share)
            known.pop(i + 1, None)  # its last use: it may be freed
            readings.append((reading,) if isinstance(where, int) else reading)
        return self.gathered(sum(reversed(readings), ()), of_chain), dy

    def rebuild(self, params: Any, extras: tuple[Boundaries, Any]) -> Any:
        """Return the output again, without the input."""
        end, own = len(self.blocks), self.shares(params)
        return reach(self.blocks, end, own, dict(extras[0]), extras[1], lambda v: v, self._place)

    def inside(self, params: Any, x: Any, y: Any, extras: Any) -> list[tuple[Part, Any, Any]]:
        """List the blocks, with every boundary that is kept or follows from a kept one."""
        known = {0: x, len(self.blocks): y} | extras[0]
        own, found = self.shares(params), []
        for i, (where, layer) in enumerate(self.blocks):
            v_in, v_out, extra = known.get(i), known.get(i + 1), extras[1][i]
            if v_out is None and rebuilds(layer):
                assert isinstance(layer, Composition)
                v_out = layer.rebuild(own[where], extra)
            elif v_out is None and v_in is not None:
                v_out = layer.recompute(own[where], v_in, extra)
            known[i + 1] = v_out
            found.append((Part(self._place(where), layer, own[where], v_in), v_out, extra))
        return found

    def _key(self, where: int | slice, key: Any) -> Any:
        """Return a layer's own key, or for a segment the chain's: a plan does not change the noise."""
        return key if isinstance(where, slice) else key_of(key, self.first + where)

    def _place(self, where: int | slice) -> str:
        """Return a layer's place in the whole chain; a segment has none, its layers have theirs."""
        return "" if isinstance(where, slice) else self.places[where]


def _chain(
    layers: Layers, spelling: Spelling, plan: Plan = (), places: Places = None, first: int = 0
) -> Serial:
    """Return the chain that is so spelled."""
    chain = object.__new__(Serial)
    chain._set(layers, spelling, plan, places, first)
    return chain
