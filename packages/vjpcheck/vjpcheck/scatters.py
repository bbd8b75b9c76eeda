"""How a scatter is run in another dtype: by its function, which makes its body for that dtype."""

from collections.abc import Callable
from typing import Any

from jax import lax


def _scatter(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(params: dict[str, Any], operand: Any, indices: Any, updates: Any) -> Any:
        kept = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        return function(operand, indices, updates, **{k: params[k] for k in kept})

    return run


SCATTERS: dict[str, Callable[..., Any]] = {
    "scatter": _scatter(lax.scatter),
    "scatter-add": _scatter(lax.scatter_add),
    "scatter_add": _scatter(lax.scatter_add),
    "scatter-mul": _scatter(lax.scatter_mul),
    "scatter_mul": _scatter(lax.scatter_mul),
    "scatter-min": _scatter(lax.scatter_min),
    "scatter_min": _scatter(lax.scatter_min),
    "scatter-max": _scatter(lax.scatter_max),
    "scatter_max": _scatter(lax.scatter_max),
}
