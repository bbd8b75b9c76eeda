"""Layers on trees of arrays: pick entries, concatenate them, add them. None has params."""

import functools
import operator
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fnn.arrays import PyTree
from fnn.core import Equations, Leaf, Sides
from fnn.errors import InputError, brief, check_cotangent, check_floating, describe, is_array

Key = str | int


@jax.tree_util.register_static
@dataclass(frozen=True)
class Layout:
    """The structure, shapes and dtypes of a tree of arrays: static, so a part of the residuals' structure.

    Args:
        structure: the tree's structure, as JAX has it.
        arrays: the shape and the name of the dtype of each array.
    """

    structure: Any
    arrays: tuple[tuple[tuple[int, ...], str], ...]  # the shape and dtype of each

    @staticmethod
    def of(x: PyTree[Array]) -> "Layout":
        """Return the layout of a tree."""
        leaves, structure = jax.tree.flatten(x)
        return Layout(structure, tuple((leaf.shape, leaf.dtype.name) for leaf in leaves))


@dataclass(frozen=True, repr=False)
class Select(Leaf):
    """Pick an entry of a dict or tuple, or several entries. No params; the backward reads neither side.

    The cotangent of an entry that is not picked is zero (float0 for integers).

    Args:
        key: the entry's name or number; of a tuple of these, the result is a dict or tuple of their entries.

    Raises:
        InputError: on use, where the input lacks an entry.

    >>> import fnn
    >>> fnn.apply(fnn.Select("numbers"), (), {"numbers": jnp.ones(2), "categories": jnp.arange(2)})
    Array([1., 1.], dtype=float32)
    """

    key: Key | tuple[Key, ...]
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset()
    couples_examples: ClassVar[bool | None] = False

    def __post_init__(self) -> None:
        forward = f"{{y}} = {{x}}[{self.key!r}]"
        back = f"d{{x}} = 0 but for d{{x}}[{self.key!r}] = d{{y}}"
        vars(self).update(equations=((forward,), (back,)))

    def init(self, key: Any, x: PyTree[jax.ShapeDtypeStruct]) -> tuple[()]:
        """No params."""
        self._pick(x)
        return ()

    def forward(self, params: tuple[()], x: Any, key: Any) -> tuple[Any, Layout]:
        """y = x[key]"""
        return self._pick(x), Layout.of(x)

    def recompute(self, params: tuple[()], x: Any, extras: Any) -> Any:
        """y = x[key]"""
        return self._pick(x)

    def backward(self, params: tuple[()], x: None, y: None, extras: Layout, dy: Any) -> tuple[tuple[()], Any]:
        """dx[key] = dy, the rest zero"""
        leaves = [_zero(shape, dtype) for shape, dtype in extras.arrays]
        picked = self._pick(extras.structure.unflatten(range(len(leaves))))
        if jax.tree.structure(dy) != jax.tree.structure(picked):
            fix = "jax.tree.map(jnp.ones_like, y)"
            raise InputError(self, f"dy like y, {jax.tree.structure(picked)}", describe(dy), fix)
        for i, d in zip(jax.tree.leaves(picked), jax.tree.leaves(dy), strict=True):
            if leaves[i].dtype != jax.dtypes.float0:
                check_cotangent(self, d, leaves[i].shape, leaves[i].dtype)
            leaves[i] = d
        return (), extras.structure.unflatten(leaves)

    def _pick(self, x: Any) -> Any:
        keys = self.key if isinstance(self.key, tuple) else (self.key,)
        known = list(x) if isinstance(x, dict) else list(range(len(x))) if isinstance(x, tuple) else []
        if not set(keys) <= set(known):
            fix = f"fnn.Select({known[0]!r})" if known else f"x = {{{', '.join(f'{k!r}: x' for k in keys)}}}"
            raise InputError(self, f"x with {' and '.join(map(repr, keys))}", describe(x), fix)
        entries: Any = x
        if not isinstance(self.key, tuple):
            return entries[self.key]
        picked = {key: entries[key] for key in keys}
        return picked if isinstance(x, dict) else tuple(picked.values())


def _couples(axis: int) -> bool | None:
    """Tell whether this is the examples' axis; None where it is counted from the end, and no last one."""
    return axis == 0 if axis >= -1 else None


def _zero(shape: tuple[int, ...], dtype: str) -> Any:
    floating = jnp.issubdtype(jnp.dtype(dtype), jnp.inexact)
    return jnp.zeros(shape, dtype) if floating else np.zeros(shape, jax.dtypes.float0)


