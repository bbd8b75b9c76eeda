"""A chain of layers, described by its boundaries."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import jax

from fnn.compose.checks import check_layers, check_params, coupled, key_of
from fnn.compose.ordering import with_dependency
from fnn.compose.remat import Remat
from fnn.core import Composition, Layer, Part, pull
from fnn.errors import InputError, at
from fnn.reading import Reading

Boundaries = dict[int, Any]  # v[0] is the chain's input, v[i + 1] the output of block i


class Segment(NamedTuple):
    """Layers start .. stop - 1 of a chain: their inner boundaries are made again in the backward."""

    start: int
    stop: int
    plan: tuple["Segment", ...] = ()  # of the segment as a chain, when it is run again


def rebuilds(layer: Layer) -> bool:
    """Tell whether a layer makes its output again from what it keeps itself."""
    return isinstance(layer, Composition) and layer.rebuilds


def kept_boundaries(layers: tuple[Layer, ...]) -> tuple[int, ...]:
    """Choose the smallest set of boundaries from which all needed ones follow by cheap layers alone.

    Walk the chain once. A needed boundary is within reach if cheap layers lead to it from a kept one; if
    it is not, it is kept. For dense-gelu-dense that leaves the pre-activation only, for dense-relu-dense
    the activation only. One that its layer rebuilds from what it keeps itself is within reach, too.
    """
    needed = {i + (side == "output") for i, layer in enumerate(layers) for side in layer.needs}
    kept, reachable = [], False
    for i in range(len(layers) + 1):
        reachable = i > 0 and (rebuilds(layers[i - 1]) or (reachable and layers[i - 1].cheap))
        if i in needed and not reachable:
            kept.append(i)
            reachable = True
    return tuple(kept)


@dataclass(frozen=True, init=False, repr=False)
class Serial(Composition):
    """Run layers one after the other. params: a tuple with the params of each.

    A chain inside a chain is one longer chain: `Serial(a, Serial(b, c))` is `Serial(a, b, c)`. So the
    choice of boundaries is made for the whole. The extras are the kept inner boundaries by their number,
    and the layers' extras; the two ends belong to whoever runs the chain.

    `plan` names segments that keep nothing but their input and are run again in the backward, each as a
    chain with a plan of its own (`fnn.memory.fit` finds one). It changes no params, no value, no gradient.
    """

    layers: tuple[Layer, ...]
    plan: tuple[Segment, ...]
    first: int  # the number of the first layer in the chain that this is a segment of

    def __init__(self, *layers: Layer, plan: tuple[Segment, ...] = (), first: int = 0):
        if layers:
            check_layers("Serial", layers, "fnn.Serial(a, b)")
        spliced, segments = [], []
        for layer in layers:
            chain = layer if isinstance(layer, Serial) else None
            segments += [s._replace(start=s.start + len(spliced), stop=s.stop + len(spliced))
                         for s in (chain.plan if chain else ())]  # fmt: skip
            spliced += chain.layers if chain else (layer,)
        segments += [Segment(*segment) for segment in plan]
        _check_plan(sorted(segments), len(spliced))
        vars(self).update(layers=tuple(spliced), plan=tuple(sorted(segments)), first=first)
        blocks = tuple(layer for _, layer in self.blocks)
        kept, ends = kept_boundaries(blocks), {0: "input", len(blocks): "output"}
        reachable = False
        for i, layer in enumerate(blocks):
            reachable = rebuilds(layer) or ((reachable or 0 < i in kept) and layer.cheap)
        vars(self).update(
            kept=kept,
            needs=frozenset(ends[i] for i in kept if i in ends),
            cheap=all(layer.cheap for layer in blocks),
            rebuilds=reachable,  # cheap blocks alone lead from a kept inner boundary to the output
            couples_examples=coupled(spliced),
        )

    kept: ClassVar[tuple[int, ...]]  # the kept boundaries, numbered by the blocks

    def __repr__(self) -> str:
        plan = (f"plan={[tuple(s) if s.plan else s[:2] for s in self.plan]}",) if self.plan else ()
        return f"Serial({', '.join((*map(repr, self.layers), *plan))})"

    def with_layers(self, *layers: Layer) -> "Serial":
        """Return a chain of other layers under the same plan."""
        return Serial(*layers, plan=self.plan, first=self.first)

    @cached_property
    def blocks(self) -> tuple[tuple[int | slice, Layer], ...]:
        """What is run one after the other: a layer, with its number, or a segment, with its slice."""
        found, i = [], 0
        for start, stop, plan in (*self.plan, Segment(len(self.layers), len(self.layers))):
            found += [(j, self.layers[j]) for j in range(i, start)]
            if start < stop:
                chain = Serial(*self.layers[start:stop], plan=plan, first=self.first + start)
                found.append((slice(start, stop), Remat(chain, place="")))
            i = stop
        return tuple(found)

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the blocks, each on the last one's output; of the kept inner boundaries each is its reader's
        input.
        """
        found = []
        for i, (where, layer) in enumerate(self.blocks):
            keeps = frozenset({"input"}) if 0 < i in self.kept else frozenset()
            takes = "previous" if i else "input"
            found.append(Part(self._place(where), layer, params[where], x, key, keeps=keeps, takes=takes))
            x, _ = jax.eval_shape(layer.forward, params[where], x, None)
        return found

    def init(self, key: Any, x: Any) -> tuple[Any, ...]:
        """Make each layer's params for the shape that reaches it."""
        params = []
        for i, layer in enumerate(self.layers):
            with at(f".layers[{i}]"):
                params.append(layer.init(jax.random.fold_in(key, i), x))
                x, _ = jax.eval_shape(layer.forward, params[i], x, None)
        return tuple(params)

    def forward(self, params: tuple[Any, ...], x: Any, key: Any) -> tuple[Any, tuple[Boundaries, Any]]:
        """v[i + 1] = block i of v[i]"""
        check_params("Serial", params, len(self.layers))
        inner, extras = {}, []
        for i, (where, layer) in enumerate(self.blocks):
            if 0 < i in self.kept:
                inner[i] = x
            with at(self._place(where)):
                x, extra = layer.forward(params[where], x, self._key(where, key))
            extras.append(extra)
        return x, (inner, tuple(extras))

    def recompute(self, params: tuple[Any, ...], x: Any, extras: tuple[Boundaries, Any]) -> Any:
        """v[i + 1] = block i of v[i]"""
        for (where, layer), extra in zip(self.blocks, extras[1], strict=True):
            x = layer.recompute(params[where], x, extra)
        return x

    def backward(
        self, params: tuple[Any, ...], x: Any, y: Any, extras: tuple[Boundaries, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dv[i] = the backward of block i at dv[i + 1]: the chain rule, last block first."""
        check_params("Serial", params, len(self.layers))
        blocks, (inner, extras) = self.blocks, extras
        known = {0: x, len(blocks): y} | inner
        known = {i: v for i, v in known.items() if v is not None}

        def boundary(i: int, dy: Any) -> Any:
            hold = (lambda v: v) if read.in_loop else (lambda v: with_dependency(v, dy))
            return self._reach(i, params, known, extras, hold)

        readings = []
        for i, (where, layer) in reversed(list(enumerate(blocks))):
            v_out = boundary(i + 1, dy) if "output" in layer.needs else None
            v_in = boundary(i, dy) if "input" in layer.needs else None
            share = read.mapped(lambda tree, where=where: tree[where])
            with at(self._place(where)):
                reading, dy = pull(layer, params[where], v_in, v_out, extras[i], dy, share)
            known.pop(i + 1, None)  # its last use: it may be freed
            readings.append((reading,) if isinstance(where, int) else reading)
        return sum(reversed(readings), ()), dy

    def rebuild(self, params: tuple[Any, ...], extras: tuple[Boundaries, Any]) -> Any:
        """Return the same output again, without the input."""
        return self._reach(len(self.blocks), params, dict(extras[0]), extras[1], lambda v: v)

    def _reach(
        self, i: int, params: tuple[Any, ...], known: Boundaries, extras: Any, hold: Callable[[Any], Any]
    ) -> Any:
        """Return v[i], made again where need be by cheap blocks; `hold` what that starts from."""
        if i not in known:
            where, layer = self.blocks[i - 1]
            if isinstance(layer, Composition) and layer.rebuilds:
                known[i] = layer.rebuild(params[where], hold(extras[i - 1]))
            else:
                known[i - 1] = hold(self._reach(i - 1, params, known, extras, hold))
                known[i] = layer.recompute(params[where], known[i - 1], extras[i - 1])
        return known[i]

    def _key(self, where: int | slice, key: Any) -> Any:
        """Return a layer's own key by its number, a segment's, which is the chain's: a plan changes no
        noise.
        """
        return key if isinstance(where, slice) else key_of(key, self.first + where)

    def _place(self, where: int | slice) -> str:
        """Return a layer's place in the whole chain; a segment has none, its layers have theirs."""
        return "" if isinstance(where, slice) else f".layers[{self.first + where}]"


def _check_plan(plan: list[Segment], layers: int) -> None:
    """Raise unless the segments lie in the chain, one behind the other."""
    end = 0
    for start, stop, _ in plan:
        if not end <= start < stop <= layers:
            wanted = f"a plan of segments of the {layers} layers, one behind the other"
            got = str([tuple(segment[:2]) for segment in plan])
            raise InputError("Serial", wanted, got, "fnn.memory.fit(net, x, budget)")
        end = stop
