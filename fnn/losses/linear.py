"""The linear layer and the softmax cross-entropy in one: the logits (n, V) exist in chunks of rows alone."""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fnn.arrays import accumulator, as_index, canonical, reshaped, varying_like, widened
from fnn.autodiff import with_rule
from fnn.core import Layer, forward, pull
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
from fnn.factors import Chunked, over_chunks
from fnn.initializers import lecun_normal, zeros
from fnn.layers.dense import Initializer
from fnn.losses.logits import Logits
from fnn.losses.loss import check_reduction
from fnn.losses.objective import Objective, Reduction, by_row
from fnn.losses.paths import Path, at_path, with_path
from fnn.losses.rule import reverse_mode_alone
from fnn.losses.tied import both_uses, early
from fnn.losses.walk import Batch, Piece, flat_readers, walk
from fnn.reader import as_factors, gradient
from fnn.reading import Reading, Stacked

Params = dict[str, Array]
In = Float[Array, "*n k"]
Labels = Int[Array, "*n"]
LEAST, MOST = 128, 512  # rows of a chunk: with fewer, a product waits for the weight; more only take room


@dataclass(frozen=True, repr=False)
class LinearCrossEntropy(Objective):
    """A linear layer to `vocabulary` logits and their softmax cross-entropy: a loss that has params.

    params: `{"kernel": (k, V), "bias": (V,)}`, without "bias" where `bias=False`. It is used as a loss,
    `fnn.value_and_grad(net, head)`, with `params = (fnn.init(net, ...), head.init(key, y))`, y like the
    network's output; or called, `head(params, x, target)`: `x` (..., k), `target` integer labels (...).

    A row's loss is s - t . z + z_loss s^2: z = x W + b, s = log sum exp z, and t the label as one-hot, with
    `label_smoothing` e: (1 - e) onehot + e / V. `reduction` and weights are as in `fnn.losses`. A row whose
    label is `ignore` (-1, say, or -100) counts neither in the sum nor in the mean, like one of weight zero.
    Any other label out of 0 .. V - 1 raises in eager code; where only the compiler sees it, it gives NaN.

    `tied=(0, "embedding")` leads to a table (V, k) among the network's params, its embedding's. The head has
    that as its weight and no "kernel", and the gradient of both uses arrives in the table's place. Called by
    itself such a head takes `{"embedding": (V, k), "bias": (V,)}`. Source: Press, Wolf 2017.

    `dtype` is what the products are computed in (None: the input's). They are accumulated in float32 or
    wider, as softmax and losses are. `chunk` rows have logits at a time; None: k / 2, but from 128 to 512, so
    that the logits take at most half the room of the weight's gradient, unless k is small.

    Cost: 6nkV flops with the gradients, which the forward makes (for reduction "none" under `jax.grad` the
    backward does, 8nkV), and 2nkV for the value alone. Temporaries: the logits of a chunk, twice, or once
    beside a chunk's share of the weight's gradient, kV. Source: Hsu et al. 2024 (Liger kernels).
    """

    vocabulary: int
    bias: bool = True
    tied: Path = ()
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    ignore: int | None = None
    reduction: Reduction = "mean"
    chunk: int | None = None
    dtype: Any = None
    kernel_init: Initializer = field(default=lecun_normal(), repr=False)
    bias_init: Initializer = field(default=zeros(), repr=False)
    __repr__ = brief
    has_params = True
    couples_examples = False

    def __post_init__(self):
        who = "LinearCrossEntropy"
        check_size(who, "vocabulary", self.vocabulary)
        if self.chunk is not None:
            check_size(who, "chunk", self.chunk)
        check_reduction(who, self.reduction)
        if not 0 <= self.label_smoothing < 1:
            fix = "fnn.LinearCrossEntropy(V, label_smoothing=0.1)"
            raise InputError(who, "0 <= label_smoothing < 1", repr(self.label_smoothing), fix)
        if not self.z_loss >= 0:
            fix = "fnn.LinearCrossEntropy(V, z_loss=1e-4)"
            raise InputError(who, "z_loss >= 0", repr(self.z_loss), fix)
        if not isinstance(self.tied, tuple):
            fix = 'fnn.LinearCrossEntropy(V, tied=(0, "embedding"))'
            raise InputError(who, "tied, the keys that lead to the table", repr(self.tied), fix)

    def logits(self, x: Any) -> Logits:
        """Return how the losses follow from rows like `x`."""
        dtype = x.dtype if self.dtype is None else jnp.dtype(self.dtype)
        return Logits(self.bias, bool(self.tied), self.label_smoothing, self.z_loss, dtype)

    @property
    def reads_net(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a param of the network's is the weight."""
        return bool(self.tied)

    @property
    def weight(self) -> str:
        """The weight's name among the params."""
        return "embedding" if self.tied else "kernel"

    def init(self, key: Any, x: Any) -> Params:
        """Draw the params for rows like `x` (..., k), an array or a shape: no weight where it is tied."""
        self._check_input(x)
        dtype = accumulator(x.dtype)
        w_key, b_key = jax.random.split(key)
        w = {} if self.tied else {"kernel": self.kernel_init(w_key, (x.shape[-1], self.vocabulary), dtype)}
        return w | ({"bias": self.bias_init(b_key, (self.vocabulary,), dtype)} if self.bias else {})

    def __call__(self, params: Params, x: In, target: Labels, weights: Any = None) -> Any:
        """Return the value, () or, for "none", (...), in one product; `jax.grad` goes through our rule.

        Reverse mode only: for `jax.jvp`, `jax.jacfwd` or `jax.linearize` call `head.value`.
        """

        def run(params: Params, x: In, target: Labels, weights: Any) -> tuple[Any, Any]:
            held = None
            if self.reduction == "none":  # the rows' cotangents are not known yet
                losses, gradients = self._losses(params, x, target), (params, x)
            else:
                params, x = varying_like((params, x), params, x, target, weights)  # each shard's own, for now
                coefficients, held = self._held(x, self.coefficients(x, target, weights))
                losses, *gradients = self._gradients(params, x, target, coefficients, wide=held is not None)
            like = jax.tree.map(lambda leaf: jnp.zeros((), leaf.dtype), (params, x))
            saved = (losses, target, weights, *gradients, held, like)
            return self.reduced(losses, target, weights), saved

        def pull(saved: Any, dvalue: Any) -> tuple[Any, Any, None, Any]:
            losses, target, weights, grads, dx, held, like = saved
            (dweights,) = jax.vjp(partial(self.reduced, losses, target), weights)[1](dvalue)
            if self.reduction == "none":
                params, x = grads, dx
                coefficients = self.coefficients(x, target, weights) * dvalue
                _, grads, dx = self._gradients(params, x, target, coefficients)
            else:
                by = dvalue if held is None else dvalue * held.astype(dvalue.dtype)
                grads, dx = jax.tree.map(partial(_scaled, by), (grads, dx), like)
            return grads, dx, None, dweights

        params, x, target, weights = self.checked(params, x, target, weights)
        with reverse_mode_alone(self, "head.value(params, x, target, weights)"):
            return with_rule(run, pull, params, x, target, weights, alone=self.value)

    def value(self, params: Params, x: In, target: Labels, weights: Any = None) -> Any:
        """Return the value alone, as plain code: for forward mode and for derivatives of any order."""
        params, x, target, weights = self.checked(params, x, target, weights)
        return self.reduced(self._losses(params, x, target), target, weights)

    def value_and_grad(
        self, params: Params, x: In, target: Labels, weights: Any = None, scale: Any = None
    ) -> tuple[Any, tuple[Params, In]]:
        """Return the value, and its gradients by params and `x`, with their shapes and dtypes: three
        products.

        With reduction "none" they are those of the sum of the values. `scale` multiplies the gradients
        before they are rounded. Raises InputError where the arguments do not fit.
        """
        params, x, target, weights = self.checked(params, x, target, weights)
        losses, grads, dx = self._gradients(params, x, target, self.coefficients(x, target, weights, scale))
        return self.reduced(losses, target, weights), (grads, dx)

    def with_reduction(self, reduction: Reduction) -> "LinearCrossEntropy":
        """Return the same loss, reduced in another way."""
        return replace(self, reduction=reduction)

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Take a pair apart: the network's, and the head's. Raises InputError for anything else."""
        if not isinstance(tree, (tuple, list)) or len(tree) != 2 or not isinstance(tree[1], dict):
            fix = "(fnn.init(net, key, x), head.init(key, y))"
            raise InputError(self, "params of the network and of the head, a pair", describe(tree), fix)
        return tree[0], tree[1]

    def merge(self, of_net: Any, of_loss: Any) -> Any:
        """Make the pair."""
        return of_net, of_loss

    def pull(
        self, params: Params, y: In, target: Labels, weights: Any, read: Reading, scale: Any = None
    ) -> tuple[Any, In, dict[str, Any]]:
        """Return the value, its gradient by `y`, and what is read of the params' factors, chunk by chunk.

        Readers that do not say how they read in chunks get the factor (n, V) whole. `as_factors` makes it a
        `Chunked`: the logits are made again whenever such a factor is read, 2nkV flops more.
        """
        params, y, target, weights = self.checked(params, y, target, weights)
        if read.joins == "gradient":
            value, (grads, dy) = self.value_and_grad(params, y, target, weights, scale)
            return value, dy, read(grads, self)
        assert isinstance(read, Stacked)
        readers, together = flat_readers(read.reader)
        pieces = [
            Piece(name, reader, params[name], tuple(tree[name] for tree in read.trees[1:]))
            for name in params
            for reader in readers
        ]
        coefficients = self.coefficients(y, target, weights, scale)
        losses, dy, found = self._read(params, y, target, weights, coefficients, pieces)
        split = [found[i : i + len(readers)] for i in range(0, len(found), len(readers))]
        return losses, dy, {name: together(own) for name, own in zip(params, split, strict=True)}

    def through(
        self,
        net: Layer,
        params: Any,
        x: Any,
        target: Any,
        key: Any,
        weights: Any,
        read: Reading,
        scale: Any = None,
    ) -> tuple[Any, Any]:
        """Run network and head; a tied table's readings, those of both uses, stand in the table's place."""
        if not self.tied:
            return super().through(net, params, x, target, key, weights, read, scale)
        of_net, own = self.split(params)
        table = at_path(of_net, self.tied, self)
        y, residuals = forward(net, of_net, x, key)
        own = own | {self.weight: table}
        own, y, target, weights = self.checked(own, y, target, weights)
        of_table = read.mapped(lambda tree: at_path(self.split(tree)[0], self.tied, self))
        of_head = read.mapped(lambda tree: self.split(tree)[1])
        marks = with_path(jax.tree.map(lambda _: None, of_net), self.tied, jnp.zeros(()))
        held = read.mapped(lambda tree: self.split(tree)[0]).holding(marks)
        if read.joins == "gradient":
            value, (grads, dy) = self.value_and_grad(own, y, target, weights, scale)
            readings = held.released(pull(net, of_net, *residuals, dy, held)[0])
            use = at_path(readings, self.tied, self)
            whole = of_table(gradient(use, table) + grads.pop(self.weight), self)
            return value, (with_path(readings, self.tied, whole), of_head(grads, self))
        assert isinstance(read, Stacked) and isinstance(of_table, Stacked) and isinstance(of_head, Stacked)
        readers, together = flat_readers(read.reader)
        pieces, later = [], []
        for reader in readers:
            first = early(reader)
            later.append(first is None)
            if first is not None:
                pieces.append(Piece(self.weight, first, table, of_table.trees[1:] * (first is reader)))
        others = [name for name in own if name != self.weight]
        for name in others:
            pieces += [Piece(name, r, own[name], tuple(t[name] for t in of_head.trees[1:])) for r in readers]
        coefficients = self.coefficients(y, target, weights, scale)
        value, dy, found = self._read(own, y, target, weights, coefficients, pieces)
        readings = held.released(pull(net, of_net, *residuals, dy, held)[0])
        use, whole = at_path(readings, self.tied, self), []
        for reader, is_later in zip(readers, later, strict=True):
            part = self._chunked(self.weight, own, y, target, coefficients) if is_later else found.pop(0)
            whole.append(both_uses(reader, use, part, table, of_table.trees[1:]))
        split = [found[i : i + len(readers)] for i in range(0, len(found), len(readers))]
        rest = {name: together(own) for name, own in zip(others, split, strict=True)}
        return value, (with_path(readings, self.tied, together(whole)), rest)

    def _read(
        self,
        params: Params,
        x: In,
        target: Labels,
        weights: Any,
        coefficients: Any,
        pieces: list[Piece],
    ) -> tuple[Any, In, list[Any]]:
        """Return the value, `dx` and what each piece reads, all in one walk; factors as such stay unmade.

        Readers that add over rows may have a chunk end within an example; others get the examples of axis 0
        with all their tokens.
        """
        now = [piece for piece in pieces if piece.reader is not as_factors]
        batch = self.batch(x, target, coefficients, by_row=all(piece.inner.by_row for piece in now))
        losses, dx, readings = walk(partial(self.logits(x).chunk, params), batch, now, self.examples(batch))
        found = [
            self._chunked(piece.name, params, x, target, coefficients)
            if piece.reader is as_factors
            else readings.pop(0)
            for piece in pieces
        ]
        losses = _unflat(losses, target)
        return self.reduced(losses, target, weights), _unflat(dx, x), found

    def _chunked(self, name: str, params: Params, x: In, target: Labels, coefficients: Any) -> Chunked:
        """Return a param's factor, to be made when it is read."""
        batch = self.batch(x, target, coefficients, by_row=False)
        rank = params[name].ndim
        return Chunked(self.logits(x).of(name), params, batch, self.examples(batch), rank)

    def batch(self, x: In, target: Labels, coefficients: Any, by_row: bool) -> Batch:
        """Return the rows: all of them alike, (n, k), where `by_row`; else examples (n, ..., k)."""
        if not by_row and x.ndim < 2:
            raise InputError(self, "examples on axis 0, x (n, ..., k)", describe(x), "x[None]")
        valid = self._counted(target) & (target >= 0) & (target < self.vocabulary)
        coefficients = jnp.where(valid | (coefficients == 0), coefficients, jnp.nan)
        batch = Batch(x, jnp.where(valid, target, 0), coefficients)
        if not by_row:
            return batch
        return jax.tree.map(lambda leaf: _flat(leaf, target.ndim), batch)

    def examples(self, batch: Batch) -> int:
        """Return how many examples make a chunk."""
        tokens, k = math.prod(batch.x.shape[1:-1]), batch.x.shape[-1]
        return max(1, (self.chunk or min(max(LEAST, k // 2), MOST)) // max(1, tokens))

    def coefficients(
        self, x: In, target: Labels, weights: Any = None, scale: Any = None
    ) -> Float[Array, "..."]:
        """Return what each row's gradient is multiplied by, (...), before "mean" and "sum" add up."""
        found = self._coefficients(target, weights, accumulator(self.logits(x).dtype))
        return found if scale is None else found * jnp.asarray(scale, found.dtype)

    def _held(self, x: In, coefficients: Any) -> tuple[Any, Any]:
        """Return coefficients for a gradient that is scaled later, and a power of two to multiply it by then.

        float16 has so few exponents that a row's share of a mean would be lost; None in other dtypes.
        """
        dtypes = (x.dtype, self.logits(x).dtype)
        if all(jnp.finfo(dtype).minexp < -100 for dtype in dtypes):
            return coefficients, None
        largest = jnp.abs(coefficients).max(initial=0)
        sure = jnp.where(jnp.isfinite(largest) & (largest > 0), largest, 1)
        power = jnp.ldexp(jnp.ones_like(sure), jnp.frexp(sure)[1])
        return coefficients / power, power

    def reduced(self, losses: Any, target: Labels, weights: Any) -> Any:
        """Return the value of the rows' losses (...): NaN where a label that counts is out of range."""
        inside = (target >= 0) & (target < self.vocabulary)
        losses = jnp.where(inside | ~self._counted(target), jnp.where(inside, losses, 0), jnp.nan)
        coefficients = self._coefficients(target, weights, losses.dtype)
        # A weight of zero counts a row out, even one of NaN.
        out = (coefficients == 0) & ~jnp.isfinite(losses)
        values = jnp.where(out, 0, losses * coefficients)
        return values if self.reduction == "none" else values.sum()

    def _coefficients(self, target: Labels, weights: Any, dtype: Any) -> Any:
        weights = by_row(weights, target.shape)
        ones = jnp.ones(target.shape, dtype) if weights is None else weights.astype(dtype)
        counted = jnp.where(self._counted(target), ones, 0)
        if self.reduction != "mean":
            return counted
        total = counted.sum()
        return counted / jnp.where(total == 0, 1, total)

    def _losses(self, params: Params, x: In, target: Labels) -> Any:
        batch = self.batch(x, target, self.coefficients(x, target), True)

        def chunk(rows: Batch, widen: Any) -> tuple[None, Any]:
            return None, self.logits(x).losses(params, rows)[0]

        return _unflat(over_chunks(chunk, batch, self.examples(batch))[1], target)

    def _gradients(
        self, params: Params, x: In, target: Labels, coefficients: Any, wide: bool = False
    ) -> tuple[Any, Params, In]:
        likes = {name: widened(param) if wide else param for name, param in params.items()}
        pieces = [Piece(name, gradient, like, ()) for name, like in likes.items()]
        batch = self.batch(x, target, coefficients, by_row=True)
        losses, dx, readings = walk(
            partial(self.logits(x).chunk, params), batch, pieces, self.examples(batch)
        )
        grads = dict(zip(params, readings, strict=True))
        return _unflat(losses, target), grads, _unflat(dx, x)

    def _counted(self, target: Labels) -> Any:
        return jnp.ones(target.shape, bool) if self.ignore is None else target != self.ignore

    def _check_input(self, x: Any) -> None:
        check_floating(self, x)
        if not x.shape:
            raise InputError(self, "x of shape (..., k)", describe(x), "x.reshape(1)")

    def checked(self, params: Params, x: Any, target: Any, weights: Any) -> tuple[Params, Any, Any, Any]:
        """Return JAX's arrays of the arguments, labels in a dtype that holds them and the vocabulary.

        Raises InputError where the arguments do not fit, or a label is seen to be out of range.
        """
        params, x, target, weights = canonical((params, x, target, weights))
        self._check_input(x)
        k, V = x.shape[-1], self.vocabulary
        shapes = {self.weight: (V, k) if self.tied else (k, V)} | ({"bias": (V,)} if self.bias else {})
        check_params(self, params, shapes)
        check_array(self, target, "target")
        if target.shape != x.shape[:-1] or not jnp.issubdtype(target.dtype, jnp.integer):
            wanted = f"integer target of shape {x.shape[:-1]}"
            fix = f"jnp.zeros({x.shape[:-1]}, jnp.int32)"
            if target.shape == (*x.shape[:-1], V):  # soft or one-hot labels
                fix = "target.argmax(-1)"
            elif target.size == math.prod(x.shape[:-1]):
                fix = f"target.reshape({x.shape[:-1]}).astype(jnp.int32)"
            raise InputError(self, wanted, describe(target), fix)
        if weights is not None:
            check_floating(self, weights, "weights")
            if by_row(weights, target.shape).shape != target.shape:
                wanted = f"weights of shape {target.shape}, one for each row"
                fix = f"jnp.ones({target.shape})"
                raise InputError(self, wanted, describe(weights), fix)
        target = as_index(target)
        inside = jnp.where(self._counted(target), target, 0)
        counted = f"((target >= 0) & (target < {V})).astype(x.dtype)"
        below = f"head(params, x, jnp.clip(target, 0, {V - 1}), {counted})"
        check_range(self, inside, V, "labels", "fnn.LinearCrossEntropy({least})", below)
        return params, x, target, weights


def _scaled(by: Any, leaf: Any, like: Any) -> Any:
    """Multiply a gradient in float32 or wider, and round it once."""
    wide = widened(leaf)
    return (wide * by.astype(wide.dtype)).astype(like.dtype)


def _flat(leaf: Any, axes: int) -> Any:
    """Make the first axes one."""
    rest = range(axes, leaf.ndim)
    if axes == 1:
        return leaf
    shape = (math.prod(leaf.shape[:axes]), *(leaf.shape[axis] for axis in rest))
    return reshaped(leaf, shape, (leaf, 0 if axes else None), *((leaf, axis) for axis in rest))


def _unflat(leaf: Any, like: Any) -> Any:
    """Undo that: return the leaf with the shape and sharding of another."""
    return reshaped(leaf, like.shape, *((like, axis) for axis in range(like.ndim)))
