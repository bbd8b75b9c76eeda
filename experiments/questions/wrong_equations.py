"""Why are these equations wrong?

    python -m experiments.questions.wrong_equations

A network with two relu layers and a sigmoid, and cross-entropy, one example a column, m of them:

    Z1 = W1 X + b1     A1 = relu(Z1)
    Z2 = W2 A1 + b2    A2 = relu(Z2)
    Z3 = W3 A2 + b3    A3 = sigmoid(Z3)     L = -sum(Y log A3 + (1 - Y) log(1 - A3)) / m

Five lines of its backward pass are wrong in hand derivations again and again. Each takes something for
something else that has a similar name:

    (a) the derivative of log(1 - A) for that of log(A)     a denominator copied from the term before
    (b) sigmoid for its derivative                          f where the chain rule asks for f'(Z)
    (c) a cotangent for the value beside it                 W3 was multiplied by A2, and by nothing else
    (d) relu of dA2 for relu' of Z2                         the mask is the forward's, whatever sign dA2 has
    (e) the rule for dW where that for dA belongs           dA1 asks through which weights A1 went: W2^T

Here each wrong line stands alone among right ones, and `fnn.check` is asked about the whole. The network
comes in two sizes. In one, all sizes differ, and shapes alone give (c) and (e) away. In the other, all
are 4 x 4, so that every line fits and only its values are wrong: that is how such lines survive.

Last, two things fall out. With the right (a) and (b), dZ3 = dA3 A3 (1 - A3) is just A3 - Y: fnn's loss takes
the logits Z3 and starts there, where the longer way divides by a probability that may have rounded to zero.
And in the scalar network z = f2(w2 f1(w1 x)) every number can be followed by hand. Its usual derivation has a
sign that is right for a performance to climb, -(d - z)^2 / 2; copied beside a loss to descend, (z - d)^2 / 2,
it turns every gradient around.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

import fnn
from experiments.library.answer import Options, canvas, deliver, heading, run, table
from experiments.library.equations import (
    PARAMS,
    WRONG,
    State,
    backward_pass,
    forward_pass,
    slope,
)
from experiments.library.figures import COOL, WHITE_TO_WARM
from fnn import check


def problem(widths: tuple[int, int, int, int], m: int, seed: int) -> tuple[tuple[Any, ...], Any, Any]:
    """Draw params for these widths, inputs (k, m), and labels that are 0 or 1."""
    random = np.random.default_rng(seed)
    params = []
    for k, j in zip(widths[:-1], widths[1:], strict=True):
        params += [random.normal(0, 1 / np.sqrt(k), (j, k)), random.normal(0, 0.3, (j, 1))]
    X, Y = random.normal(0, 1, (widths[0], m)), random.integers(0, 2, (widths[-1], m)).astype(float)
    return (
        tuple(jnp.asarray(a, jnp.float32) for a in params),
        jnp.asarray(X, jnp.float32),
        jnp.asarray(Y, jnp.float32),
    )


def ask(params: tuple[Any, ...], X: Any, Y: Any, letter: str = "") -> check.Report:
    """Ask the checker about the derivation with this wrong line."""

    def derivation(W1: Any, b1: Any, W2: Any, b2: Any, W3: Any, b3: Any) -> tuple[Any, Any]:
        loss, s = forward_pass((W1, b1, W2, b2, W3, b3), X, Y)
        return loss, {name: getattr(s, name) for name in (*PARAMS, *"Z1 A1 Z2 A2 Z3 A3".split())}

    def backward(residuals: Any, dL: Any) -> tuple[Any, ...]:
        grads = backward_pass(State(X=X, Y=Y, m=X.shape[1], **residuals), letter)
        return tuple(dL * grad for grad in grads)

    return check.pair(derivation, backward, *params, level="quick")


def verdict(said: check.Report) -> str:
    """Give the checker's verdict in a word or two."""
    return f"{said.verdict}" + (f": {said.mistake}" if said.mistake else "")


def off(said: check.Report) -> list[float]:
    """Give how far the gradient of each param is off, relative to its largest entry; NaN without value."""
    errors = {leaf.name: leaf.error for leaf in said.leaves}
    return [errors.get(name, float("nan")) for name in PARAMS]


def scalar(x: float, w1: float, w2: float, d: float, sign: int = 1) -> dict[str, float]:
    """Work out the scalar network with sigmoids, and its gradients, number by number."""
    p1 = w1 * x
    y = float(fnn.sigmoid(jnp.asarray(p1)))
    p2 = w2 * y
    z = float(fnn.sigmoid(jnp.asarray(p2)))
    dz = sign * (z - d)
    dp2 = dz * z * (1 - z)
    dw2, dy = dp2 * y, dp2 * w2
    dp1 = dy * y * (1 - y)
    return {"p1": p1, "y": y, "p2": p2, "z": z, "loss": (z - d) ** 2 / 2, "dz": dz, "dp2": dp2,
            "dw2": dw2, "dy": dy, "dp1": dp1, "dw1": dp1 * x}  # fmt: skip


def ask_scalar(sign: int) -> check.Report:
    """Ask the checker about the scalar network's gradients, with dz = z - d (1) or d - z (-1)."""

    def loss(w1: Any, w2: Any) -> tuple[Any, Any]:
        y = fnn.sigmoid(w1 * 1.5)
        z = fnn.sigmoid(w2 * y)
        return (z - 1.0) ** 2 / 2, (w2, y, z)

    def backward(residuals: Any, dL: Any) -> tuple[Any, Any]:
        w2, y, z = residuals
        dp2 = dL * sign * (z - 1.0) * z * (1 - z)
        return dp2 * w2 * y * (1 - y) * 1.5, dp2 * y

    return check.pair(loss, backward, jnp.float32(0.8), jnp.float32(-0.6), level="quick")


