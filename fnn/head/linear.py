"""The linear layer and the softmax cross-entropy in one: the logits (n, V) exist in chunks of rows alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import initializers
from jaxtyping import Array, Float, Int

from fnn.core import Layer, Reader, with_rule
from fnn.errors import (
    InputError,
    brief,
    check_array,
    check_floating,
    check_params,
    check_range,
    check_size,
    describe,
)
from fnn.factors import Factor, Outer, Total, accumulator, gradient, over_chunks
from fnn.head.network import through
from fnn.head.walk import Batch, Piece, cross_entropy, walk
from fnn.layers.affine import row
from fnn.layers.dense import product
from fnn.losses import REDUCTIONS

Initializer = initializers.Initializer
Params = dict[str, Array]
In = Float[Array, "*n k"]
Labels = Int[Array, "*n"]
LEAST, MOST = 128, 512  # rows of a chunk: with fewer, a product waits for the weight; more only take room


@dataclass(frozen=True, repr=False)
class LinearCrossEntropy:
    """A linear layer to `vocabulary` logits and their softmax cross-entropy: a loss that has params.

    params: `{"w": (k, V), "b": (V,)}`, without "b" where `bias=False`. It is used as a loss,
    `fnn.value_and_grad(net, head)`, with `params = (fnn.init(net, ...), head.init(key, y))`, y like the
    network's output; or called, `head(params, x, target)`: `x` (..., k), `target` integer labels (...).

    A row's loss is s - t . z + z_loss s^2: z = x W + b, s = log sum exp z, and t the label as one-hot, with
    `label_smoothing` e: (1 - e) onehot + e / V. `reduction` and weights are as in `fnn.losses`. A row whose
    label is `ignore` (-1, say, or -100) counts neither in the sum nor in the mean, like one of weight zero.
    Any other label out of 0 .. V - 1 raises in eager code; where only the compiler sees it, it gives NaN.

    `tied=(0, "table")` leads to a table (V, k) among the network's params, its embedding's. The head has
    that as its weight and no "w", and the gradient of both uses arrives in the table's place. Called by
    itself such a head takes `{"table": (V, k), "b": (V,)}`. Source: Press, Wolf 2017.

    `dtype` is what the products are computed in (None: the input's). They are accumulated in float32 or
    wider, as softmax and losses are. `chunk` rows have logits at a time; None: k / 2, but from 128 to 512, so
    that the logits take at most half the room of the weight's gradient, unless k is small.

    Cost: 6nkV flops with the gradients, which the forward makes (for reduction "none" under `jax.grad` the
    backward does, 8nkV), and 2nkV for the value alone. Temporaries: the logits of a chunk, twice, or once
    beside a chunk's share of the weight's gradient, kV. Source: Hsu et al. 2024 (Liger kernels).
    """

    vocabulary: int
    bias: bool = True
    tied: tuple[int | str, ...] = ()
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    ignore: int | None = None
    reduction: str = "mean"
    chunk: int | None = None
    dtype: Any = None
    kernel_init: Initializer = field(default=initializers.lecun_normal(), repr=False)
    bias_init: Initializer = field(default=initializers.zeros, repr=False)
    __repr__ = brief

    def __post_init__(self):
        who = "LinearCrossEntropy"
        check_size(who, "vocabulary", self.vocabulary)
        if self.chunk is not None:
            check_size(who, "chunk", self.chunk)
        if self.reduction not in REDUCTIONS:
            fix = 'fnn.LinearCrossEntropy(V, reduction="mean")'
            raise InputError(who, f"reduction to be one of {REDUCTIONS}", repr(self.reduction), fix)
        if not 0 <= self.label_smoothing < 1:
            fix = "fnn.LinearCrossEntropy(V, label_smoothing=0.1)"
            raise InputError(who, "0 <= label_smoothing < 1", repr(self.label_smoothing), fix)
        if not self.z_loss >= 0:
            fix = "fnn.LinearCrossEntropy(V, z_loss=1e-4)"
            raise InputError(who, "z_loss >= 0", repr(self.z_loss), fix)
        if not isinstance(self.tied, tuple):
            fix = 'fnn.LinearCrossEntropy(V, tied=(0, "table"))'
            raise InputError(who, "tied, the keys that lead to the table", repr(self.tied), fix)

    @property
    def weight(self) -> str:
        """The weight's name among the params."""
        return "table" if self.tied else "w"

    def init(self, key: Any, x: Any) -> Params:
        """Draw the params for rows like `x` (..., k), an array or a shape: no weight where it is tied."""
        self._check_input(x)
        dtype = accumulator(x.dtype)
        w_key, b_key = jax.random.split(key)
        w = {} if self.tied else {"w": self.kernel_init(w_key, (x.shape[-1], self.vocabulary), dtype)}
        return w | ({"b": self.bias_init(b_key, (self.vocabulary,), dtype)} if self.bias else {})

    def __call__(self, params: Params, x: In, target: Labels, weights: Any = None) -> Any:
        """Give the value, () or, for "none", (...), in one product; `jax.grad` goes through our rule."""

        def alone(params: Params, x: In, target: Labels, weights: Any) -> Any:
            return self.reduced(self._losses(params, x, target), target, weights)

        def run(params: Params, x: In, target: Labels, weights: Any) -> tuple[Any, Any]:
            if self.reduction == "none":  # the rows' cotangents are not known yet
                losses, gradients = self._losses(params, x, target), (params, x)
            else:
                losses, *gradients = self._gradients(params, x, target, self.coefficients(x, target, weights))
            return self.reduced(losses, target, weights), (losses, target, weights, *gradients)

        def pull(saved: Any, dvalue: Any) -> tuple[Any, Any, None, Any]:
            losses, target, weights, grads, dx = saved
            (dweights,) = jax.vjp(partial(self.reduced, losses, target), weights)[1](dvalue)
            if self.reduction == "none":
                params, x = grads, dx
                coefficients = self.coefficients(x, target, weights) * dvalue
                _, grads, dx = self._gradients(params, x, target, coefficients)
            else:
                grads, dx = jax.tree.map(lambda leaf: leaf * dvalue.astype(leaf.dtype), (grads, dx))
            return grads, dx, None, dweights

        self.check(params, x, target, weights)
        return with_rule(run, pull, params, x, target, weights, alone=alone)

    def value_and_grad(
        self, params: Params, x: In, target: Labels, weights: Any = None
    ) -> tuple[Any, tuple[Params, In]]:
        """Give the value, and its gradients by params and `x`, with their shapes and dtypes: three products.

        With reduction "none" they are those of the sum of the values. Raises InputError where the
        arguments do not fit.
        """
        self.check(params, x, target, weights)
        losses, grads, dx = self._gradients(params, x, target, self.coefficients(x, target, weights))
        return self.reduced(losses, target, weights), (grads, dx)

    def through(self, net: Layer, read: Reader = gradient) -> Callable[..., tuple[Any, Any]]:
        """Give the function that `fnn.value_and_grad(net, head, read)` is; see fnn/head/network.py."""
        return through(self, net, read)

    def readings(
        self, params: Params, x: In, target: Labels, coefficients: Any, pieces: list[Piece]
    ) -> tuple[Any, In, list[Any]]:
        """Give the losses (...), `dx` and what each piece reads of the params' factors, all in one walk.

        `dx` and factors are those of the losses' sum, each times its coefficient (...). Readers that add over
        rows may have a chunk end within an example; others get the examples of axis 0 with all their tokens.
        """
        by_row = all(piece.how is not None and piece.how.by_row for piece in pieces)
        batch = self.batch(x, target, coefficients, by_row)
        losses, dx, readings = walk(partial(self._chunk, params), batch, pieces, self.examples(batch))
        return losses.reshape(target.shape), dx.reshape(x.shape), readings

    def batch(self, x: In, target: Labels, coefficients: Any, by_row: bool) -> Batch:
        """Give the rows: all of them alike, (n, k), where `by_row`; else examples (n, ..., k)."""
        if not by_row and x.ndim < 2:
            raise InputError(self, "examples on axis 0, x (n, ..., k)", describe(x), "x[None]")
        valid = self._counted(target) & (target >= 0) & (target < self.vocabulary)
        coefficients = jnp.where(valid | (coefficients == 0), coefficients, jnp.nan)
        batch = Batch(x, jnp.where(valid, target, 0), coefficients)
        if not by_row:
            return batch
        return jax.tree.map(lambda leaf: leaf.reshape(target.size, *leaf.shape[target.ndim :]), batch)

    def examples(self, batch: Batch) -> int:
        """Give how many examples make a chunk."""
        tokens, k = math.prod(batch.x.shape[1:-1]), batch.x.shape[-1]
        return max(1, (self.chunk or min(max(LEAST, k // 2), MOST)) // max(1, tokens))

    def factor(self, name: str, params: Params, batch: Batch) -> Factor:
        """Give the factor of one param for the rows of the batch, all at once."""
        return self._chunk(params, batch)[2][name]

    def coefficients(self, x: In, target: Labels, weights: Any = None) -> Float[Array, "*n"]:
        """Give what each row's loss is multiplied by, (...), before "mean" and "sum" add up."""
        return self._coefficients(target, weights, accumulator(self._dtype(x)))

    def reduced(self, losses: Any, target: Labels, weights: Any) -> Any:
        """Give the value of the rows' losses (...): NaN where a label that counts is out of range."""
        inside = (target >= 0) & (target < self.vocabulary)
        losses = jnp.where(inside, losses, jnp.where(self._counted(target), jnp.nan, 0))
        coefficients = self._coefficients(target, weights, losses.dtype)
        out = (coefficients == 0) & ~jnp.isfinite(
            losses
        )  # a weight of zero counts a row out, even one of NaN
        values = jnp.where(out, 0, losses * coefficients)
        return values if self.reduction == "none" else values.sum()

    def _coefficients(self, target: Labels, weights: Any, dtype: Any) -> Any:
        ones = jnp.ones(target.shape, dtype) if weights is None else weights.astype(dtype)
        counted = jnp.where(self._counted(target), ones, 0)
        if self.reduction != "mean":
            return counted
        total = counted.sum()
        return counted / jnp.where(total == 0, 1, total)

    def _chunk(self, params: Params, batch: Batch) -> tuple[Any, Any, dict[str, Factor]]:
        """dW = x^T dz, db = sum dz, dx = dz W^T, with dz from `cross_entropy`, times the coefficients."""
        losses, dz = self._rows(params, batch)
        dtype = self._dtype(batch.x)
        counted = batch.coefficient[..., None].astype(dz.dtype)
        dz = jnp.where(counted == 0, 0, dz * counted).astype(dtype)
        dx = product(dz, params[self.weight].astype(dtype), axis=0 if self.tied else 1).astype(batch.x.dtype)
        x = jnp.where(counted == 0, 0, batch.x.astype(dtype))  # where no row counts, no NaN does
        factors: dict[str, Factor] = {self.weight: Outer(dz, x) if self.tied else Outer(x, dz)}
        return losses, dx, factors | ({"b": Total(dz)} if self.bias else {})

    def _rows(self, params: Params, batch: Batch) -> tuple[Any, Any]:
        dtype = self._dtype(batch.x)
        z = product(batch.x.astype(dtype), params[self.weight].astype(dtype), axis=1 if self.tied else 0)
        z = z + row(params["b"], z) if self.bias else z
        return cross_entropy(z, batch.label, self.label_smoothing, self.z_loss)

    def _losses(self, params: Params, x: In, target: Labels) -> Any:
        batch = self.batch(x, target, self.coefficients(x, target), True)

        def chunk(rows: Batch, widen: Any) -> tuple[None, Any]:
            return None, self._rows(params, rows)[0]

        return over_chunks(chunk, batch, self.examples(batch))[1].reshape(target.shape)

    def _gradients(self, params: Params, x: In, target: Labels, coefficients: Any) -> tuple[Any, Params, In]:
        pieces = [Piece(name, gradient, param, ()) for name, param in params.items()]
        losses, dx, readings = self.readings(params, x, target, coefficients, pieces)
        return losses, dict(zip(params, readings, strict=True)), dx

    def _counted(self, target: Labels) -> Any:
        return jnp.ones(target.shape, bool) if self.ignore is None else target != self.ignore

    def _dtype(self, x: Any) -> Any:
        return x.dtype if self.dtype is None else jnp.dtype(self.dtype)

    def _check_input(self, x: Any) -> None:
        check_floating(self, x)
        if not x.shape:
            raise InputError(self, "x of shape (..., k)", describe(x), "x.reshape(1)")

    def check_pair(self, params: Any) -> None:
        """Raise InputError where `params` are not those of a network and of the head."""
        if not isinstance(params, (tuple, list)) or len(params) != 2 or not isinstance(params[1], dict):
            fix = "(fnn.init(net, key, x), head.init(key, y))"
            raise InputError(self, "params of the network and of the head, a pair", describe(params), fix)

    def check(self, params: Params, x: Any, target: Any, weights: Any) -> None:
        """Raise InputError where the arguments do not fit, or a label is seen to be out of range."""
        self._check_input(x)
        k, V = x.shape[-1], self.vocabulary
        shapes = {self.weight: (V, k) if self.tied else (k, V)} | ({"b": (V,)} if self.bias else {})
        check_params(self, params, shapes)
        check_array(self, target, "target")
        if target.shape != x.shape[:-1] or not jnp.issubdtype(target.dtype, jnp.integer):
            wanted = f"integer target of shape {x.shape[:-1]}"
            fix = (
                "target.astype(jnp.int32)" if target.shape == x.shape[:-1] else "target.reshape(x.shape[:-1])"
            )
            raise InputError(self, wanted, describe(target), fix)
        if weights is not None:
            check_floating(self, weights, "weights")
            if weights.shape != target.shape:
                wanted = f"weights of shape {target.shape}, one for each row"
                fix = f"jnp.broadcast_to(weights, {target.shape})"
                raise InputError(self, wanted, describe(weights), fix)
        inside = jnp.where(self._counted(target), target, 0)
        check_range(self, inside, V, "labels", "fnn.LinearCrossEntropy({least})")
