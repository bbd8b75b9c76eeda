"""The same gradient under jit, vmap, scan, checkpoint and on several devices, and the derivative of the
gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fnn.check.arguments import Arguments, exact, is_inexact
from fnn.check.attempt import first_line
from fnn.check.bench import Bench
from fnn.check.effort import in_float64
from fnn.check.interpret import evaluate
from fnn.check.progress import Progress
from fnn.check.subject import Subject, cotangent

NAMES = ("jit", "vmap", "scan", "checkpoint", "devices")
Gradients = list[np.ndarray]


def check(
    bench: Bench, arguments: Arguments, dys: list[Any], names: Sequence[str], order: int, p: Progress
) -> None:
    """Run the transforms by name, and second order where `order` is 2; report what differs from the plain
    gradient.
    """
    f = as_function(bench.subject)
    dy = [jnp.asarray(d[0]) for d in dys]
    plain = Run(f, arguments, [jnp.asarray(d) for d in dy])
    tolerances = bench.tolerances(bench.measure(arguments, dys))
    for name in names:
        if name == "devices" and len(jax.devices()) < 2:
            p.notes.append("devices: not tried, there is only one")
            continue
        p.checks.append(name)
        try:
            for probe, got, want in _CHECKS[name](plain):
                _compare(bench, probe, got, want, tolerances, name, p)
        except Exception as error:  # the user's function under a transform
            p.fail(
                name,
                f"under {name} it raises {type(error).__name__}: {first_line(error)}",
                f"wrong under {name}",
            )
    if order == 2 and not p.failed:
        p.checks.append("second order")
        _second_order(bench, plain, p)


class Run:
    """A function with its arguments and one cotangent: `gradients(f)` are those of the active leaves."""

    def __init__(self, f: Callable[..., Any], arguments: Arguments, dy: Sequence[Any]):
        self.f, self.arguments, self.dy = f, arguments, dy

    def pull(self, f: Callable[..., Any], leaves: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
        """Give the gradients of `f`, differentiated by JAX with its own rule."""

        def chosen(*some: Any) -> Any:
            full = list(leaves)
            for i, x in zip(self.arguments.active, some, strict=True):
                full[i] = x
            return f(*self.arguments.unflatten(full))

        out, pullback = jax.vjp(chosen, *[leaves[i] for i in self.arguments.active])
        return list(pullback(cotangent(*jax.tree.flatten(out), dy)))

    def gradients(self, f: Callable[..., Any] | None = None) -> Gradients:
        """Give them at the arguments, on the host."""
        return [exact(g) for g in self.pull(f or self.f, self.arguments.leaves, self.dy)]


def as_function(subject: Subject) -> Callable[..., Any]:
    """Give the subject as a function with a `custom_vjp`, which is how transforms meet it."""
    if subject.function is not None:
        return subject.function
    f = jax.custom_vjp(subject.primal)
    f.defvjp(subject.forward, subject.backward)
    return f


def _jit(run: Run) -> Any:
    leaves, dy = tuple(run.arguments.leaves), tuple(run.dy)
    got = jax.jit(lambda leaves, dy: run.pull(run.f, leaves, dy))(leaves, dy)
    yield "jit", [exact(g) for g in got], run.gradients()


def _vmap(run: Run) -> Any:
    """All arguments batched, then each in turn unbatched, then the cotangent alone batched."""
    leaves, rows = run.arguments.leaves, 3
    moved = [_rows(x, rows) for x in leaves]
    dys = [jnp.stack([d * (k + 1) for k in range(rows)]) for d in run.dy]
    one = lambda leaves, dy: run.pull(run.f, leaves, dy)  # noqa: E731
    floating = [i for i, x in enumerate(leaves) if is_inexact(x)]
    plans = [("all batched", [0 if i in floating else None for i in range(len(leaves))])]
    if len(floating) > 1:
        plans += [
            (
                f"{run.arguments.names[i]} unbatched",
                [0 if j in floating and j != i else None for j in range(len(leaves))],
            )
            for i in floating
        ]
        plans += [
            (f"only {run.arguments.names[i]} batched", [0 if j == i else None for j in range(len(leaves))])
            for i in floating
        ]
    for text, axes in plans:
        given = [m if a == 0 else x for m, x, a in zip(moved, leaves, axes, strict=True)]
        got = jax.jit(jax.vmap(one, in_axes=(axes, 0)))(given, dys)
        loop = [
            one([g[k] if a == 0 else g for g, a in zip(given, axes, strict=True)], [d[k] for d in dys])
            for k in range(rows)
        ]
        yield (
            f"vmap, {text}",
            [exact(g) for g in got],
            [np.stack([exact(x) for x in g]) for g in zip(*loop, strict=True)],
        )


def _scan(run: Run) -> Any:
    scales = jnp.asarray([1.0, 2.0, 0.5])

    def body(total: Any, scale: Any) -> Any:
        grads = run.pull(run.f, run.arguments.leaves, [(d * scale).astype(d.dtype) for d in run.dy])
        return [t + g for t, g in zip(total, grads, strict=True)], None

    zero = [jnp.zeros_like(run.arguments.leaves[i]) for i in run.arguments.active]
    got = jax.jit(lambda: lax.scan(body, zero, scales)[0])()
    yield "scan over the gradient", [exact(g) for g in got], [3.5 * g for g in run.gradients()]

    def repeated(*args: Any) -> Any:
        step = lambda carry, _: (carry, run.f(*args))  # noqa: E731
        return jax.tree.map(lambda y: y[0], lax.scan(step, 0.0, None, length=2)[1])

    yield "gradient through a scan", run.gradients(repeated), run.gradients()


def _checkpoint(run: Run) -> Any:
    yield "checkpoint", run.gradients(jax.checkpoint(run.f)), run.gradients()


def _devices(run: Run) -> Any:
    """Rows spread over all devices, parameters on each of them."""
    devices = np.array(jax.devices())
    mesh = Mesh(devices, ("rows",))
    rows = next((x.shape[0] for x in run.arguments.leaves if len(x.shape) > 1), 0)
    if rows % len(devices):
        return
    spread = lambda x: len(x.shape) > 0 and x.shape[0] == rows  # noqa: E731
    place = lambda x: jax.device_put(  # noqa: E731
        x, NamedSharding(mesh, PartitionSpec("rows") if spread(x) else PartitionSpec())
    )
    leaves, dy = [place(x) for x in run.arguments.leaves], [place(d) for d in run.dy]
    got = jax.jit(lambda leaves, dy: run.pull(run.f, leaves, dy))(leaves, dy)
    yield f"rows on {len(devices)} devices", [exact(g) for g in got], run.gradients()


_CHECKS: dict[str, Callable[[Run], Any]] = {
    "jit": _jit, "vmap": _vmap, "scan": _scan, "checkpoint": _checkpoint, "devices": _devices,
}  # fmt: skip


def _second_order(bench: Bench, run: Run, p: Progress) -> None:
    """Pull a random cotangent back through the backward pass itself, ours and autodiff's in float64."""
    rng = np.random.default_rng(2)
    active = run.arguments.active
    us = [
        rng.standard_normal(run.arguments.leaves[i].shape).astype(run.arguments.leaves[i].dtype)
        for i in active
    ]

    def twice(first: Callable[..., Any], leaves: Sequence[Any], us: Sequence[Any]) -> list[Any]:
        def chosen(*xs: Any) -> Any:
            full = list(leaves)
            for i, x in zip(active, xs, strict=True):
                full[i] = x
            return first(full)

        return list(jax.vjp(chosen, *[leaves[i] for i in active])[1](list(us)))

    try:
        got = [exact(g) for g in twice(lambda x: run.pull(run.f, x, run.dy), run.arguments.leaves, us)]
    except Exception as error:  # the user's rule
        p.fail(
            "second order",
            f"the backward pass cannot be differentiated: {first_line(error)}",
            "second order undefined",
        )
        return
    want = _right_second_order(bench, run, us, twice)
    working = _working_second_order(bench, run, us, twice)
    for name, g, w, o, dtype in zip(bench.names, got, want, working, bench.dtypes, strict=True):
        size = float(np.max(np.abs(w), initial=0.0))
        noise = float(np.max(np.abs(o - w), initial=0.0))
        allowed = 8 * max(noise, 8 * float(jnp.finfo(dtype).eps) * size, float(jnp.finfo(dtype).tiny))
        error = float(np.max(np.abs(g - w), initial=0.0))
        if not error <= allowed and allowed <= max(size, 1e-30):
            text = f"the second derivative by {name} is off by {error:.1e} where {allowed:.1e} is allowed"
            p.fail("second order", text, "" if p.mistakes else "second order wrong", name)