@dataclass(frozen=True, repr=False)
class Concatenate(Leaf):
    """Concatenate the arrays of a tree along an axis, a dict's in the order of its sorted keys. No params.

    The backward reads neither side.

    Args:
        axis: the axis; the arrays must have the same dtype, and the same lengths of all other axes.

    Raises:
        InputError: on use, where the arrays differ, or lack the axis.

    >>> import fnn
    >>> fnn.apply(fnn.Concatenate(), (), (jnp.zeros(2), jnp.ones(1)))
    Array([0., 0., 1.], dtype=float32)
    """

    axis: int = -1
    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset()
    equations: ClassVar[Equations | None] = ("{y} = concatenate({x})",), ("d{x} = split(d{y})",)

    def __post_init__(self) -> None:
        vars(self).update(couples_examples=_couples(self.axis))

    def init(self, key: Any, x: PyTree[jax.ShapeDtypeStruct]) -> tuple[()]:
        """No params."""
        self._check(x)
        return ()

    def forward(self, params: tuple[()], x: Any, key: Any) -> tuple[Array, Layout]:
        """y = x_0, x_1, ... concatenated"""
        self._check(x)
        return self.recompute(params, x, ()), Layout.of(x)

    def recompute(self, params: tuple[()], x: Any, extras: Any) -> Array:
        """y = x_0, x_1, ... concatenated"""
        return jnp.concatenate(jax.tree.leaves(x), self.axis)

    def backward(
        self, params: tuple[()], x: None, y: None, extras: Layout, dy: Array
    ) -> tuple[tuple[()], Any]:
        """dx_i = its slice of dy"""
        shape, dtype = extras.arrays[0]
        axis = self.axis % len(shape)
        ends = np.cumsum([shape[axis] for shape, _ in extras.arrays])
        check_cotangent(self, dy, (*shape[:axis], int(ends[-1]), *shape[axis + 1 :]), jnp.dtype(dtype))
        return (), extras.structure.unflatten(jnp.split(dy, ends[:-1].tolist(), axis))

    def _check(self, x: Any) -> None:
        first, *others = check_entries(self, x)
        if not -first.ndim <= self.axis < first.ndim:
            fix = "fnn.Concatenate()" if first.ndim else "jax.tree.map(lambda leaf: leaf[None], x)"
            raise InputError(self, f"arrays with an axis {self.axis}", describe(x), fix)
        axis = self.axis % first.ndim
        for other in others:
            alike = other.ndim == first.ndim and all(
                a == b for i, (a, b) in enumerate(zip(other.shape, first.shape, strict=True)) if i != axis
            )
            if not alike or other.dtype != first.dtype:
                fix = "fnn.Each({name: fnn.Dense(j, dtype=dtype) for name in x})"
                raise InputError(self, f"arrays like {describe(first)} but on axis {axis}", describe(x), fix)


@dataclass(frozen=True, repr=False)
class Sum(Leaf):
    """Add the arrays of a tree, which must agree in shape and dtype. No params.

    The backward reads neither side.

    Raises:
        InputError: on use, where the arrays differ.

    >>> import fnn
    >>> fnn.apply(fnn.Sum(), (), (jnp.ones(2), jnp.ones(2)))
    Array([2., 2.], dtype=float32)
    """

    __repr__ = brief
    cheap = True
    needs: ClassVar[Sides] = frozenset()
    couples_examples: ClassVar[bool | None] = False
    equations: ClassVar[Equations | None] = (
        ("{y} = the entries of {x}, added",),
        ("d{x} = d{y} for every entry",),
    )

    def init(self, key: Any, x: PyTree[jax.ShapeDtypeStruct]) -> tuple[()]:
        """No params."""
        self._check(x)
        return ()

    def forward(self, params: tuple[()], x: Any, key: Any) -> tuple[Array, Layout]:
        """y = x_0 + x_1 + ..."""
        self._check(x)
        return self.recompute(params, x, ()), Layout.of(x)

    def recompute(self, params: tuple[()], x: Any, extras: Any) -> Array:
        """y = x_0 + x_1 + ..."""
        return functools.reduce(operator.add, jax.tree.leaves(x))

    def backward(
        self, params: tuple[()], x: None, y: None, extras: Layout, dy: Array
    ) -> tuple[tuple[()], Any]:
        """dx_i = dy"""
        shape, dtype = extras.arrays[0]
        check_cotangent(self, dy, shape, jnp.dtype(dtype))
        return (), extras.structure.unflatten([dy] * len(extras.arrays))

    def _check(self, x: Any) -> None:
        first, *others = check_entries(self, x)
        if any(other.shape != first.shape or other.dtype != first.dtype for other in others):
            fix = "fnn.Each({name: fnn.Dense(j, dtype=dtype) for name in x})"
            raise InputError(self, f"arrays like {describe(first)}", describe(x), fix)


def check_entries(who: object, x: Any) -> list[Any]:
    """Return the arrays of a tree.

    Args:
        who: the layer that asks, for the error message.
        x: the tree.

    Raises:
        InputError: where there is no array, or one that is not floating-point.
    """
    leaves = jax.tree.leaves(x)
    if is_array(x) or not leaves:
        raise InputError(who, "a tree of arrays as x", describe(x), "(x,)" if is_array(x) else "(x, z)")
    for leaf in leaves:
        check_floating(who, leaf)
    return leaves
