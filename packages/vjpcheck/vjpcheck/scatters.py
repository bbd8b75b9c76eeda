"""How a scatter is run in another dtype: by its function, which makes its body for that dtype."""

from collections.abc import Callable
from typing import Any

from jax import lax


def _scatter(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(params: dict[str, Any], operand: Any, indices: Any, updates: Any) -> Any:
        kept = ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")
        return function(operand, indices, updates, **{k: params[k] for k in kept})

    return run


_ADDED = {"add": lax.scatter_add, "mul": lax.scatter_mul, "min": lax.scatter_min, "max": lax.scatter_max}
SCATTERS: dict[str, Callable[..., Any]] = {
    "scatter": _scatter(lax.scatter),
    **{f"scatter{dash}{how}": _scatter(f) for how, f in _ADDED.items() for dash in "-_"},
}
