"""Custom activations by pairs: a function, its derivative, and a different pair for each layer.

    python -m experiments.questions.own_activations

An activation is a pair, f and f'. `fnn.activation(f, df)` makes a layer of it, `of="output"` says that df
takes A = f(Z) instead of Z, so that a chain keeps that side. Nothing checks a pair when it is made: a
derivative may be any function. `fnn.check.gradient` does, of `fnn.apply` on inputs of your own, and it
tries others: small and large ones, and zeros.

Here a network takes a sine, a bump, a swish and an inverse tangent, one for each layer, and learns. Then
pairs that are wrong in the usual ways are given to the checker, beside the right one.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.library.answer import (
    Options,
    canvas,
    deliver,
    heading,
    label,
    run,
    table,
)
from experiments.library.data import from_scikit_learn
from experiments.library.figures import COOL, WARM
from fnn import check


def bump(z: Any) -> Any:
    return jnp.exp(-z * z)


def swish(z: Any) -> Any:
    return z * jax.nn.sigmoid(z)


def bell(a: Any) -> Any:
    """1 / (1 + tan(a)^2): the derivative of the inverse tangent, from its output."""
    return jnp.cos(a) ** 2


RIGHT: dict[str, Any] = {
    "sine": fnn.activation(jnp.sin, jnp.cos),
    "bump": fnn.activation(bump, lambda z: -2 * z * bump(z)),
    "swish": fnn.activation(swish, lambda z: jax.nn.sigmoid(z) * (1 + z * (1 - jax.nn.sigmoid(z)))),
    "inverse tangent": fnn.activation(jnp.arctan, bell, of="output"),
}
WRONG: dict[str, tuple[str, Any]] = {
    "sine": ("-cos(z), the sign", fnn.activation(jnp.sin, lambda z: -jnp.cos(z))),
    "bump": ("-z f(z), the factor 2", fnn.activation(bump, lambda z: -z * bump(z))),
    "swish": ("sigmoid(z), a term dropped", fnn.activation(swish, jax.nn.sigmoid)),
    "inverse tangent": (
        "1 / (1 + z^2), of the output", fnn.activation(jnp.arctan, lambda a: 1 / (1 + a**2), "output")
    ),
    "tanh": ("1 - z^2, of the input", fnn.activation(jnp.tanh, lambda z: 1 - z**2)),
}  # fmt: skip


def ask(activation: fnn.activations.Activation, seed: int, level: Any = "standard") -> check.Report:
    """Ask the checker about a pair, on inputs around zero."""
    z = jax.random.normal(jax.random.key(seed), (5, 3), jnp.float32)

    def apply(z: Any) -> Any:
        return fnn.apply(activation, (), z)

    return check.gradient(apply, z, reference=activation.f, level=level)


def verdict(said: check.Report) -> str:
    """Give the verdict and the mistake's name."""
    return f"{said.verdict}" + (f": {said.mistake}" if said.mistake else "")


def learn(net: Any, x: Any, t: Any, steps: int, rate: float, seed: int) -> tuple[np.ndarray, Any]:
    """Descend the whole batch's gradient: give the loss of each step and the params."""
    value_and_grad = fnn.value_and_grad(net, fnn.softmax_cross_entropy())

    def step(params: Any, _: Any) -> tuple[Any, Any]:
        value, grads = value_and_grad(params, x, t)
        return jax.tree.map(lambda p, g: p - rate * g, params, grads), value

    params, losses = jax.jit(lambda p: jax.lax.scan(step, p, None, steps))(
        fnn.init(net, jax.random.key(seed), x)
    )
    return np.asarray(losses), params


