"""The forward and backward equations of a network, line by line, with shapes and notes on the boundaries."""

import re
from dataclasses import dataclass
from typing import Any

import jax

from fnn.arrays import shapes_of
from fnn.core import Layer, init
from fnn.describe.lines import Line, Value, shape_of
from fnn.describe.program import Program

LATEX: list[tuple[str, Any]] = [
    (r"\^T", r"^\\top"),
    (r" \* ", r" \\odot "),
    (r"\beps\b", r"\\varepsilon"),
    (r"\b(?!sum\()([a-z_]\w+)(?='?[(\[])", lambda m: r"\mathrm{" + m[1].replace("_", r"\_") + "}"),
    (r"\bsum\(", r"\\textstyle\\sum("),
]


@dataclass(frozen=True)
class Explanation:
    r"""The equations of one network as a list of lines; `print` shows them as text.

    Args:
        lines: the lines, those of the forward first.

    >>> import fnn, jax
    >>> print(explain(fnn.relu, jax.ShapeDtypeStruct((2, 3), "float32")))
    forward
       1  v1 = relu(v0)           (2, 3) = relu((2, 3))             v0 is free; keep v1
    backward
       2  dv0 = dv1 * relu'[v1]   (2, 3) = (2, 3) * relu'[(2, 3)]   v1 is free
    """

    lines: list[Line]

    def __str__(self) -> str:
        cells = [("   " * line.depth + equation(line), shapes(line)) for line in self.lines]
        left, middle = (max((len(cell[i]) for cell in cells), default=0) for i in (0, 1))
        shown, part = [], ""
        for number, (line, cell) in enumerate(zip(self.lines, cells, strict=True), 1):
            if line.part != part:
                part = line.part
                shown.append(part)
            shown.append(
                f"{number:4}  {cell[0]:{left}}   {cell[1]:{middle}}   {'; '.join(line.notes)}".rstrip()
            )
        return "\n".join(shown)

    def markdown(self) -> str:
        """Return a Markdown table with the equations in LaTeX."""
        rows = ["| | | equation | shapes | |", "| --- | --- | --- | --- | --- |"]
        for number, line in enumerate(self.lines, 1):
            shown = f"${latex(line)}$" if line.values else f"*{line.template}*"
            rows.append(f"| {number} | {line.part} | {shown} | {shapes(line)} | {'; '.join(line.notes)} |")
        return "\n".join(rows)

    _repr_markdown_ = markdown


def explain(net: Layer, x: Any) -> Explanation:
    """Write out what `forward` and `backward` compute, and where each boundary is kept and freed.

    Boundaries are v0 (the input), v1, ... in the order in which they are computed; dv is the cotangent of v,
    f'[v] the derivative of f computed from its output v. A sum is over all rows. A line of the backward
    without a d recomputes a cheap layer. No array is computed.

    Args:
        net: the network, any layer.
        x: the input (n, ..., k), an array or a `jax.ShapeDtypeStruct`, or a pytree of these.

    Returns:
        an `Explanation`.

    Raises:
        InputError: where `x` does not fit the network.

    >>> import jax.numpy as jnp
    >>> from fnn.compose.networks import mlp
    >>> print(explain(mlp([5, 4, 3]), jax.ShapeDtypeStruct((7, 5), jnp.float32)))
    forward
       1  v1 = v0 w1 + b1         (7, 4) = (7, 5) (5, 4) + (4,)     keep v0
       2  v2 = relu(v1)           (7, 4) = relu((7, 4))             v1 is free; keep v2
       3  v3 = v2 w3 + b3         (7, 3) = (7, 4) (4, 3) + (3,)
    backward
       4  dw3 = v2^T dv3          (4, 3) = (7, 4)^T (7, 3)
       5  db3 = sum(dv3)          (3,) = sum((7, 3))
       6  dv2 = dv3 w3^T          (7, 4) = (7, 3) (4, 3)^T
       7  dv1 = dv2 * relu'[v2]   (7, 4) = (7, 4) * relu'[(7, 4)]   v2 is free
       8  dw1 = v0^T dv1          (5, 4) = (7, 5)^T (7, 4)          v0 is free
       9  db1 = sum(dv1)          (4,) = sum((7, 4))
      10  dv0 = dv1 w1^T          (7, 5) = (7, 4) (5, 4)^T
    """
    x = shapes_of("explain", x)
    params = jax.eval_shape(lambda: init(net, jax.random.key(0), x))
    program = Program()
    v0 = Value("v0", shape_of(x))
    whole = program.forward(net, params, x, v0)
    program.kept |= {v0.name} if "input" in net.needs else set()
    program.kept |= {whole.y.name} if "output" in net.needs else set()
    program.part = "backward"
    whole.back()
    _tell_lives(program.lines, program.kept, whole.y.name)
    return Explanation(program.lines)


def equation(line: Line) -> str:
    """Return a line with the names of its values: `dw1 = v0^T dv1`."""
    return line.fill(lambda d, value: d + value.name)


def shapes(line: Line) -> str:
    """Return a line with the shapes of its values: `(5, 4) = (7, 5)^T (7, 4)`."""
    return line.fill(lambda d, value: str(value.shape)) if line.values else ""


def latex(line: Line) -> str:
    """Return a line with the names of its values, in LaTeX."""
    text = line.fill(
        lambda d, value: (
            (r"\mathrm{d}" if d else "") + re.sub(r"(\D+)(\d+)", r"\\mathit{\1}_{\2}", value.name)
        )
    )
    for plain, tex in LATEX:
        text = re.sub(plain, tex, text)
    return text


def _tell_lives(lines: list[Line], kept: set[str], output: str) -> None:
    """Add notes: where a boundary is kept, and after which line it is no longer needed."""
    for name in sorted(set().union(*(line.boundaries(side) for line in lines for side in (True, False)))):
        reads = {part: [n for n in lines if n.part == part and name in n.boundaries(True)] for part in PARTS}
        made = [line for line in lines if line.part == "forward" and name in line.boundaries(False)]
        if name in kept:
            (made or reads["forward"])[0].notes.append(f"keep {name}")
        elif name != output and reads["forward"]:
            reads["forward"][-1].notes.append(f"{name} is free")
        if reads["backward"]:
            reads["backward"][-1].notes.append(f"{name} is free")


PARTS = ("forward", "backward")