def main(options: Options) -> dict[str, Any]:
    """Ask about every wrong line and about the right ones; print, draw, write."""
    differ, same = problem((5, 4, 3, 1), 7, options.seed), problem((4, 4, 4, 4), 4, options.seed)
    heading("One wrong line among right ones")
    asked = {letter: (ask(*differ, letter), ask(*same, letter)) for letter in ("", *WRONG)}
    rows = [("", "", "all right", "", *map(verdict, asked[""]))]
    for k, line in WRONG.items():
        rows.append((f"({k})", line.name, line.wrong, line.right, *map(verdict, asked[k])))
    print(table(("", "", "wrong", "right", "sizes 5 4 3 1, m = 7", "all sizes 4"), rows, left=4))
    for letter, line in WRONG.items():
        heading(f"({letter}) {line.name} = {line.wrong}, instead of {line.right}: what the checker says")
        print(asked[letter][1])
        if verdict(asked[letter][0]) != verdict(asked[letter][1]):
            print(f"and where sizes differ: {asked[letter][0]}")
    heading("What falls out: dZ3 = A3 - Y")
    _, s = forward_pass(*differ)
    backward_pass(s)
    _, dy = fnn.binary_cross_entropy(reduction="sum").value_and_grad(s.Z3.T, s.Y.T)
    gap, fnn_gap = (float(abs(s.dZ3 - other).max()) for other in (s.A3 - s.Y, dy.T))
    print(f"largest |dZ3 - (A3 - Y)|: {gap:.1e}; from fnn.binary_cross_entropy's dy: {fnn_gap:.1e}")
    far, label = jnp.asarray([[-120.0]]), jnp.asarray([[1.0]])
    p = fnn.sigmoid(far)
    long = slope(fnn.sigmoid, far, -(label / p - (1 - label) / (1 - p)))
    short = fnn.binary_cross_entropy(reduction="sum").value_and_grad(far, label)[1]
    print(
        f"at a logit of -120 and Y = 1, in float32: by (a) and (b) {float(long[0, 0])}, "
        f"by A3 - Y {float(short[0, 0])}"
    )
    heading("The scalar network, z = f2(w2 f1(w1 x)), x = 1.5, w1 = 0.8, w2 = -0.6, d = 1, f1 = f2 = sigmoid")
    numbers, turned = scalar(1.5, 0.8, -0.6, 1.0), scalar(1.5, 0.8, -0.6, 1.0, sign=-1)
    texts = ("w1 x", "f1(p1)", "w2 y", "f2(p2)", "(z - d)^2 / 2", "z - d", "dz f2'(p2) = dz z (1 - z)",
             "dp2 y", "dp2 w2", "dy f1'(p1) = dy y (1 - y)", "dp1 x")  # fmt: skip
    rows = [
        (n, text, f"{numbers[n]:+.6f}", f"{turned[n]:+.6f}") for n, text in zip(numbers, texts, strict=True)
    ]
    print(table(("", "", "dz = z - d", "dz = d - z, wrong"), rows, left=2))
    scalars = {"z - d": ask_scalar(1), "d - z": ask_scalar(-1)}
    for name, said in scalars.items():
        print(f"\ndz = {name}: {said}")
    found = {
        "verdicts": {k or "right": list(map(verdict, pair)) for k, pair in asked.items()},
        "errors, all sizes 4": {
            k or "right": dict(zip(PARAMS, off(pair[1]), strict=True)) for k, pair in asked.items()
        },
        "largest |dZ3 - (A3 - Y)|": gap,
        "gradient at a logit of -120": {"long": str(float(long[0, 0])), "short": float(short[0, 0])},
        "scalar": numbers,
        "scalar verdicts": {name: verdict(said) for name, said in scalars.items()},
    }
    errors = np.array([off(pair[1]) for pair in asked.values()])
    return deliver(
        options, "wrong_equations", found, draw(errors, [verdict(pair[1]) for pair in asked.values()])
    )


def draw(errors: np.ndarray, verdicts: list[str]) -> Any:
    """Draw which gradients each wrong line spoils (all sizes 4), last layer first as the backward goes."""
    figure, axes = canvas(
        "A wrong line spoils its own gradient and all behind it, and no shape tells", size=(11, 4.6)
    )
    order = [4, 5, 2, 3, 0, 1]
    shown = np.clip(np.nan_to_num(errors[1:, order], nan=1), 0, 1)
    axes.imshow(shown, cmap=WHITE_TO_WARM, aspect="auto", vmin=0, vmax=1.2)
    for (i, j), error in np.ndenumerate(errors[1:, order]):
        if not error < 1e-5:
            axes.text(j, i, "no value" if np.isnan(error) else f"{error:.0%}", ha="center", va="center")
    axes.set_xticks(range(len(order)), [f"d{PARAMS[j]}" for j in order])
    axes.set_xlabel("gradients in the order in which the backward makes them")
    axes.set_yticks(range(len(errors) - 1), [f"({k}) {n.name} = {n.wrong}" for k, n in WRONG.items()])
    said = axes.secondary_yaxis("right")
    said.set_yticks(
        range(len(errors) - 1), [word.removeprefix("FAIL: ") for word in verdicts[1:]], color=COOL
    )
    said.set_ylabel("what fnn.check names", color=COOL)
    for side in (axes, said):
        side.tick_params(length=0)
        side.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(order) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(errors) - 2) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=3)
    axes.tick_params(which="minor", length=0)
    axes.set_title("error of each gradient, over its largest entry; white: right to rounding")
    return figure


if __name__ == "__main__":
    run(main, __doc__)
