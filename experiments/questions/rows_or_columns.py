"""Rows or columns?

    python -m experiments.questions.rows_or_columns

fnn writes one example in a row: activations (n, k), weights (k, j), Z = A W + b. Much of the literature
writes one example in a column: activations (k, m), weights (j, k), Z = W A + b, and the backward in four
equations:

    dW = dZ A^T / m        (j, k) = (j, m) (k, m)^T
    db = sum(dZ) / m       (j, 1)
    dZ = dA * f'(Z)        (j, m)
    dA_prev = W^T dZ       (k, m) = (j, k)^T (j, m)

Transposing each array turns one into the other: (dW)^T = A dZ^T is x^T dz. What does not turn over is the
factor 1/m. With rows it is in the loss, so that `dy` has it and every cotangent is the derivative of the
mean loss. With columns it is in dW and db: there each column of dA is the derivative of its own example's
loss, and the cotangents differ from those with rows by the factor m. Apply it in both places and every
gradient is m times too small; in neither, m times too large. Columns have one thing for them: an example's
cotangents are what per-example readers want, which fnn has with `reduction="sum"`.

Both are fnn networks here: columns take a layer of their own, `Columns`, twenty lines long, and
`fnn.explain` writes out what each computes, line by line, with shapes.
"""

import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.patches import Rectangle

import fnn
from experiments.library.answer import Options, canvas, deliver, heading, run, table
from experiments.library.figures import COOL, INK, SOFT, WARM
from experiments.library.timing import race, speedup

WIDTHS, M = (5, 4, 4, 3), 7


@dataclass(frozen=True)
class Columns(fnn.Leaf):
    """A dense layer for examples in columns: (k, m) -> (j, m). params: `{"W": (j, k), "bias": (j, 1)}`.

    Its `equations` are what `fnn.explain` fills in; the factor 1/m is in its backward.
    """

    features: int
    needs = frozenset(("input",))
    equations = (
        ("{y} = {W} {x} + {bias}",),
        ("d{W} = d{y} {x}^T / m", "d{bias} = sum(d{y}) / m", "d{x} = {W}^T d{y}"),
    )

    def init(self, key: Any, x: Any) -> Any:
        p = fnn.init(fnn.Dense(self.features), key, jax.ShapeDtypeStruct(x.shape[::-1], x.dtype))
        return {"W": p["kernel"].T, "bias": p["bias"][:, None]}

    def forward(self, params: Any, x: Any, key: Any) -> Any:
        return self.recompute(params, x, ()), ()

    def recompute(self, params: Any, x: Any, extras: Any) -> Any:
        return params["W"] @ x + params["bias"]

    def backward(self, params: Any, x: Any, y: Any, extras: Any, dy: Any) -> Any:
        """dW = dZ A^T / m, db = sum dZ / m, dA_prev = W^T dZ"""
        m = x.shape[1]
        gradients = {"W": dy @ x.T / m, "bias": dy.sum(1, keepdims=True) / m}
        return gradients, params["W"].T @ dy


def network(widths: tuple[int, ...]) -> fnn.Serial:
    """Make the layers of `fnn.mlp(widths, fnn.tanh)` for examples in columns."""
    first, *others = (Columns(j) for j in widths[1:])
    return fnn.Serial(first, *(layer for dense in others for layer in (fnn.tanh, dense)))


def to_columns(params: Any) -> Any:
    """Transpose fnn's params: w (k, j) to W (j, k), b (j,) to a column (j, 1)."""
    return tuple({"W": p["kernel"].T, "bias": p["bias"][:, None]} if p else () for p in params)


def columns(net: fnn.Serial, params: Any, X: Any, Y: Any) -> tuple[Any, Any]:
    """Give the gradients and dX by fnn: X (k, m), Y (j, m), half squared error of each example by itself."""
    A, residuals = fnn.forward(net, params, X)
    return fnn.backward(net, params, residuals, A - Y)


