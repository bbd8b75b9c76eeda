"""A linear layer and its softmax cross-entropy in one, with the logits of a chunk of rows at a time."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fnn.arrays import accumulator
from fnn.chunks import over_chunks
from fnn.core import Layer
from fnn.errors import InputError, brief, describe
from fnn.initializers import lecun_normal, zeros
from fnn.layers.dense import Initializer
from fnn.losses import columns
from fnn.losses.called import called
from fnn.losses.ending import Alone
from fnn.losses.head_checks import check_head, check_input, checked
from fnn.losses.logits import Logits
from fnn.losses.objective import Objective, Reduction
from fnn.losses.paths import Path
from fnn.losses.pieces import gradients, read_pieces
from fnn.losses.rows import Counting, flat, unflat
from fnn.losses.tied import through_tied
from fnn.losses.walk import Batch, Piece, flat_readers
from fnn.reading import Reading, Stacked

Params = dict[str, Array]
In = Float[Array, "*n k"]
Labels = Int[Array, "*n"]
LEAST, MOST = 128, 512  # rows of a chunk: with fewer, a product waits for the weight; more only take room


@dataclass(frozen=True, repr=False)
class LinearCrossEntropy(Objective):
    """A linear layer to V = `vocabulary` logits and their softmax cross-entropy: a loss that has params.

    params: `{"kernel": (k, V), "bias": (V,)}`, without "bias" where `bias=False`. It is used as a loss,
    `fnn.value_and_grad(net, head)`, with `params = (fnn.init(net, ...), head.init(key, y))`, y like the
    network's output; or called, `head(params, x, target)`: `x` (..., k), `target` integer labels (...).

    A row's loss is s - t . z + z_loss s^2, with z = x W + b, s = log sum exp z, and t the one-hot label,
    smoothed. A label outside of 0 .. V - 1 that is not `ignore` raises an error in eager code, and gives NaN
    under jit. Products are accumulated in float32 or wider, as softmax and losses are.

    Cost over rows: 6nkV flops with gradients (8nkV for reduction "none" under `jax.grad`), 2nkV for the value
    alone. Temporaries: the logits of a chunk, twice, or once beside a share of the weight's gradient, kV.
    Over the vocabulary: 8nkV flops; the logits of a chunk, twice, and nk numbers in float32. Sources: Hsu et
    al. 2024 (Liger kernels), Wijmans et al. 2024 (Cut Cross-Entropy); tied weights: Press, Wolf 2017.

    Args:
        vocabulary: the number of labels V, an integer >= 1.
        bias: whether there is a bias.
        tied: the keys that lead to a table (V, k) among the network's params, such as `(0, "embedding")`: it
            is the head's weight, in place of "kernel" (in a call `{"embedding": (V, k), "bias": (V,)}`), and
            gets the gradient of both uses. Empty for a weight of its own.
        label_smoothing: e, 0 <= e < 1: t is (1 - e) onehot + e / V.
        z_loss: the weight of s^2, a number >= 0.
        ignore: the label, such as -1, of rows that do not count in sum or mean; None for no such label.
        reduction: "mean", "sum" or "none", as for `fnn.Loss`.
        chunk: the number of rows, or of columns of the vocabulary, that have logits at a time; None for k / 2
            rows, but from 128 to 512, so that the logits take at most half the room of the weight's gradient,
            unless k is small; or for 512 columns.
        walk: "rows" or "vocabulary", what gradients are made in chunks of; None for the vocabulary where
            params or products are narrower than float32, on no mesh. Other readings are made over rows.
        dtype: the dtype that the products are computed in; None for the input's.
        kernel_init: the initializer of the weight, a function `(key, shape, dtype)`.
        bias_init: the initializer of the bias, likewise.
        reduce: the dtype in which devices add up gradients, as for `fnn.Dense`.

    Raises:
        InputError: where an option is out of its range, or, on use, the arguments do not fit.

    >>> head, x = LinearCrossEntropy(4), jnp.zeros((1, 2))
    >>> f"{head(head.init(jax.random.key(0), x), x, jnp.array([2])):.4f}"
    '1.3863'
    """

    vocabulary: int
    bias: bool = True
    tied: Path = ()
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    ignore: int | None = None
    reduction: Reduction = "mean"
    chunk: int | None = None
    walk: columns.Walk | None = None
    dtype: Any = None
    kernel_init: Initializer = field(default=lecun_normal(), repr=False)
    bias_init: Initializer = field(default=zeros(), repr=False)
    reduce: Any = None
    __repr__ = brief
    has_params = True
    couples_examples = False

    def __post_init__(self) -> None:
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
        """Return the value and its gradients, with reduction "none" those of the sum, by three products."""
        params, x, target, weights = checked(self, params, x, target, weights)
        losses, grads, dx = self.gradients(params, x, target, self.coefficients(x, target, weights, scale))
        return self.counting.reduced(losses, target, weights), (grads, dx)

    def with_reduction(self, reduction: Reduction) -> "LinearCrossEntropy":
        """Return the same loss, reduced in another way."""
        return replace(self, reduction=reduction)

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Return the network's and the head's params of a pair. Raises InputError for anything else."""
        if not isinstance(tree, (tuple, list)) or len(tree) != 2 or not isinstance(tree[1], dict):
            fix = "(fnn.init(net, key, x), head.init(key, y))"
            raise InputError(self, "params of the network and of the head, a pair", describe(tree), fix)
        return tree[0], tree[1]

    def merge(self, of_net: Any, of_loss: Any) -> Any:
        """Return the pair."""
        return of_net, of_loss

    def pull(
        self, params: Params, y: In, target: Labels, weights: Any, read: Reading, scale: Any = None
    ) -> tuple[Any, In, dict[str, Any]]:
        """Return the value, its gradient by `y`, and what is read of the params' factors, chunk by chunk.

        Readers that do not declare how they read in chunks get the factor (n, V) whole. `as_factors` makes it
        a `Chunked`: the logits are computed again whenever such a factor is read, 2nkV flops more.
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
        """Run network and head; the readings of a tied table's two uses are at the table's place."""
        if not self.tied:
            return super().through(net, params, x, target, key, weights, read, scale)
        return through_tied(self, lambda _: Alone(self), net, params, x, target, key, weights, read, scale)

    def walks(self, params: Params, x: In) -> columns.Walk:
        """Return what gradients are made in chunks of. Args: `params`, `x`, as in a call."""
        return self.walk or columns.chosen(params[self.weight], x, self.logits(x).dtype, self.vocabulary)

    def batch(self, x: In, target: Labels, coefficients: Any, by_row: bool) -> Batch:
        """Return the rows, (n, k) where `by_row`, else examples (n, ..., k).

        Args: `x`, `target`, as in a call; `coefficients`, factors of the rows' gradients; `by_row`.
        """
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
        self, y: In, target: Labels, weights: Any = None, scale: Any = None
    ) -> Float[Array, "..."]:
        """Return each row's weight in the gradients. Args: `y`, `target`, `weights`, `scale`, as above."""
        found = self.counting.coefficients(target, weights, accumulator(self.logits(y).dtype))
        return found if scale is None else found * jnp.asarray(scale, found.dtype)

    def losses(self, params: Params, x: In, target: Labels) -> Any:
        """Return the rows' losses (...), in one product. Args: `params`, `x`, `target`, as in a call."""
        batch = self.batch(x, target, self.coefficients(x, target), True)

        def chunk(params: Params, rows: Batch, widen: Any) -> tuple[None, Any]:
            return None, self.logits(x).losses(params, rows)[0]

        return unflat(over_chunks(chunk, params, batch, self.examples(batch))[1], target)

    def gradients(
        self, params: Params, x: In, target: Labels, coefficients: Any, wide: bool = False
    ) -> tuple[Any, Params, In]:
        """Return the rows' losses, and the gradients by params and `x` of their weighted sum.

        Args: `params`, `x`, `target`, as in a call; `coefficients`, weights (...); `wide`, not to round.
        """
        return gradients(self, params, x, target, coefficients, wide)
