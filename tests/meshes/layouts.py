"""Meshes of eight devices, the layouts of params and data on them, and the table of cases in sizes that they
divide.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from tests.cases import Case, Example, example

BY = 8  # what every size of a case is multiplied by


@dataclass(frozen=True)
class Layout:
    """A mesh, and which of its axes the rows of the data and each axis of a param are sharded over."""

    name: str
    mesh: tuple[tuple[str, int], ...]
    rows: Any
    params: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def __repr__(self) -> str:
        return self.name

    def on(self, axis_type: AxisType) -> Any:
        """Return the mesh, all of its axes of that type."""
        names, sizes = zip(*self.mesh, strict=True)
        return jax.make_mesh(sizes, names, axis_types=(axis_type,) * len(names))


def _names(matrix: tuple[Any, Any], vector: Any, table: tuple[Any, Any]) -> Any:
    return (("kernel", matrix), ("bias", (vector,)), ("scale", (vector,)), ("embedding", table))


LAYOUTS = [
    Layout("data", (("data", 8),), "data"),
    Layout("fsdp", (("data", 8),), "data", _names(("data", None), "data", ("data", None))),
    Layout("fsdp-out", (("data", 8),), "data", _names((None, "data"), "data", (None, "data"))),
    Layout("column", (("model", 8),), None, _names((None, "model"), "model", (None, "model"))),
    Layout("row", (("model", 8),), None, _names(("model", None), None, ("model", None))),
    Layout(
        "all",
        (("data", 2), ("fsdp", 2), ("model", 2)),
        ("data", "fsdp"),
        _names(("fsdp", "model"), "model", ("model", "fsdp")),
    ),
]


def scaled(layer: Any) -> Any:
    """Return the layer in sizes that eight devices divide."""
    if isinstance(layer, fnn.Dense):
        inputs = None if layer.inputs is None else BY * layer.inputs
        return replace(layer, features=BY * layer.features, inputs=inputs)
    if isinstance(layer, fnn.Embedding):
        return replace(layer, vocabulary=BY * layer.vocabulary, features=BY * layer.features)
    if isinstance(layer, fnn.Composition):
        return layer.with_layers(*map(scaled, layer.layers))
    return layer


def scaled_example(case: Case, dtype: Any = jnp.float64) -> Example:
    """Return data for the case in those sizes; only its rows and its features are more."""
    shape = case.shape
    if shape:
        shape = (BY * shape[0], *shape[1:])
    if len(case.shape) > 1 and not case.integer:
        shape = (*shape[:-1], BY * shape[-1])
    return example(replace(case, net=scaled(case.net), shape=shape), dtype)


def has_rows(case: Case) -> bool:
    """Tell whether the case's input has an axis of examples."""
    return len(case.shape) > (0 if case.integer else 1)


def put(tree: Any, mesh: Any, spec: P) -> Any:
    """Put arrays on a mesh."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, NamedSharding(mesh, spec)), tree)


def put_params(params: Any, layout: Layout, mesh: Any) -> Any:
    """Put params on a mesh as the layout says; stacked axes are on every device."""
    specs = dict(layout.params)

    def one(path: Any, leaf: Any) -> Any:
        own = specs.get(path[-1].key, ())
        spec = P(*(None,) * (leaf.ndim - len(own)), *own) if own else P()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map_with_path(one, params)


def spread(case: Case, data: Example, layout: Layout, mesh: Any) -> Example:
    """Return the data on a mesh."""
    rows = P(layout.rows) if has_rows(case) else P()
    return replace(
        data,
        params=put_params(data.params, layout, mesh),
        x=put(data.x, mesh, rows),
        dy=put(data.dy, mesh, rows),
    )


def assert_on_mesh(got: Any, wanted: Any, relative: float = 1e-12) -> None:
    """Assert that arrays on a mesh hold what those elsewhere do."""
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        error, scale = np.max(np.abs(a - b), initial=0), np.max(np.abs(b), initial=0)
        assert a.shape == b.shape, f"{jax.tree_util.keystr(path)}: {a.shape}, not {b.shape}"
        assert error <= relative * max(scale, 1e-3), f"{jax.tree_util.keystr(path)}: off by {error:.1e}"
