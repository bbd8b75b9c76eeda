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

from vjpcheck.arguments import Arguments, exact, is_inexact
from vjpcheck.attempt import first_line
from vjpcheck.bench import Bench
from vjpcheck.progress import Progress
from vjpcheck.pulled import Gradients, Run
from vjpcheck.second import second_order
from vjpcheck.subject import Subject

NAMES = ("jit", "vmap", "scan", "checkpoint", "devices")


def check(
    bench: Bench, arguments: Arguments, dys: list[Any], names: Sequence[str], order: int, p: Progress
) -> None:
    """Run the transforms by name, and the second order; report what differs from the plain gradient.

    Args:
        bench: the subject beside its reference.
        arguments: the arguments, at which all of it is run.
        dys: the cotangents of each floating output, (5, ...); the first is pulled back.
        names: the names of the transforms, of `NAMES`.
        order: 2 for the second derivative too, where nothing is wrong so far.
        p: the report in the making, to which all is added.
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
        second_order(bench, plain, p)


def as_function(subject: Subject) -> Callable[..., Any]:
    """Return the subject as a function with a `custom_vjp`, which is how transforms meet it."""
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
