"""How readers are written, run together and taken apart.

A reader is first a rule for one factor in its plain form: examples on axis 0, their tokens on axis 1,
features last, `Outer(x (n, t, k), dz (n, t, j))`; an example without tokens has one, t = 1. `reader` makes
the rule fit every factor that a backward pass can hand out. Letters: n, m examples, t, s tokens, k
inputs, j outputs, v rows of a table.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import jax

from fnn.core import Reader
from fnn.errors import InputError, describe
from fnn.factors import Chunked, Factor, how_chunkwise, is_factor


def reader(rule: Callable[..., Any]) -> Reader:
    """Make a reader of a rule for one factor (n, t, ...) and one param (k, j) or (j,).

    All axes between the first and the last become the one axis of tokens. A factor with the stacked axes
    of `Repeat` is read param by param, the readings stacked as the params are; one that is made in chunks is
    read so if `fnn.chunkwise` says how, and else whole. Raises InputError where a layer gave an array in
    place of a factor, and where there is no axis of examples.
    """

    @wraps(rule)
    def read(factor: Any, param: Any, *leaves: Any) -> Any:
        if not is_factor(factor):
            fix = "read(fnn.Outer(x, dz))` in the layer's backward, or `read=fnn.gradient"
            raise InputError(rule.__name__, "a factor", describe(factor), fix)
        if param.ndim > factor.rank:
            return jax.vmap(read)(factor, param, *leaves)
        if isinstance(factor, Chunked) and how_chunkwise(read):
            return factor.read(read, param, *leaves)
        return rule(with_tokens(factor), param, *leaves)

    return read


def with_tokens(factor: Factor | Chunked) -> Factor:
    """Give the factor with one axis of tokens: (n, ..., k) as (n, t, k), an index (n, ...) as (n, t)."""
    if isinstance(factor, Chunked):
        factor = factor.whole()
    batch = factor.dz.shape[:-1]
    if not batch:
        got = f"dz {describe(factor.dz)}"
        raise InputError("reader", "examples on axis 0, dz (n, ..., j)", got, "x[None]")

    def flat(leaf: Any) -> Any:
        return leaf.reshape(batch[0], math.prod(batch[1:]), *leaf.shape[len(batch) :])

    return jax.tree.map(flat, factor)


def together(*readers: Reader) -> Reader:
    """Run several readers in one pass: the reading of a factor is the tuple of theirs; see `apart`.

    Each is called with the same leaves. Cost: one pass, and what each reader costs.
    """

    def read(factor: Any, param: Any, *leaves: Any) -> tuple[Any, ...]:
        return tuple(one(factor, param, *leaves) for one in readers)

    vars(read).update(readers=readers)  # so that each may read chunk by chunk, as it says
    return read


def apart(params: Any, readings: Any) -> tuple[Any, ...]:
    """Take the readings of a reader that gives tuples apart: a tree for each place of the tuple.

    >>> apart({"w": 0, "b": 0}, {"w": (1, 2), "b": (3, 4)})
    ({'b': 3, 'w': 1}, {'b': 4, 'w': 2})
    """
    structure = jax.tree.structure(params)
    if structure.num_leaves == 0:
        raise InputError("apart", "readings of at least one param", describe(readings), "fnn.Dense(j)")
    columns = zip(*structure.flatten_up_to(readings), strict=True)
    return tuple(jax.tree.unflatten(structure, column) for column in columns)


def over_params(readings: Any, axes: int = 1) -> Any:
    """Add the readings of all params, stacked ones too: keep the last `axes` axes.

    One axis for a number per example: `over_params(squared_norms)` is (n,), the squared norm of each
    example's whole gradient. Two for a number per pair of examples.
    """
    leaves = jax.tree.leaves(readings)
    if not leaves:
        raise InputError("over_params", "readings of at least one param", describe(readings), "fnn.Dense(j)")
    return sum(leaf.sum(tuple(range(leaf.ndim - axes))) for leaf in leaves)
