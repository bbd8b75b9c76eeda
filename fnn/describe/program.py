"""A network's forward and backward as a list of equations, written by walking its layers."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax

from fnn.compose.branches import Parallel, Skip
from fnn.compose.recomputed import Recomputed, rebuilds
from fnn.compose.repeat import Repeat
from fnn.compose.serial import Serial


class Value(NamedTuple):
    """A boundary or a param: its name and its shape."""

    name: str
    shape: tuple[int, ...]


@dataclass
class Line:
    """One equation: a template with boundaries and params in braces, filled in by name or by shape."""

    template: str
    values: dict[str, Value]
    part: str  # "forward" or "backward"
    depth: int
    notes: list[str] = field(default_factory=list)

    def fill(self, show: Callable[[str, Value], str]) -> str:
        """Put `show("d" or "", value)` in the place of each brace."""
        return re.sub(r"(d?)\{(\w+)\}", lambda m: show(m[1], self.values[m[2]]), self.template)

    def boundaries(self, right: bool) -> set[str]:
        """Give the names of the boundaries on the right side of the equation, or on the left."""
        found = re.findall(r"(?<!d)\{(\w+)\}", self.template.partition("=")[2 if right else 0])
        return {name for name in (self.values[key].name for key in found) if re.fullmatch(r"v\d+", name)}


class Part(NamedTuple):
    """A layer, written down: its output, and what writes its forward again, or its backward."""

    y: Value
    again: Callable[[], None]
    back: Callable[[], None]
    rebuild: Callable[[], None] = lambda: None  # its output again, from what it keeps itself


@dataclass
class Program:
    """The lines so far, the boundaries that are kept, and the counters that names are made from."""

    lines: list[Line] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    part: str = "forward"
    depth: int = 0
    boundaries: int = 0
    layers: int = 0

    def line(self, template: str, values: dict[str, Value], *notes: str) -> None:
        """Write a line."""
        self.lines.append(Line(template, values, self.part, self.depth, list(notes)))

    def value(self, shape: tuple[int, ...]) -> Value:
        """Name the next boundary."""
        self.boundaries += 1
        return Value(f"v{self.boundaries}", shape)

    def forward(self, layer: Any, params: Any, x_shape: Any, x: Value) -> Part:
        """Write a layer's forward equations."""
        match layer:
            case Serial():
                return self._serial(layer, params, x_shape, x)
            case Skip():
                return self._skip(layer, params, x_shape, x)
            case Parallel():
                return self._parallel(layer, params, x_shape, x)
            case Repeat():
                return self._repeat(layer, params, x_shape, x)
            case Recomputed():
                return self._recomputed(layer, params, x_shape, x)
        return self._leaf(layer, params, x_shape, x)

    def _leaf(self, layer: Any, params: Any, x_shape: Any, x: Value) -> Part:
        self.layers += 1
        y_shape, extras = jax.eval_shape(layer.forward, params, x_shape, None)
        values = {"x": x, "y": self.value(y_shape.shape)}
        if isinstance(params, dict):
            values |= {name: Value(f"{name}{self.layers}", leaf.shape) for name, leaf in params.items()}
        plain = ((f"{{y}} = {layer!r}({{x}})",), (f"d{{x}} = backward of {layer!r} at d{{y}}",))
        forward, backward = getattr(layer, "equations", plain)
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
        return Part(values["y"], again, lambda: write(backward))

    def _serial(self, layer: Serial, params: Any, x_shape: Any, x: Value) -> Part:
        values, parts = [x], []
        for _, child, p, shape in layer.parts(params, x_shape):
            parts.append(self.forward(child, p, shape, values[-1]))
            values.append(parts[-1].y)
        kept = {*layer.kept}
        self.kept |= {values[i].name for i in kept if 0 < i < len(parts)}

        def again() -> None:
            for part in parts:
                part.again()

        def reach(i: int, known: set[int]) -> None:
            if i in known:
                return
            if rebuilds(layer.blocks[i - 1][1]):
                parts[i - 1].rebuild()
            else:
                reach(i - 1, known)
                parts[i - 1].again()
            known.add(i)

        def back() -> None:
            known = set(kept)
            for i in reversed(range(len(parts))):
                for side in sorted(layer.blocks[i][1].needs):
                    reach(i + (side == "output"), known)
                parts[i].back()

        return Part(values[-1], again, back, lambda: reach(len(parts), kept - {0}))

    def _skip(self, layer: Skip, params: Any, x_shape: Any, x: Value) -> Part:
        inner = self.forward(layer.layer, params, x_shape, x)
        values = {"x": x, "f": inner.y, "y": self.value(inner.y.shape)}
        self.kept |= {inner.y.name} if "output" in layer.layer.needs else set()
        self.line("{y} = {x} + {f}", values)

        def again() -> None:
            inner.again()
            self.line("{y} = {x} + {f}", values)

        def back() -> None:
            self.line("d{x} = d{y}", values)
            self.line("d{f} = d{y}", values)
            self._accumulate(inner, x)

        return Part(values["y"], again, back)

    def _parallel(self, layer: Parallel, params: Any, x_shape: Any, x: Value) -> Part:
        parts = [self.forward(child, p, x_shape, x) for _, child, p, _ in layer.parts(params, x_shape)]
        names = [f"f{i}" for i in range(len(parts))]
        y_shape = jax.eval_shape(layer.forward, params, x_shape, None)[0].shape
        values = {"y": self.value(y_shape)} | {name: p.y for name, p in zip(names, parts, strict=True)}
        braced = [f"{{{name}}}" for name in names]
        template = " + ".join(braced) if layer.join == "sum" else f"concatenate({', '.join(braced)})"
        self.kept |= {
            part.y.name
            for part, child in zip(parts, layer.layers, strict=True)
            if layer.join == "sum" and "output" in child.needs
        }
        self.line(f"{{y}} = {template}", values)

        def again() -> None:
            for part in parts:
                part.again()
            self.line(f"{{y}} = {template}", values)

        def back() -> None:
            for i, part in enumerate(parts):
                slice_i = "" if layer.join == "sum" else f"[slice {i}]"
                if slice_i and "output" in layer.layers[i].needs:
                    self.line(f"{{f{i}}} = {{y}}{slice_i}", values)
                self.line(f"d{{f{i}}} = d{{y}}{slice_i}", values)
                self._accumulate(part, x) if i else part.back()

        return Part(values["y"], again, back)

    def _repeat(self, layer: Repeat, params: Any, x_shape: Any, x: Value) -> Part:
        if layer.every > 1:
            return self._stretches(layer, params, x_shape, x)
        ((_, child, p, _),) = layer.parts(params, x_shape)
        shared = " with the same params" if layer.shared else ""
        self.line(f"{layer.n} times{shared}, each from the last one's output:", {})
        self.depth += 1
        inner = self.forward(child, p, x_shape, x)
        self.depth -= 1
        self.kept |= {x.name} if "input" in child.needs else set()
        self.kept |= {inner.y.name} if "output" in child.needs else set()

        def loop(head: str, body: Callable[[], None]) -> None:
            self.line(head, {})
            self.depth += 1
            body()
            self.depth -= 1

        def back() -> None:
            if "input" in layer.needs:  # it is kept of the first use alone
                self.line("{x} = {y} of the use before, made again", {"x": x, "y": inner.y})
            inner.back()

        return Part(
            inner.y,
            lambda: loop(f"{layer.n} times, again:", inner.again),
            lambda: loop(f"{layer.n} times, the last first:", back),
            inner.rebuild,
        )

    def _stretches(self, layer: Repeat, params: Any, x_shape: Any, x: Value) -> Part:
        values, parts = [x], []
        for _, stretch, p, shape in layer.parts(params, x_shape):
            self.kept |= {values[-1].name} if "input" in stretch.needs else set()
            parts.append(self.forward(stretch, p, shape, values[-1]))
            values.append(parts[-1].y)

        def each(act: str) -> None:
            for part in parts if act == "again" else reversed(parts):
                getattr(part, act)()

        return Part(values[-1], partial(each, "again"), partial(each, "back"))

    def _recomputed(self, layer: Recomputed, params: Any, x_shape: Any, x: Value) -> Part:
        kept = set(self.kept)
        inner = self.forward(layer.layer, params, x_shape, x)
        self.kept = kept  # what the layer keeps, it keeps from its second run to its backward

        def back() -> None:
            start = len(self.lines)
            inner.again()
            stop = len(self.lines)
            inner.back()
            read = set[str]().union(*(line.boundaries(True) for line in self.lines[stop:]))
            for i in reversed(range(start, stop)):  # what nobody reads is not made again: a last output
                made = self.lines[i].boundaries(False)
                if made and not made & read:
                    del self.lines[i]
                else:
                    read |= self.lines[i].boundaries(True)

        return Part(inner.y, inner.again, back)

    def _accumulate(self, part: Part, x: Value) -> None:
        """Write a part's backward where dx has a value already: its dx is added."""
        start = len(self.lines)
        part.back()
        for line in self.lines[start:]:
            if line.values.get("x") == x and line.template.startswith("d{x} = "):
                line.template = line.template.replace("=", "+=", 1)