def four_equations(params: list[tuple[Any, Any]], X: Any, Y: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Give the same from the four equations alone, as they stand above, for params [(W, b), ...]."""
    values, m = [X], X.shape[1]
    for i, (W, b) in enumerate(params):
        Z = W @ values[-1] + b
        values.append(jnp.tanh(Z) if i < len(params) - 1 else Z)
    dA, grads = values[-1] - Y, []
    for i in reversed(range(len(params))):
        A, A_prev = values[i + 1], values[i]
        dZ = dA * (1 - A**2) if i < len(params) - 1 else dA
        grads.insert(0, (dZ @ A_prev.T / m, dZ.sum(1, keepdims=True) / m))
        dA = params[i][0].T @ dZ
    return grads, dA


def rows(net: fnn.Serial, params: Any, x: Any, t: Any) -> tuple[Any, Any]:
    """Give the gradients and dx by fnn: x (n, k), t (n, j), half squared error, its mean over examples."""
    y, residuals = fnn.forward(net, params, x)
    _, dy = fnn.half_squared_error().value_and_grad(y, t)
    return fnn.backward(net, params, residuals, dy)


def by_name(explained: object) -> str:
    """Give `fnn.explain`'s text with the names of the literature: its v0, v1, v2, ... are A0, Z1, A1, ..."""

    def rename(found: re.Match[str]) -> str:
        d, kind, number = found[1], found[2], int(found[3])
        return f"{d}{'AZ'[number % 2] if kind == 'v' else kind}{(number + 1) // 2}"

    return re.sub(r"(?<![a-zA-Z])(d?)([vWwb])(\d+)", rename, str(explained))


def compare(widths: tuple[int, ...], n: int, seed: int) -> dict[str, tuple[float, float]]:
    """Give how far rows are, transposed, from columns by fnn, and from the four equations: (both, both).

    Each is the largest difference over the gradient's largest entry.
    """
    net, turned = fnn.Serial(*fnn.mlp(widths, fnn.tanh).layers), network(widths)
    x_key, t_key, key = jax.random.split(jax.random.key(seed), 3)
    x, t = jax.random.normal(x_key, (n, widths[0])), jax.random.normal(t_key, (n, widths[-1]))
    params = fnn.init(net, key, x)
    grads, dx = rows(net, params, x, t)
    by_fnn, dX = columns(turned, to_columns(params), x.T, t.T)
    plain = [(p["W"], p["bias"]) for p in to_columns(params) if p]
    by_hand, dX_by_hand = four_equations(plain, x.T, t.T)

    def far(ours: Any, a: Any, b: Any) -> tuple[float, float]:
        return float(abs(ours - a).max() / abs(a).max()), float(abs(ours - b).max() / abs(b).max())

    found: dict[str, tuple[float, float]] = {}
    ours, others = ([g for g in gs if g] for gs in (to_columns(grads), by_fnn))
    for i, (own, other, (dW, db)) in enumerate(zip(ours, others, by_hand, strict=True), 1):
        found[f"dW{i}"] = far(own["W"], other["W"], dW)
        found[f"db{i}"] = far(own["bias"], other["bias"], db)
    return found | {"m dx and dA0": far(n * dx.T, dX, dX_by_hand)}


def times(width: int, n: int, rounds: int) -> dict[str, np.ndarray]:
    """Give the seconds of a compiled gradient, rows and columns in turn."""
    net, turned = fnn.Serial(*fnn.mlp([width] * 4, fnn.tanh).layers), network((width,) * 4)
    x = jax.random.normal(jax.random.key(0), (n, width), jnp.float32)
    params = fnn.init(net, jax.random.key(1), x)
    other, X = to_columns(params), jnp.array(x.T)
    by_rows, by_columns = (jax.jit(f, static_argnums=0) for f in (rows, columns))
    runners = {
        "rows": lambda: by_rows(net, params, x, x),
        "columns": lambda: by_columns(turned, other, X, X),
    }
    return race(runners, rounds)


def main(options: Options, width: int = 512, n: int = 1024) -> dict[str, Any]:
    """Write out both, compare, time, draw, write."""
    heading(f"Rows: fnn.explain with n = {M} examples; A3 = Z3, and dZ3 has the mean loss's 1/n already")
    rows_net, columns_net = fnn.mlp(WIDTHS, fnn.tanh), network(WIDTHS)
    print(by_name(fnn.explain(rows_net, jax.ShapeDtypeStruct((M, WIDTHS[0]), jnp.float32))))
    heading(f"Columns: fnn.explain with m = {M} examples; 1/m is in dW and db")
    print(by_name(fnn.explain(columns_net, jax.ShapeDtypeStruct((WIDTHS[0], M), jnp.float32))))
    with jax.enable_x64(True):
        same = compare(WIDTHS, M, options.seed)
    heading("Rows, transposed: largest difference over the largest entry, in float64")
    head = ("", "from columns by fnn", "from the four equations")
    print(table(head, [(name, *(f"{v:.1e}" for v in values)) for name, values in same.items()]))
    worst = max(max(values) for values in same.values())
    print(f"\nRows and columns are each other's transpose, to {worst:.0e}. What does not turn over is 1/m:")
    print(f"with rows every cotangent has it, with columns dW and db alone, and dA0 is {M} times dx.")
    seconds = times(width * (1 + options.full), n, 15)
    ratio = speedup(seconds["columns"], seconds["rows"])
    heading(f"Time of a compiled gradient, three layers of {width * (1 + options.full)}, {n} examples")
    print(f"columns take {ratio} times as long as rows (median of ratios taken in turn, quartiles)")
    found = {"largest difference": same, "time of columns over rows": list(ratio)}
    return deliver(options, "rows_or_columns", found, draw())


def draw() -> Any:
    """Draw the product that makes dW both ways, its sides to scale."""
    figure, both = canvas("The same product turned over; what moves is the factor 1/m", 2, size=(11, 3.6))
    n, k, j = 7, 5, 3
    sides = {"n": n, "m": n, "k": k, "j": j}
    made = {
        r"rows: $dw = x^T dz$": ("the factor 1/n is in dz already, from the mean loss",
            [("k", "n", "$x^T$", COOL, ""), ("n", "j", "dz", WARM, "="), ("k", "j", "dw", INK, "")]),
        r"columns: $dW = dZ\,A^T / m$": ("dZ is of each example's own loss: the factor 1/m is here",
            [("j", "m", "dZ", WARM, ""), ("m", "k", "$A^T$", COOL, "/ m  ="), ("j", "k", "dW", INK, "")]),
    }  # fmt: skip
    for axes, (title, (note, parts)) in zip(both, made.items(), strict=True):
        left = 0.0
        for down, across, name, colour, sign in parts:
            height, width = sides[down], sides[across]
            axes.add_patch(Rectangle((left, -height / 2), width, height, color=colour, alpha=0.25))
            axes.text(left + width / 2, 0, name, ha="center", va="center", fontsize=14, color=colour)
            axes.text(left - 0.2, 0, down, ha="right", va="center", color=SOFT)
            axes.text(left + width / 2, -height / 2 - 0.2, across, ha="center", va="top", color=SOFT)
            left += width + (3.6 if sign else 1.6)
            axes.text(left - 2.1, 0, sign, ha="center", va="center", fontsize=14)
        middle = (left - 1.6) / 2
        axes.text(middle, -5.6, note, ha="center")
        axes.set(xlim=(middle - 12, middle + 12), ylim=(-6, 4), title=title, aspect="equal")
        axes.set_axis_off()
    return figure


if __name__ == "__main__":
    run(main, __doc__)
