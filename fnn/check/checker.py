"""The two entry points: `gradient` of a function, `pair` of a forward and its backward."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from fnn.check import intake
from fnn.check.arguments import flatten
from fnn.check.attempt import Budget
from fnn.check.binding import Binding, bind, bind_all
from fnn.check.course import Options, with_trace
from fnn.check.finite import differences
from fnn.check.progress import Progress
from fnn.check.report import Report
from fnn.check.subject import Subject, of_function

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

    `wrt` numbers the arguments to look at, `order=2` adds the second derivative, `transforms` are some of
    "jit", "vmap", "scan", "checkpoint", "devices" (level "deep": all, and order 2), and `key` (an int or a
    random key) draws the cotangents. After `seconds` no further part is begun, always in the same order: the
    report says what was not tried.

    Raises TypeError or ValueError for a function or arguments that have no gradient to check.

    >>> import jax, jax.numpy as jnp, fnn.check
    >>> @jax.custom_vjp
    ... def double(x):
    ...     return 2 * x
    >>> double.defvjp(lambda x: (double(x), None), lambda _, dy: (-2 * dy,))
    >>> fnn.check.gradient(double, jnp.arange(3.0)).mistake
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
    """Check a pair: `forward(*args)` gives `(out, residuals)`, `backward(residuals, dy)` a tuple of
    cotangents.

    The tuple has one entry for each of `args`; everything else is as for `gradient`. The functions may be
    plain numpy: then the reference is finite differences.
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
    seconds = time.perf_counter() - budget.start
    return progress.report(f"{subject.name}({', '.join(arguments.names)})", seconds)
