"""The factor of a convolution's kernel: its images, of which readers make patches where that is cheaper."""

import itertools
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass

from fnn.arrays import accumulator
from fnn.factors import Factor, Outer
from fnn.function.forms import KEEPING, SIDES, Lazy, Viewed
from fnn.function.layout import Arrangement
from fnn.function.weights import counted, weighted
from fnn.reader import Reader
from fnn.readers.examples import gram_is_cheaper
from fnn.sharding import on_mesh, reshaped, sharding_along

PLACES = 64  # in a window, for each of which the images are cut by themselves; beyond, by a convolution


@partial(register_dataclass, data_fields=["x", "dz"], meta_fields=["kernel", "options", "rank"])
@dataclass(frozen=True)
class Convolved(Lazy):
    """The factor of a kernel of a convolution in g groups.

    Args:
        x: the images, (n, t, g * i, *space).
        dz: the cotangents of the results, (n, t, o, *space of the results).
        kernel: the shape of the kernel, (o, i, *window).
        options: those of `jax.lax.conv_general_dilated`, as pairs of name and value.
        rank: the number of axes of the kernel.
    """

    x: Any
    dz: Any
    kernel: tuple[int, ...]
    options: tuple[tuple[str, Any], ...]
    rank: int

    def _of(self, x: Any, dz: Any) -> Any:
        """Return the gradient from images (m, g * i, *space), dz (m, o, *space of the results)."""
        acc = accumulator(dz.dtype)

        def run(x: Any, dz: Any) -> Any:
            def convolve(w: Any) -> Any:
                return jax.lax.conv_general_dilated(x.astype(acc), w, **dict(self.options))

            return jax.vjp(convolve, jnp.zeros(self.kernel, acc))[1](dz.astype(acc))[0]

        return on_mesh(run, sharding_along(*((x, None) for _ in self.kernel)), x, dz)

    def total(self, weights: Any, shape: tuple[int, ...]) -> Any:
        """Convolve over all examples at once. Args: `weights`, `shape`, as for `Lazy`."""
        both = self.x, self.dz
        if weights is not None:
            both = counted(self.x, weights, 0), weighted(self.dz, weights, 0)
        return self._of(*(_reshaped(leaf, math.prod(leaf.shape[:2]), *leaf.shape[2:]) for leaf in both))

    def examples(self) -> Any:
        """Multiply, for each place of the window, what it sees by the cotangents: no patches are made."""
        if math.prod(self.kernel[2:]) > PLACES:
            return jax.vmap(self._of)(self.x, self.dz)
        groups, acc = dict(self.options)["feature_group_count"], accumulator(self.dz.dtype)
        n, t, o, *space = self.dz.shape
        dz = _reshaped(self.dz, n, t, groups, o // groups, math.prod(space))

        def at(seen: Any) -> Any:
            seen = _reshaped(seen, n, t, groups, self.kernel[1], math.prod(space)).astype(dz.dtype)
            return jnp.einsum("ntgis,ntgjs->ngji", seen, dz, preferred_element_type=acc)

        g = jnp.stack([at(seen) for seen in self.seen()], -1)  # (n, groups, j, i, window)
        return g.reshape(n, *self.kernel)

    def seen(self) -> list[Any]:
        """List, for each place of the window, what it sees of the images: (n, t, g * i, *space of dz)."""
        options = dict(self.options)
        padding = zip(options["padding"], options["lhs_dilation"], strict=True)
        config = [(0, 0, 0)] * 3 + [(low, high, inner - 1) for (low, high), inner in padding]
        x = jax.lax.pad(self.x, jnp.zeros((), self.x.dtype), config)
        strides, dilations, space = options["window_strides"], options["rhs_dilation"], self.dz.shape[3:]
        found = []
        for place in itertools.product(*map(range, self.kernel[2:])):
            start = [0, 0, 0, *(p * d for p, d in zip(place, dilations, strict=True))]
            ends = [a + max(0, (m - 1) * s + 1) for a, m, s in zip(start[3:], space, strides, strict=True)]
            found.append(jax.lax.slice(x, start, [*x.shape[:3], *ends], [1, 1, 1, *strides]))
        return found

    def read(self, reader: Reader, param: Any, *leaves: Any) -> Any:
        """Read by products of pairs of patches where they are cheaper than the examples' gradients."""
        tokens = self.dz.shape[1] * math.prod(self.dz.shape[3:])
        groups, keeping = dict(self.options)["feature_group_count"], reader.like == KEEPING
        k, j = math.prod(self.kernel[1:]), self.kernel[0] // groups
        by_pairs = gram_is_cheaper(tokens, k, j) or SIDES & set(jax.tree.leaves(reader.like))
        if by_pairs and reader.like and not leaves:
            reading = self.as_matrix().read(reader, param)
            return (reading[0], self) if keeping else reading
        if keeping:
            return reader.rule(self.form(), param)
        return super().read(reader, param, *leaves)

    def as_matrix(self) -> Viewed:
        """Return the factor of the kernel as a matrix, one for each group: patches, and their cotangents."""
        groups = dict(self.options)["feature_group_count"]
        n, t = self.x.shape[:2]
        k, j = math.prod(self.kernel[1:]), self.kernel[0] // groups
        x = _reshaped(self.patches(), n, t, groups, k, math.prod(self.dz.shape[3:]))
        dz = _reshaped(self.dz, n, t, groups, j, x.shape[-1])
        x, dz = (jnp.transpose(v, (2, 0, 1, 4, 3)) for v in (x, dz))  # (groups, n, t, space, k)
        inside = range(2, 2 + len(self.kernel[1:]))
        layout = Arrangement((groups, j, *self.kernel[1:]), (0, *inside, 1), (groups, k, j))
        if groups == 1:
            x, dz, layout = x[0], dz[0], replace(layout, shape=(k, j))
        return Viewed(Outer(x, dz), layout, self.kernel, self.rank)

    def patches(self) -> Any:
        """Return the patches, (n, t, g * i, window, *space of dz)."""
        if math.prod(self.kernel[2:]) <= PLACES:
            return jnp.stack(self.seen(), 3)
        options = dict(self.options)
        del options["feature_group_count"]
        x = self.x.reshape(-1, *self.x.shape[2:])
        x = jax.lax.conv_general_dilated_patches(x, self.kernel[2:], **options)  # (n t, g i window, *space)
        return x.reshape(*self.x.shape[:3], -1, *self.dz.shape[3:])

    def joined(self) -> Factor:
        """Put the uses among the tokens."""
        axis = [jnp.moveaxis(leaf, 0, 1) for leaf in (self.x, self.dz)]
        x, dz = (leaf.reshape(leaf.shape[0], -1, *leaf.shape[3:]) for leaf in axis)
        return Convolved(x, dz, self.kernel, self.options, self.rank)


def _reshaped(array: Any, *shape: int) -> Any:
    """Return an array of another shape, whose examples lie where they did."""
    return reshaped(array, shape, (array, 0), *[(array, None)] * (len(shape) - 1))
