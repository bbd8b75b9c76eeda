"""What cannot be checked is turned away here, in a sentence."""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck import reference, structure
from vjpcheck.arguments import Arguments
from vjpcheck.attempt import first_line
from vjpcheck.catalogue import Kind
from vjpcheck.progress import Progress
from vjpcheck.reference import Trace
from vjpcheck.subject import Subject

_NEEDS_VALUES = (jax.errors.JAXTypeError, jax.errors.UnexpectedTracerError)


def require_callable(f: Any) -> None:
    """Raise TypeError unless `f` can be called."""
    if not callable(f):
        raise TypeError(f"expected a function to check, got {type(f).__name__}: `vjpcheck.gradient(f, x)`")


def require_choice(what: str, got: Any, allowed: Sequence[Any]) -> None:
    """Raise unless an option has one of the values that it may have.

    Args:
        what: the name of the option.
        got: its value.
        allowed: the values that it may have.

    Raises:
        ValueError: where it has another.
    """
    if got not in allowed:
        raise ValueError(f"expected {what} to be one of {', '.join(map(repr, allowed))}, got {got!r}")


def require_seconds(seconds: Any) -> float | None:
    """Return a time in seconds, or None.

    Raises:
        ValueError: for anything but a positive number or None.
    """
    if seconds is None or (isinstance(seconds, int | float) and seconds > 0):
        return seconds
    raise ValueError(f"expected seconds to be a positive number, as in `seconds=10`, got {seconds!r}")


def seed(key: Any) -> int:
    """Turn a random key into a seed; an int is one."""
    if isinstance(key, int):
        return key
    if jnp.issubdtype(getattr(key, "dtype", np.dtype(object)), jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    words = np.asarray(key)
    if words.dtype.kind not in "iu":
        raise TypeError(f"expected key to be an int or a random key, got {type(key).__name__}")
    return int(np.sum(words.astype(np.uint64) * np.array([2**32, 1], np.uint64)[-words.size :]) % 2**63)


def first_of(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the primal of a forward pass `(out, residuals)`."""

    def primal(*args: Any) -> Any:
        given = forward(*args)
        if not isinstance(given, tuple) or len(given) != 2:
            raise TypeError(f"expected forward to give (out, residuals), got {type(given).__name__}")
        return given[0]

    with contextlib.suppress(TypeError, ValueError):
        import inspect

        primal.__signature__ = inspect.signature(forward)  # pyright: ignore[reportFunctionMemberAccess]
    return primal


def traced(subject: Subject, arguments: Arguments) -> tuple[Trace | None, list[str]]:
    """Trace the primal, and say what is remarkable.

    Args:
        subject: the pair that is checked.
        arguments: the arguments, whose shapes and dtypes it is traced at.

    Returns:
        the trace, or None where only values will do (numpy, an `if` on data), and a list of notes.

    Raises:
        TypeError, ValueError: for a function that cannot be checked at all.
    """
    name, notes, printed = subject.name, [], io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            given = reference.trace(subject.primal, arguments)
    except _NEEDS_VALUES:
        _run_with_values(subject, arguments)
        return None, ["JAX cannot trace the function, so the reference is finite differences"]
    except Exception as error:
        raise _unfit(name, error) from None
    if printed.getvalue():
        sys.stdout.write(printed.getvalue())
        notes.append(f"{name} prints: under jit it does so once for each trace, not for each call")
    if given.jaxpr.effects:
        effects = ", ".join(sorted(map(str, given.jaxpr.effects)))
        notes.append(f"{name} has side effects ({effects}), which gradients lose")
    if not given.outputs:
        kinds = ", ".join(str(s.dtype) for s in given.shapes) or "nothing"
        raise TypeError(
            f"expected {name} to return floating-point values to differentiate, it returns {kinds}"
        )
    if not structure.same_twice(lambda *xs: subject.primal(*arguments.unflatten(xs)), *arguments.leaves):
        raise ValueError(
            f"{name} is another function each time it is called: it draws random numbers or keeps state; "
            f"pass the randomness in, as in `vjpcheck.gradient({name}, x, jax.random.key(0))`"
        )
    return given, notes


def traced_quietly(subject: Subject, arguments: Arguments) -> tuple[Trace | None, str]:
    """Trace the primal at shapes that it may not accept.

    Args:
        subject: the pair that is checked.
        arguments: the arguments at those shapes.

    Returns:
        the trace and "", or None and what the primal raised.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return reference.trace(subject.primal, arguments), ""
    except Exception as error:  # the primal's own
        return None, str(error)


def is_differentiable(given: Trace) -> bool:
    """Whether JAX can differentiate the primal backwards."""
    dys = [jax.ShapeDtypeStruct((1, *given.shapes[i].shape), given.shapes[i].dtype) for i in given.outputs]
    try:
        jax.eval_shape(
            lambda leaves, dys: reference.pull(given, leaves, dys, wide=False),
            list(given.arguments.leaves),
            dys,
        )
    except Exception:  # whatever an operation says that has no derivative, or that cannot be run again
        return False
    return True


def require_derivative(subject: Subject, given: Trace | None, p: Progress) -> None:
    """Raise for a function without a rule of its own that JAX itself cannot differentiate.

    Args:
        subject: the pair that is checked.
        given: the trace of its primal, or None where there is none.
        p: the report in the making, whose mistakes say whether the rules could be run.

    Raises:
        TypeError: for such a function.
    """
    plain = subject.own is not None and not isinstance(subject.own, jax.custom_vjp | jax.custom_jvp)
    own = given is not None and re.search("custom_[jv][vj]p", str(given.jaxpr))
    if (
        plain
        and not own
        and any(m.name in (Kind.RULE_RAISES, Kind.WRONG_TREE, Kind.NOT_TRACEABLE) for m in p.mistakes)
    ):
        raise TypeError(
            f"{subject.name} has no derivative to check, and JAX gives it none ({p.mistakes[0].words}): give "
            "it one by `jax.custom_vjp`, or check two functions by `vjpcheck.pair(forward, backward, x)`"
        )


def _run_with_values(subject: Subject, arguments: Arguments) -> None:
    try:
        out = subject.primal(*arguments.unflatten(arguments.leaves))
    except Exception as error:
        raise _unfit(subject.name, error) from None
    if any(
        isinstance(x, str | bytes) or not hasattr(x, "dtype") and not np.isscalar(x)
        for x in jax.tree.leaves(out)
    ):
        raise TypeError(f"expected {subject.name} to return arrays, it returns {type(out).__name__}")
    if not any(np.issubdtype(np.asarray(x).dtype, np.inexact) for x in jax.tree.leaves(out)):
        raise TypeError(
            f"expected {subject.name} to return floating-point values to differentiate, it returns integers"
        )


def _unfit(name: str, error: Exception) -> Exception:
    first = first_line(error)
    if "missing" in first and "argument" in first:
        return TypeError(
            f"{name} needs arguments that it was not given ({first}): give them by position, or close over "
            f"keyword arguments, as in `vjpcheck.gradient(lambda x: {name}(x, eps=1e-6), x)`"
        )
    if "positional argument" in first or "too many" in first:
        return TypeError(f"{name} takes other arguments than it was given: {first}")
    if "is not a valid JAX type" in first:
        kind = re.search(r"of type (<class '[\w.]+'>)", first)
        return TypeError(
            f"expected {name} to return arrays, it returns {kind[1] if kind else 'other things'}"
        )
    return ValueError(f"{name} raises {type(error).__name__} on these arguments: {first}")
