"""The two entry points: `gradient` of a function, `pair` of a forward and its backward."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from vjpcheck import intake
from vjpcheck.arguments import flatten
from vjpcheck.attempt import Budget
from vjpcheck.binding import Binding, bind, bind_all
from vjpcheck.course import Options, with_trace
from vjpcheck.finite import differences
from vjpcheck.progress import Progress
from vjpcheck.report import Report
from vjpcheck.subject import Subject, of_function

Level = Literal["quick", "standard", "deep"]


def gradient(
    f: Callable[..., Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    surrogate: Callable[..., Any] | None = None,
    wrt: int | Sequence[int] | None = None,
    order: int = 1,
    level: Level = "standard",
    transforms: Sequence[str] = (),
    key: Any = 0,
    seconds: float | None = None,
) -> Report:
    """Check the hand-written derivative of `f` at `args` (pytrees of arrays of any shape and dtype).

    The reference is autodiff in float64 of the function as if it had no rule: of a `custom_vjp` function's
    primal, with the rules of all that it calls left out too; or of `reference`, which takes the same args.
    Where neither can be differentiated it is finite differences. A backward pass that is meant to be another
    function's (a straight-through estimator, a clipped cotangent) is compared with the gradient that JAX
    gives `surrogate`, its rules included; the outputs still with the primal's.

    Args:
        f: the function: a `custom_vjp` function, or any other whose derivative is to be checked.
        args: its arguments, at which it is checked.
        reference: a function of the same arguments whose gradient is right, or None for `f` itself.
        surrogate: the function whose gradient the backward pass is meant to be, or None for `f`'s own.
        wrt: the numbers of the arguments to look at; None for all that are floating.
        order: 1, or 2 to check the second derivative too.
        level: "quick" looks at the arguments given, "standard" also at other values and shapes, "deep" also
            at all transforms and at order 2.
        transforms: some of "jit", "vmap", "scan", "checkpoint", "devices".
        key: an int or a random key, which draws the cotangents.
        seconds: after these no further part is begun, always in the same order, and the report says what was
            not tried; None for no end.

    Returns:
        a `Report`.

    Raises:
        TypeError, ValueError: for a function or arguments that have no gradient to check.

    >>> import jax, jax.numpy as jnp, vjpcheck
    >>> @jax.custom_vjp
    ... def double(x):
    ...     return 2 * x
    >>> double.defvjp(lambda x: (double(x), None), lambda _, dy: (-2 * dy,))
    >>> vjpcheck.gradient(double, jnp.arange(3.0)).mistake
    'sign'
    """
    intake.require_callable(f)
    options = Options(order, level, _names(transforms), intake.seed(key), intake.require_seconds(seconds))
    binding = bind(f, args, wrt)
    return _examine(of_function(f, binding), binding, reference, surrogate, options)


def pair(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    *args: Any,
    reference: Callable[..., Any] | None = None,
    surrogate: Callable[..., Any] | None = None,
    wrt: int | Sequence[int] | None = None,
    order: int = 1,
    level: Level = "standard",
    transforms: Sequence[str] = (),
    key: Any = 0,
    seconds: float | None = None,
) -> Report:
    """Check a forward and its backward pass, two plain functions.

    They may be plain numpy: then the reference is finite differences.

    Args:
        forward: `forward(*args)` returns `(out, residuals)`.
        backward: `backward(residuals, dy)` returns a tuple of cotangents, one for each of `args`.
        args: the arguments of `forward`.
        reference: as for `gradient`.
        surrogate: as for `gradient`.
        wrt: as for `gradient`.
        order: as for `gradient`.
        level: as for `gradient`.
        transforms: as for `gradient`.
        key: as for `gradient`.
        seconds: as for `gradient`.

    Returns:
        a `Report`.

    Raises:
        TypeError, ValueError: for functions or arguments that have no gradient to check.

    >>> import jax.numpy as jnp, vjpcheck
    >>> report = vjpcheck.pair(lambda x: (x**3, x), lambda x, dy: (2 * x**2 * dy,), jnp.arange(1.0, 4.0))
    >>> report.verdict.name, report.mistake != ""
    ('FAIL', True)
    """
    intake.require_callable(forward)
    intake.require_callable(backward)
    name = getattr(forward, "__name__", "forward")
    primal = intake.first_of(forward)
    options = Options(order, level, _names(transforms), intake.seed(key), intake.require_seconds(seconds))
    binding = bind_all(args, wrt)
    subject = Subject(
        name,
        binding.bound(primal),
        binding.bound(forward),
        backward,
        written=(forward, backward),
    )
    return _examine(subject, binding, reference, surrogate, options)


def _names(transforms: Sequence[str]) -> tuple[str, ...]:
    return (transforms,) if isinstance(transforms, str) else tuple(transforms)


def _examine(
    subject: Subject,
    binding: Binding,
    other: Callable[..., Any] | None,
    surrogate: Callable[..., Any] | None,
    options: Options,
) -> Report:
    budget = Budget(options.seconds)
    arguments = flatten(subject.primal, binding.free_args, binding.wanted)
    if other is not None:
        intake.require_callable(other)
    if surrogate is not None:
        intake.require_callable(surrogate)
        subject = replace(subject, surrogate=binding.bound(surrogate))
    target = subject if other is None else replace(subject, primal=binding.bound(other))
    traced, notes = intake.traced(target, arguments)
    progress = Progress(notes)
    if traced is None:
        differences(replace(target, traceable=False), arguments, options.seed, progress)
        intake.require_derivative(target, None, progress)
    else:
        with_trace(target, arguments, traced, options, progress, budget)
    progress.notes += sorted(subject.remarks)
    seconds = time.perf_counter() - budget.start
    return progress.report(f"{subject.name}({', '.join(arguments.names)})", seconds)
