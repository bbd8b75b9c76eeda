"""The plan of a function for a batch: of its examples, or of a few more where that is another program."""

from collections.abc import Callable
from typing import Any

from fnn.errors import InputError
from fnn.function import internals
from fnn.function.apart import coupling
from fnn.function.batch import is_literal
from fnn.function.placed import shards_along
from fnn.function.plan import Mismatch
from fnn.function.trace import MORE, WHO, Traced, Unlike, traced

SHAPES = frozenset("broadcast_in_dim reshape squeeze expand_dims tile copy copy_p".split())


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
        ours, cause = error.ours, error.__cause__
    why = ""
    cut = shards_along(args)  # on a mesh each device gets as many more
    for more in [cut * more for more in MORE] if n else ():
        try:
            found = traced(f, params, args, n + more, own, axes, inputs)
        except InputError:
            raise
        except Exception:  # of the function itself, or `Unlike`
            continue
        if not (why := _matters(found)) and _computes_the_same(n, ours, found):
            found.plan.padding = more
            return found
    got = f"one that is another program for {n} than for {n + 1}"
    if not isinstance(cause, Mismatch):
        got = (
            f"one that fails for {n + 1}, by {type(cause).__name__}: {str(cause).partition(chr(10))[0][:120]}"
        )
    got = (
        f"{got}, and couples them: {why}" if why else f"{got}: their number is x.shape[0], a constant is none"
    )
    fix = "f = lambda params, x: jnp.square(x @ params).reshape(x.shape[0], -1).sum(1)"
    raise InputError(WHO, "a function of any number of examples, on axis 0", got, fix) from cause


def _computes_the_same(n: int, ours: Any, found: Traced) -> bool:
    """Tell whether two programs differ in the shapes of values alone: a function may do anything by `if`."""
    each = [_operations(closed.jaxpr) for closed in (ours, found.ours, found.theirs)]
    if len({len(own) for own in each}) > 1:
        return False
    numbers = (str(n), str(found.sizes.n), str(found.sizes.other))  # as an index counts them from behind
    return all(a == b or (a, b, c) == numbers for a, b, c in zip(*each, strict=True))


def _operations(jaxpr: Any) -> list[str]:
    """List what a program computes, in order: its operations but those on shapes, and the numbers in it."""
    found: list[str] = []
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        places = eqn.params["start_indices"] if name == "slice" else ""
        found += [] if name in SHAPES or internals.called(eqn) else [f"{name}{places}"]
        found += [str(v.val) for v in eqn.invars if is_literal(v)]
        for inner in internals.inner(eqn):
            found += _operations(inner)
    return found


def _matters(found: Traced) -> str:
    """Say why examples behind the batch would change it; "" where they change nothing."""
    if any(b is not None and not (b.axis == 0 and b.axes == 1 and b.single) for b in found.plan.out):
        return "a result whose examples do not lie on axis 0"
    return coupling(found) or coupling(found, values=True, strict=True) or ""
