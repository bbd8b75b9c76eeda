"""The one place where fnn meets autodiff: a function with a derivative made by hand."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from fnn.arrays import canonical


def with_rule(run: Callable, back: Callable, *args: Any, alone: Callable | None = None) -> Any:
    """Return `run(*args)[0]`, differentiated by our rule: the one place where fnn meets autodiff.

    `run(*args)` gives `(value, saved)`; `back(saved, dvalue)` gives a cotangent for each of `args`.
    `alone(*args)` gives the same value where nothing is differentiated, if there is a cheaper way to it.
    """
    return _with_rule(alone or (lambda *args: run(*args)[0]), run, back, *canonical(args))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _with_rule(alone: Callable, run: Callable, back: Callable, *args: Any) -> Any:
    return alone(*args)


_with_rule.defvjp(
    lambda alone, run, back, *args: run(*args),
    lambda alone, run, back, saved, dvalue: back(saved, dvalue),
)