def _first_gradient(bench: Bench, leaves: Sequence[Any], dy: Sequence[Any], wide: bool) -> list[Any]:
    traced = bench.traced
    active = traced.arguments.active

    def f(*xs: Any) -> list[Any]:
        full = list(leaves)
        for i, x in zip(active, xs, strict=True):
            full[i] = x
        ys = evaluate(traced.jaxpr.jaxpr, traced.jaxpr.consts, full, wide=wide)
        return [ys[i] for i in traced.outputs]

    ys, pullback = jax.vjp(f, *[leaves[i] for i in active])
    return list(pullback([jnp.asarray(d).astype(y.dtype) for d, y in zip(dy, ys, strict=True)]))


def _right_second_order(bench: Bench, run: Run, us: Sequence[Any], twice: Callable[..., Any]) -> Gradients:
    with in_float64():
        leaves = [jnp.asarray(exact(x)) if is_inexact(x) else x for x in run.arguments.leaves]
        wide = jax.jit(
            lambda leaves, us: twice(lambda x: _first_gradient(bench, x, run.dy, True), leaves, us)
        )
        return [exact(g) for g in wide(leaves, [np.asarray(u, np.float64) for u in us])]


def _working_second_order(bench: Bench, run: Run, us: Sequence[Any], twice: Callable[..., Any]) -> Gradients:
    narrow = jax.jit(lambda leaves, us: twice(lambda x: _first_gradient(bench, x, run.dy, False), leaves, us))
    return [exact(g) for g in narrow(list(run.arguments.leaves), us)]


def _compare(
    bench: Bench,
    probe: str,
    got: Gradients,
    want: Gradients,
    tolerances: Sequence[float],
    transform: str,
    p: Progress,
) -> None:
    for name, g, w, tolerance in zip(bench.names, got, want, tolerances, strict=True):
        error = float(np.max(np.abs(g - w), initial=0.0)) if g.shape == w.shape else float("inf")
        if not error <= 8 * max(tolerance, 1e-6 * float(np.max(np.abs(w), initial=0.0))):
            text = f"{probe}: the gradient of {name} is {error:.1e} from the plain one"
            p.fail(transform, text, "" if p.mistakes else f"wrong under {transform}", name, probe)


def _rows(x: Any, rows: int) -> Any:
    if not is_inexact(x):
        return x
    return jnp.stack([(x * (1 + 0.25 * k)).astype(x.dtype) for k in range(rows)])
