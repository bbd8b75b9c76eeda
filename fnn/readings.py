"""Readings of several readers and of several params: split, and summed."""

from typing import Any

import jax

from fnn.errors import InputError, describe


def unzip(params: Any, readings: Any) -> tuple[Any, ...]:
    """Split the readings of `zip_readers` into one tree for each of its readers, in their order.

    Args:
        params: a pytree with the structure of the params, not empty.
        readings: a pytree that has a tuple at each param.

    >>> unzip({"kernel": 0, "bias": 0}, {"kernel": (1, 2), "bias": (3, 4)})
    ({'bias': 3, 'kernel': 1}, {'bias': 4, 'kernel': 2})
    """
    structure = jax.tree.structure(params)
    if structure.num_leaves == 0:
        raise InputError("unzip", "readings of at least one param", describe(readings), "fnn.Dense(j)")
    columns = zip(*structure.flatten_up_to(readings), strict=True)
    return tuple(jax.tree.unflatten(structure, column) for column in columns)


def sum_over_params(readings: Any, axes: int = 1) -> Any:
    """Sum the readings over all params and over their stacked axes.

    Args:
        readings: a pytree of arrays whose last `axes` axes have the same shape for all params.
        axes: the number of axes to keep: 1 for readings per example, 2 for readings per pair of examples.

    Returns:
        an array of `axes` axes: the sum of squared norms (n,) is that of each example's whole gradient.

    Raises:
        InputError: where there are no readings.

    >>> print(sum_over_params({"kernel": jax.numpy.ones((4, 2)), "bias": jax.numpy.ones(2)}))
    [5. 5.]
    """
    leaves = jax.tree.leaves(readings)
    if not leaves:
        raise InputError(
            "sum_over_params", "readings of at least one param", describe(readings), "fnn.Dense(j)"
        )
    return sum(leaf.sum(tuple(range(leaf.ndim - axes))) for leaf in leaves)