def main(options: Options, steps: int = 150) -> dict[str, Any]:
    """Learn with right and wrong pairs, ask the checker about each, print, draw, write."""
    digits = from_scikit_learn(options.seed)
    x, t = jnp.asarray(digits.x), jnp.asarray(digits.t)
    net = fnn.mlp([64, 32, 32, 32, 32, 10], list(RIGHT.values()))
    heading("A different pair in each layer")
    print(fnn.summary(net, x))
    steps *= 1 + 4 * options.full
    curves, accuracy = {}, {}
    wrong_net = fnn.mlp([64, 32, 32, 32, 32, 10], [WRONG[name][1] for name in RIGHT])
    for name, which in (("right pairs", net), ("wrong pairs", wrong_net)):
        curves[name], params = learn(which, x, t, steps, 0.3, options.seed)
        read = fnn.apply(which, params, jnp.asarray(digits.x_test)).argmax(-1)
        accuracy[name] = float(np.mean(np.asarray(read) == digits.t_test))
        told = f"{accuracy[name]:.1%} of held-out digits right"
        print(f"{name}: loss {curves[name][-1]:.4f} after {steps} steps, {told}")
    said: dict[str, check.Report] = {f"{name}, right": ask(a, options.seed) for name, a in RIGHT.items()}
    said |= {f"{name}, {words}": ask(a, options.seed) for name, (words, a) in WRONG.items()}
    heading("What fnn.check says of each pair")
    print(table(("pair", "verdict"), [(name, verdict(report)) for name, report in said.items()], left=2))
    wrong = [report for report in said.values() if report.verdict is not check.Verdict.PASS]
    named = sum(bool(report.mistake) for report in wrong)
    right = len(said) - len(wrong)
    print(
        f"\n{right} right pairs pass, {len(wrong)} wrong ones fail; of {named} the checker names the mistake."
    )
    for name, report in said.items():
        if report.verdict is not check.Verdict.PASS:
            heading(name)
            print(report)
    found = {
        "verdicts": {name: verdict(report) for name, report in said.items()},
        "held-out accuracy": accuracy,
        "last loss": {name: float(values[-1]) for name, values in curves.items()},
    }
    return deliver(options, "own_activations", found, draw(curves, found["verdicts"]))


def draw(curves: dict[str, np.ndarray], verdicts: dict[str, str]) -> Any:
    """Draw each pair with its wrong derivative, and the loss with right and with wrong ones."""
    figure, axes = canvas("Derivatives that are wrong in the usual ways, and what fnn.check calls them", 3, 2,
                          size=(13, 6.4))  # fmt: skip
    z = jnp.linspace(-3, 3, 200)
    for part, (name, right) in zip(axes[:, :2].flat, RIGHT.items(), strict=True):
        words, wrong = WRONG[name]
        a = right.f(z)
        part.axhline(0, color="#dddddd", linewidth=0.8)
        part.plot(z, right.df(a if right.of == "output" else z), color=COOL, label="f'")
        part.plot(
            z, wrong.df(a if wrong.of == "output" else z), color=WARM, linestyle="--", label="given as f'"
        )
        said = next(v for k, v in verdicts.items() if k.startswith(f"{name}, {words}"))
        part.set_title(
            f"{name}: " + (said.removeprefix("FAIL: ") if ":" in said else f"{said}, without a name")
        )
        part.set(xlabel="z", xticks=range(-3, 4))
    axes[1, 0].legend(loc="upper left")
    grid = axes[0, 2].get_gridspec()
    for part in axes[:, 2]:
        part.remove()
    last = figure.add_subplot(grid[:, 2])
    for (name, losses), colour in zip(curves.items(), (COOL, WARM), strict=True):
        last.plot(losses, color=colour, linestyle="-" if colour == COOL else "--")
        label(last, (len(losses) - 1, losses[-1]), name.split()[0], colour)
    last.set(
        xlabel="step",
        yscale="log",
        title="loss on digits, with all four pairs",
        xlim=(0, 1.2 * len(curves["right pairs"])),
    )
    last.yaxis.set_major_formatter("{x:g}")
    return figure


if __name__ == "__main__":
    run(main, __doc__)
