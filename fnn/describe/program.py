"""The forward and backward of a network as a list of equations, written by a fold over its parts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax

from fnn.compose.boundaries import rebuilds
from fnn.contract import run
from fnn.core import Composition, Equations, Layer, Leaf, Part
from fnn.describe.lines import Line, Value, shape_of

SYMBOLS = {"kernel": "w", "bias": "b"}  # by which params are written; others by their names


class Written(NamedTuple):
    """A layer whose forward is written: its output, and functions that write more lines.

    Args:
        y: the output.
        again: writes the forward again.
        back: writes the backward.
        rebuild: writes how the output is made again from what the layer keeps itself.
    """

    y: Value
    again: Callable[[], None]
    back: Callable[[], None]
    rebuild: Callable[[], None]


@dataclass
class Program:
    """The lines so far, the boundaries that are kept, and the counters that names are made from.

    Args:
        lines: the lines.
        kept: the names of the kept boundaries.
        part: the part that is being written, "forward" or "backward".
        depth: the number of loops around the next line.
        boundaries: the number of boundaries so far.
        leaves: the number of leaves so far.
    """

    lines: list[Line] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    part: str = "forward"
    depth: int = 0
    boundaries: int = 0
    leaves: int = 0

    def line(self, template: str, values: dict[str, Value], *notes: str) -> None:
        """Append a line.

        Args:
            template: the equation, with names in braces.
            values: for each name in braces the `Value` that is filled in.
            notes: what is said behind the equation.
        """
        self.lines.append(Line(template, values, self.part, self.depth, list(notes)))

    def value(self, like: Any) -> Value:
        """Return the next boundary, of the shapes of `like`."""
        self.boundaries += 1
        return Value(f"v{self.boundaries}", shape_of(like))

    def forward(self, layer: Layer, params: Any, like: Any, x: Value) -> Written:
        """Write the forward equations of a layer.

        Args:
            layer: the layer.
            params: its params, or their shapes.
            like: the shape of its input.
            x: the `Value` of its input.
        """
        parts = layer.parts(params, like) if isinstance(layer, Composition) else []
        if not isinstance(layer, Composition) or any(part.takes == "other" for part in parts):
            return self._equations(layer, params, like, x)
        written, values = [], [x]
        for part in parts:
            v = values[-1] if part.takes == "previous" else x
            entry = v if part.entry is None else Value(f"{v.name}[{part.entry!r}]", v.shape[part.entry])
            written.append(self._part(part, entry))
            values.append(written[-1].y)
        if layer.equations is None:
            return self._chain(layer, parts, written, values)
        y = self.value(jax.eval_shape(partial(run, layer), params, like, None)[0])
        return self._branches(layer.equations, written, {"x": x, "y": y})

    def _equations(self, layer: Layer, params: Any, like: Any, x: Value) -> Written:
        """Write the equations that a layer declares itself."""
        self.leaves += 1
        y_like, extras = jax.eval_shape(partial(run, layer), params, like, None)
        values = {"x": x, "y": self.value(y_like)}
        if isinstance(params, dict):
            symbols = {name: SYMBOLS.get(name, name) for name in params}
            values |= {
                name: Value(f"{symbols[name]}{self.leaves}", shape_of(leaf)) for name, leaf in params.items()
            }
        reads = ", {x}" * ("input" in layer.needs) + ", {y}" * ("output" in layer.needs)
        plain = ((f"{{y}} = {layer!r}({{x}})",), (f"d{{x}} = backward of {layer!r} at d{{y}}{reads}",))
        assert isinstance(layer, Leaf | Composition)
        forward, backward = layer.equations or plain
        fresh = set()  # the forward's equations that the backward has written again

        def write(templates: tuple[str, ...]) -> None:
            for template in templates:
                if template not in fresh:
                    self.line(template, values)

        def again() -> None:
            write(forward)
            fresh.update(forward)

        write(forward)
        shapes = [str(leaf.shape) for leaf in jax.tree.leaves(extras)]
        if shapes:
            self.lines[-1].notes.append(f"keep statistics {' '.join(shapes)}")
        return Written(values["y"], again, lambda: write(backward), lambda: None)

    def _part(self, part: Part, x: Value) -> Written:
        """Write a part of a composition, in a loop where it runs more than once."""
        before = set(self.kept)
        if part.times > 1:
            shared = " with the same params" if part.copies < part.times else ""
            self.line(f"{part.times} times{shared}, each from the last one's output:", {})
        with self._deeper(part.times > 1):
            once = self.forward(part.layer, part.params, part.x, x)
        inner = once
        if part.again:
            self.kept = before  # what the layer keeps, it keeps from its second run to its backward
            inner = once._replace(back=lambda: self._run_again(once))
        self.kept |= {x.name} if "input" in part.keeps else set()
        self.kept |= {inner.y.name} if "output" in part.keeps else set()
        if part.times == 1:
            return inner
        follows = "input" in part.layer.needs and not part.keeps and rebuilds(part.layer)

        def back() -> None:
            if follows:  # the input is kept of the first use alone
                self.line("{x} = {y} of the use before, made again", {"x": x, "y": inner.y})
            inner.back()

        return Written(
            inner.y,
            lambda: self._loop(f"{part.times} times, again:", inner.again),
            lambda: self._loop(f"{part.times} times, the last first:", back),
            inner.rebuild,
        )

    def _chain(
        self, layer: Composition, parts: list[Part], written: list[Written], values: list[Value]
    ) -> Written:
        """Write parts that follow each other; boundaries that are not kept are recomputed."""
        ends = {0} if "input" in layer.needs else set[int]()
        ends |= {len(parts)} if "output" in layer.needs else set()
        kept = ends | {i for i, part in enumerate(parts) if "input" in part.keeps}

        def again() -> None:
            for one in written:
                one.again()

        def reach(i: int, known: set[int]) -> None:
            if i in known or i == 0:
                return
            if rebuilds(parts[i - 1].layer):
                written[i - 1].rebuild()
            else:
                reach(i - 1, known)
                written[i - 1].again()
            known.add(i)

        def back() -> None:
            known = set(kept)
            for i in reversed(range(len(parts))):
                for side in sorted(parts[i].layer.needs) if parts[i].times == 1 else ():
                    reach(i + (side == "output"), known)
                written[i].back()

        return Written(values[-1], again, back, lambda: reach(len(parts), kept - {0}))

    def _branches(self, equations: Equations, written: list[Written], values: dict[str, Value]) -> Written:
        """Write parts that have the same input, and the equations that join their outputs."""
        values = values | {f"f{i}": one.y for i, one in enumerate(written)}
        forward, backward = equations

        def join() -> None:
            for template in forward:
                self.line(template, values)

        def again() -> None:
            for one in written:
                one.again()
            join()

        def back() -> None:
            names = [f"{{f{i}}}" for i in range(len(written))]
            of = [next((n for n in names if t.partition(" = ")[0] in (n, f"d{n}")), None) for t in backward]
            first = [template for template, name in zip(backward, of, strict=True) if name is None]
            for template in first:
                self.line(template, values)
            for i, one in enumerate(written):
                for template, name in zip(backward, of, strict=True):
                    if name == names[i]:
                        self.line(template, values)
                if i or first:
                    self._accumulate(one, values["x"])
                else:
                    one.back()

        join()
        return Written(values["y"], again, back, lambda: None)

    def _run_again(self, inner: Written) -> None:
        """Write a layer's forward again and then its backward, without the lines that nothing reads."""
        start = len(self.lines)
        inner.again()
        stop = len(self.lines)
        inner.back()
        read = set[str]().union(*(line.boundaries(True) for line in self.lines[stop:]))
        for i in reversed(range(start, stop)):
            made = self.lines[i].boundaries(False)
            if made and not made & read:
                del self.lines[i]
            else:
                read |= self.lines[i].boundaries(True)

    def _loop(self, head: str, body: Callable[[], None]) -> None:
        self.line(head, {})
        with self._deeper(True):
            body()

    @contextmanager
    def _deeper(self, by: bool) -> Iterator[None]:
        self.depth += by
        yield
        self.depth -= by

    def _accumulate(self, part: Written, x: Value) -> None:
        """Write the backward of a part whose dx is added to the dx of earlier parts."""
        start = len(self.lines)
        part.back()
        for line in self.lines[start:]:
            if line.values.get("x") == x and line.template.startswith("d{x} = "):
                line.template = line.template.replace("=", "+=", 1)
