"""The plan of a function for a batch: of its examples, or of a few more where that is another program."""

from collections.abc import Callable
from typing import Any

from fnn.errors import InputError
from fnn.function.apart import coupling
from fnn.function.plan import Mismatch
from fnn.function.trace import MORE, WHO, Traced, Unlike, traced


def planned(
    f: Callable[..., Any],
    params: Any,
    args: Any,
    n: int,
    own: list[bool],
    axes: list[int | None],
    inputs: int = 0,
) -> Traced:
    """Plan `f(params, *args)`, its batch padded where that is needed and changes nothing: see padded.py.

    Args: `f`, `params`, `args`, of `n` examples, `own`, `axes`, `inputs`, as for `traced`.

    Raises:
        InputError: where `f` has side effects, outputs that are no arrays or that are made of params alone,
            a loop of no known end on the way of a derivative, or is not the same program for any number of
            examples.
    """
    try:
        return traced(f, params, args, n, own, axes, inputs)
    except Unlike as error:
        cause = error.__cause__
    why = ""
    for more in MORE if n else ():
        try:
            found = traced(f, params, args, n + more, own, axes, inputs)
        except InputError:
            raise
        except Exception:  # of the function itself, or `Unlike`
            continue
        if not (why := _matters(found)):
            found.plan.padding = more
            return found
    got = f"one that is another program for {n} than for {n + 1}"
    if not isinstance(cause, Mismatch):
        got = f"one that fails for {n + 1}, by {type(cause).__name__}: {str(cause).splitlines()[0][:120]}"
    got = (
        f"{got}, and couples them: {why}" if why else f"{got}: their number is x.shape[0], a constant is none"
    )
    fix = "f = lambda params, x: jnp.square(x @ params).reshape(x.shape[0], -1).sum(1)"
    raise InputError(WHO, "a function of any number of examples, on axis 0", got, fix) from cause


def _matters(found: Traced) -> str:
    """Say why examples behind the batch would change it; "" where they change nothing."""
    if any(b is not None and not (b.axis == 0 and b.axes == 1 and b.single) for b in found.plan.out):
        return "a result whose examples do not lie on axis 0"
    return coupling(found) or coupling(found, values=True, strict=True) or ""
