"""The embedding: rows of a table, by integer index."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fnn.arrays import as_index, index_inside
from fnn.core import Equations, Leaf, Sides
from fnn.errors import (
    InputError,
    brief,
    check_array,
    check_cotangent,
    check_params,
    check_range,
    check_size,
    describe,
)
from fnn.factors import Rows
from fnn.initializers import normal
from fnn.layers.dense import Initializer
from fnn.sharding import on_mesh, sharding_along

Params = dict[str, Array]
In = Int[Array, "*n"]
Out = Float[Array, "*n j"]


@dataclass(frozen=True, repr=False)
class Embedding(Leaf):
    """Look up rows of a table by integer index: (...) -> (..., features).

    params: `{"embedding": (vocabulary, features)}`, float32. An index outside of 0 .. vocabulary - 1 raises
    an error in eager code; under jit, where its value is not known, it gives a row of NaN, and its cotangent
    is not added to any row. The backward reads the indices; `dx` is float0, as JAX has it for integers. No
    flops.

    Args:
        vocabulary: the number of rows, an integer >= 1.
        features: the length of a row, an integer >= 1.
        dtype: the dtype of the output; None for the table's.
        table_init: the initializer of the table, a function `(key, shape, dtype)`.

    Raises:
        InputError: where a size is no integer >= 1, or, on use, x is not an integer array or is out of range.

    >>> import fnn
    >>> table = {"embedding": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    >>> fnn.apply(fnn.Embedding(2, 2), table, jnp.array([1, 0]))
    Array([[3., 4.],
           [1., 2.]], dtype=float32)
    """

    vocabulary: int
    features: int
    dtype: Any = None
    table_init: Initializer = field(default=normal(1.0), repr=False)
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset(("input",))
    couples_examples: ClassVar[bool | None] = False
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"embedding": ("vocabulary", "out")}
    equations: ClassVar[Equations | None] = (
        ("{y} = {embedding}[{x}]",),
        ("d{embedding} = zeros.at[{x}].add(d{y})",),
    )

    def __post_init__(self) -> None:
        check_size("Embedding", "vocabulary", self.vocabulary, "fnn.Embedding(V, k)")
        check_size("Embedding", "features", self.features, "fnn.Embedding(V, k)")

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Draw the table in float32."""
        self._check_index(x)
        return {"embedding": self.table_init(key, (self.vocabulary, self.features), jnp.float32)}

    def forward(self, params: Params, x: In, key: Any) -> tuple[Out, tuple[()]]:
        """y = table[x]"""
        self._check_index(x)
        larger = f"fnn.Embedding({{least}}, {self.features})"
        check_range(self, x, self.vocabulary, "indices", larger, f"jnp.clip(x, 0, {self.vocabulary - 1})")
        check_params(self, params, {"embedding": (self.vocabulary, self.features)})
        return self.recompute(params, x, ()), ()

    def recompute(self, params: Params, x: In, extras: tuple[()]) -> Out:
        """y = table[x]"""
        x, table = as_index(x), params["embedding"]
        safe = index_inside(x, self.vocabulary)
        take = partial(jnp.take, axis=0, mode="fill", fill_value=jnp.nan)
        rows = on_mesh(take, sharding_along(*((x, i) for i in range(x.ndim)), (table, 1)), table, safe)
        return rows.astype(self.dtype or rows.dtype)

    def backward(self, params: Params, x: In, y: None, extras: tuple[()], dy: Out) -> tuple[Any, Any]:
        """dtable = dy added into the rows that x names: added, since an index may come twice."""
        check_cotangent(self, dy, (*x.shape, self.features), self.dtype or params["embedding"].dtype)
        return {"embedding": Rows(x, dy)}, np.zeros(x.shape, jax.dtypes.float0)

    def _check_index(self, x: Any) -> None:
        check_array(self, x, kind=jnp.integer)
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise InputError(self, "integer x", describe(x), "x.astype(jnp.int32)")
