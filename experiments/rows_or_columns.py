"""Rows or columns?

    python experiments/rows_or_columns.py

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
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.patches import Rectangle

import fnn
from answer import Options, canvas, deliver, heading, run, table
from figures import COOL, INK, SOFT, WARM
from timing import race, speedup

WIDTHS = (5, 4, 4, 3)
Columns = list[tuple[Any, Any]]  # for each layer W (j, k) and b (j, 1)


def to_columns(params: Any) -> Columns:
    """Transpose fnn's params: w (k, j) to W (j, k), b (j,) to a column (j, 1)."""
    return [(p["w"].T, p["b"][:, None]) for p in params if p]


def columns(params: Columns, X: Any, Y: Any) -> tuple[Columns, Any]:
    """Give the gradients and dX, by the four equations: X (k, m), Y (j, m), half squared error."""
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


def equations(widths: tuple[int, ...], m: int) -> str:
    """Write out the columns' equations with shapes, as `fnn.explain` does the rows'."""
    last, lines = len(widths) - 1, []
    for i in range(1, last + 1):
        k, j = widths[i - 1 : i + 1]
        f = "tanh" if i < last else "identity"
        lines.append((f"Z{i} = W{i} A{i - 1} + b{i}", f"({j}, {m}) = ({j}, {k}) ({k}, {m}) + ({j}, 1)"))
        lines.append((f"A{i} = {f}(Z{i})", f"({j}, {m}) = {f}(({j}, {m}))"))
    for i in range(last, 0, -1):
        k, j = widths[i - 1 : i + 1]
        slope = f"dA{i} * tanh'(Z{i})" if i < last else f"dA{i}"
        lines.append((f"dZ{i} = {slope}", f"({j}, {m}) = ({j}, {m})" + f" * ({j}, {m})" * (i < last)))
        lines.append((f"dW{i} = dZ{i} A{i - 1}^T / m", f"({j}, {k}) = ({j}, {m}) ({k}, {m})^T / {m}"))
        lines.append((f"db{i} = sum(dZ{i}) / m", f"({j}, 1) = sum(({j}, {m})) / {m}"))
        lines.append((f"dA{i - 1} = W{i}^T dZ{i}", f"({k}, {m}) = ({j}, {k})^T ({j}, {m})"))
    width = max(len(text) for text, _ in lines)
    told = [f"{i:4}  {text:{width}}   {shapes}" for i, (text, shapes) in enumerate(lines, 1)]
    return "\n".join(["forward", *told[: 2 * last], "backward", *told[2 * last :]])


def compare(widths: tuple[int, ...], n: int, seed: int) -> dict[str, float]:
    """Give the largest differences between the two, after transposition, relative to the largest entry."""
    net = fnn.mlp(widths, fnn.tanh)
    x_key, t_key, key = jax.random.split(jax.random.key(seed), 3)
    x, t = jax.random.normal(x_key, (n, widths[0])), jax.random.normal(t_key, (n, widths[-1]))
    params = fnn.init(net, key, x)
    grads, dx = rows(net, params, x, t)
    theirs, dX = columns(to_columns(params), x.T, t.T)
    found = {}
    for i, (ours, (dW, db)) in enumerate(zip([g for g in grads if g], theirs, strict=True), 1):
        found[f"dW{i}"] = float(abs(ours["w"].T - dW).max() / abs(dW).max())
        found[f"db{i}"] = float(abs(ours["b"][:, None] - db).max() / abs(db).max())
    found["n dx and dA0"] = float(abs(n * dx.T - dX).max() / abs(dX).max())
    return found


def times(width: int, n: int, rounds: int) -> dict[str, np.ndarray]:
    """Give the seconds of a compiled gradient, rows and columns in turn."""
    net = fnn.mlp([width] * 4, fnn.tanh)
    x = jax.random.normal(jax.random.key(0), (n, width), jnp.float32)
    params = fnn.init(net, jax.random.key(1), x)
    turned, X = to_columns(params), jnp.array(x.T)
    by_rows, by_columns = jax.jit(rows, static_argnums=0), jax.jit(columns)
    runners = {"rows": lambda: by_rows(net, params, x, x), "columns": lambda: by_columns(turned, X, X)}
    return race(runners, rounds)


def main(options: Options, width: int = 512, n: int = 1024) -> dict[str, Any]:
    """Write out both, compare, time, draw, write."""
    net = fnn.mlp(WIDTHS, fnn.tanh)
    heading("Rows: fnn.explain, 7 examples (dv3 has the mean's 1/7 already)")
    print(fnn.explain(net, jax.ShapeDtypeStruct((7, WIDTHS[0]), jnp.float32)))
    heading("Columns: the same network, 7 examples")
    print(equations(WIDTHS, 7))
    with jax.enable_x64(True):
        same = compare(WIDTHS, 7, options.seed)
    heading("Largest difference after transposition, relative to the largest entry, in float64")
    print(table(("", "rows and columns"), [(name, f"{value:.1e}") for name, value in same.items()]))
    seconds = times(width * (1 + options.full), n, 15)
    ratio = speedup(seconds["columns"], seconds["rows"])
    heading(f"Time of a compiled gradient, three layers of {width * (1 + options.full)}, {n} examples")
    print(f"columns take {ratio} times as long as rows (median of ratios taken in turn, quartiles)")
    found = {"largest difference": same, "time of columns over rows": list(ratio)}
    return deliver(options, "rows_or_columns", found, draw())


def draw() -> Any:
    """Draw the product that makes dW both ways, its sides to scale."""
    figure, both = canvas(2, size=(10, 3))
    n, k, j = 7, 5, 3
    made = {"rows:  dw = x^T dz": [(k, n, "x^T", COOL), (n, j, "dz", WARM), (k, j, "dw", INK)],
            "columns:  dW = dZ A^T / m": [(j, n, "dZ", WARM), (n, k, "A^T", COOL), (j, k, "dW", INK)],
            }  # fmt: skip
    letters = [("k", "n", "n", "j", "k", "j"), ("j", "m", "m", "k", "j", "k")]
    for axes, (title, parts), names in zip(both, made.items(), letters, strict=True):
        left = 0.0
        for i, (height, width, name, colour) in enumerate(parts):
            axes.add_patch(Rectangle((left, -height / 2), width, height, color=colour, alpha=0.25))
            axes.text(left + width / 2, 0, name, ha="center", va="center", fontsize=12, color=colour)
            axes.text(left - 0.15, 0, names[2 * i], ha="right", va="center", color=SOFT)
            axes.text(
                left + width / 2, -height / 2 - 0.2, names[2 * i + 1], ha="center", va="top", color=SOFT
            )
            left += width + 2.4
            if i < 2:
                sign = "" if i == 0 else "=" if "rows" in title else "/ m ="
                axes.text(left - 1.4, 0, sign, ha="center", va="center", fontsize=11)
        axes.set(xlim=(-0.8, 21), ylim=(-4.8, 4), title=title, aspect="equal")
        axes.set_axis_off()
    note = (
        "the factor 1/n is in dz already, from the mean loss",
        "dZ is of each example's own loss: 1/m is here",
    )
    for axes, text in zip(both, note, strict=True):
        axes.text(10, -4.7, text, ha="center", fontsize=9)
    return figure


if __name__ == "__main__":
    run(main, __doc__)
