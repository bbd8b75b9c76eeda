"""The linear layer and the softmax cross-entropy in one: the logits (n, V) exist in chunks of rows alone."""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fnn.arrays import accumulator, widened
from fnn.chunks import over_chunks
from fnn.core import Layer
from fnn.errors import InputError, brief, describe
from fnn.initializers import lecun_normal, zeros
from fnn.layers.dense import Initializer
from fnn.losses.called import called
from fnn.losses.head_checks import check_head, check_input, checked
from fnn.losses.logits import Logits
from fnn.losses.objective import Objective, Reduction
from fnn.losses.paths import Path
from fnn.losses.pieces import read_pieces
from fnn.losses.rows import Counting, flat, unflat
from fnn.losses.tied import Alone, through_tied
from fnn.losses.walk import Batch, Piece, flat_readers, walk
from fnn.reader import gradient
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
        check_head(self)

    def logits(self, x: Any) -> Logits:
        """Return how the losses follow from rows like `x`."""
        dtype = x.dtype if self.dtype is None else jnp.dtype(self.dtype)
        return Logits(self.bias, bool(self.tied), self.label_smoothing, self.z_loss, dtype)

    @property
    def reads_net(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a param of the network's is the weight."""
        return bool(self.tied)

    @property
    def counting(self) -> Counting:
        """Which rows count, and by how much."""
        return Counting(self.vocabulary, self.ignore, self.reduction)

    @property
    def weight(self) -> str:
        """The weight's name among the params."""
        return "embedding" if self.tied else "kernel"

    def init(self, key: Any, y: Any) -> Params:
        """Draw the params for rows like `y` (..., k), an array or a shape: no weight where it is tied."""
        check_input(self, y)
        dtype = accumulator(y.dtype)
        w_key, b_key = jax.random.split(key)
        w = {} if self.tied else {"kernel": self.kernel_init(w_key, (y.shape[-1], self.vocabulary), dtype)}
        return w | ({"bias": self.bias_init(b_key, (self.vocabulary,), dtype)} if self.bias else {})

    def __call__(self, params: Params, x: In, target: Labels, weights: Any = None) -> Any:
        """Return the value, () or, for "none", (...), in one product; `jax.grad` goes through our rule.

        Reverse mode only: for `jax.jvp`, `jax.jacfwd` or `jax.linearize` call `head.value`.
        """
        return called(self, params, x, target, weights)

    def value(self, params: Params, x: In, target: Labels, weights: Any = None) -> Any:
        """Return the value alone, as plain code: for forward mode and for derivatives of any order."""
        params, x, target, weights = checked(self, params, x, target, weights)
        return self.counting.reduced(self.losses(params, x, target), target, weights)

    def value_and_grad(
        self, params: Params, x: In, target: Labels, weights: Any = None, scale: Any = None
    ) -> tuple[Any, tuple[Params, In]]:
        """Return the value, and its gradients by params and `x`, with their shapes and dtypes: three
        products.

        With reduction "none" they are those of the sum of the values. `scale` multiplies the gradients
        before they are rounded. Raises InputError where the arguments do not fit.
        """
        params, x, target, weights = checked(self, params, x, target, weights)
        losses, grads, dx = self.gradients(params, x, target, self.coefficients(x, target, weights, scale))
        return self.counting.reduced(losses, target, weights), (grads, dx)

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
        params, y, target, weights = checked(self, params, y, target, weights)
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
        losses, dy, found = read_pieces(self, params, y, target, weights, coefficients, pieces)
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
        return through_tied(self, lambda _: Alone(self), net, params, x, target, key, weights, read, scale)

    def batch(self, x: In, target: Labels, coefficients: Any, by_row: bool) -> Batch:
        """Return the rows: all of them alike, (n, k), where `by_row`; else examples (n, ..., k)."""
        if not by_row and x.ndim < 2:
            raise InputError(self, "examples on axis 0, x (n, ..., k)", describe(x), "x[None]")
        valid = self.counting.counted(target) & (target >= 0) & (target < self.vocabulary)
        coefficients = jnp.where(valid | (coefficients == 0), coefficients, jnp.nan)
        batch = Batch(x, jnp.where(valid, target, 0), coefficients)
        if not by_row:
            return batch
        return jax.tree.map(lambda leaf: flat(leaf, target.ndim), batch)

    def examples(self, batch: Batch) -> int:
        """Return how many examples make a chunk."""
        tokens, k = math.prod(batch.x.shape[1:-1]), batch.x.shape[-1]
        return max(1, (self.chunk or min(max(LEAST, k // 2), MOST)) // max(1, tokens))

    def coefficients(
        self, x: In, target: Labels, weights: Any = None, scale: Any = None
    ) -> Float[Array, "..."]:
        """Return what each row's gradient is multiplied by, (...), before "mean" and "sum" add up."""
        found = self.counting.coefficients(target, weights, accumulator(self.logits(x).dtype))
        return found if scale is None else found * jnp.asarray(scale, found.dtype)

    def losses(self, params: Params, x: In, target: Labels) -> Any:
        """Return the rows' losses (...), in one product."""
        batch = self.batch(x, target, self.coefficients(x, target), True)

        def chunk(rows: Batch, widen: Any) -> tuple[None, Any]:
            return None, self.logits(x).losses(params, rows)[0]

        return unflat(over_chunks(chunk, batch, self.examples(batch))[1], target)

    def gradients(
        self, params: Params, x: In, target: Labels, coefficients: Any, wide: bool = False
    ) -> tuple[Any, Params, In]:
        """Return the rows' losses, and the gradients by params and `x` of their sum with these
        coefficients.
        """
        likes = {name: widened(param) if wide else param for name, param in params.items()}
        pieces = [Piece(name, gradient, like, ()) for name, like in likes.items()]
        batch = self.batch(x, target, coefficients, by_row=True)
        losses, dx, readings = walk(
            partial(self.logits(x).chunk, params), batch, pieces, self.examples(batch)
        )
        grads = dict(zip(params, readings, strict=True))
        return unflat(losses, target), grads, unflat(dx, x)
