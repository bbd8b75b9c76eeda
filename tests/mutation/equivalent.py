"""Mutants that compute the same: the change, and why nothing can tell it apart."""

_PRODUCT = "x * dz is dz * x: a factor's gradient does not tell its two sides apart"
_UNREAD = "never looked at: where there is no output, no layer reads one"
_KINK = "differs at the kink alone, where either side is a subgradient"
_ZERO = "zeros stay zeros, whatever divides them"
_WEIGHTS = "where weights, none of them negative, sum to zero, all are zero, whatever divides them"
_SYMMETRIC = "symmetric"
_EVEN = "at zero both branches are equal"
_SQUARED = "squared: the sign is gone"
_NOTHING = "the exponential is zero beyond either floor"
_FREED = "changes only when an eager run may free a boundary"
_WAITED, _OTHERS = "dy is waited for, and its values are no matter", ("-dy", "dy * 0 + 1")
_ANY = "any number of the array will do"
_NEVER = "as never, and as much a secret"
_IGNORED = "the row's coefficient is zero, or NaN"
_AS_MANY = "there are as many of each"
_SUM = "a sum that nobody looks at"
_NOT_READ = "a factor of no param is not read"
_SHIFT = "a shift changes neither the value nor its derivative"
_LARGEST = "jnp.maximum(sums.largest, jnp.where(own.new, z, -jnp.inf).max(-1))"

EQUIVALENT = {
    "dense.product: accumulator(a.dtype, b.dtype) -> accumulator(b.dtype, a.dtype)": _SYMMETRIC,
    "Scale.backward: Scaled(x, dy) -> Scaled(dy, x)": _PRODUCT,
    "LayerNorm.backward: Scaled(h, wide) -> Scaled(wide, h)": _PRODUCT,
    "RMSNorm.backward: Scaled(h, wide) -> Scaled(wide, h)": _PRODUCT,
    "Activation.backward: dy -> -dy": "of a side that is not read only the shape counts",
    "Activation.backward: dy -> dy * 0 + 1": "likewise",
    "Parallel.backward: [None] * len(self.layers) -> [None]": _UNREAD,
    "Parallel.backward: [None] * len(self.layers) -> len(self.layers)": _UNREAD,
    "summed.added_into_rows: jnp.zeros(param.shape, dz.dtype).at[safe].add(dz, mode='drop')"
    " -> jnp.zeros(param.shape, dz.dtype).at[safe].add(dz)": "to drop is what JAX does by itself",
    "Serial.backward: known.pop(i + 1, None) -> known.pop(None, i + 1)": _FREED,
    "Serial.backward: known.pop(i + 1, None) -> known": _FREED,
    "Serial.backward: i + 1 -> -(i + 1) (2)": _FREED,
    "Serial.backward: 1 -> 2 (2)": _FREED,
    **{f"Serial.backward: dy -> {other}{n}": _WAITED for other in _OTHERS for n in ("", " (2)", " (3)")},
    "Loop._input_of: jnp.maximum(i - 1, 0) -> jnp.maximum(0, i - 1)": _SYMMETRIC,
    **{f"Remat.backward: dy -> {other}": _WAITED for other in _OTHERS},
    "ordering._never_of_many: 0 -> 1": _ANY,
    "ordering._never: numbers == 0 -> numbers != 0": _NEVER,
    "ordering._never: 0 -> 1": _NEVER,
    "ordering._never: 2 -> 3 (2)": _NEVER,
    "ordering._never: jnp.where(numbers == 0, 1, 2) -> jnp.where(1, numbers == 0, 2)": _NEVER,
    "ordering._never: jnp.where(numbers == 0, 1, 2) -> jnp.where(numbers == 0, 2, 1)": _NEVER,
    **{f"Reversible.backward_and_input: dy -> {other}": _WAITED for other in _OTHERS},
    "in_place._written: 0 -> 1": "a start is clamped: what is written is as long as its place",
    "Logits.chunk: batch.coefficient[..., None].astype(dz.dtype)"
    " -> batch.coefficient[..., None]": "both are of the dtype that is accumulated in",
    "Logits.chunk: 0 -> 1 (5)": "dz is zero there, so that any x that is finite will do",
    "Logits.chunk: {'bias': Total(dz)} if self.bias else {} -> {'bias': Total(dz)}": _NOT_READ,
    "walk.cross_entropy: jax.lax.stop_gradient(z.max(-1)) -> z.max(-1)": _SHIFT,
    **{f"walk.cross_entropy: -1 -> 1 ({i})": "the logits have two axes here" for i in (4, 5, 6)},
    "walk.walk: zip(pieces, whole, cuts, strict=True) -> zip(pieces, whole, cuts)": _AS_MANY,
    "walk.walk: zip(pieces, readings, strict=True) -> zip(pieces, readings)": _AS_MANY,
    "walk.walk: zip(pieces, readings, strict=True) -> zip(pieces, readings) (2)": _AS_MANY,
    "walk.walk: zip(pieces, summed, each, strict=True) -> zip(pieces, summed, each)": _AS_MANY,
    "walk.walk: True -> False": _AS_MANY,
    **{f"walk.walk: True -> False ({i})": _AS_MANY for i in (2, 3, 4)},
    "walk.walk: r if p.adds else None -> r": _SUM,
    "columns.gradients: min(chunk or COLUMNS, weight.shape[axis])"
    " -> min(weight.shape[axis], chunk or COLUMNS)": _SYMMETRIC,
    "columns.gradients: jnp.minimum(first, weight.shape[axis] - size)"
    " -> jnp.minimum(weight.shape[axis] - size, first)": _SYMMETRIC,
    f"columns.gradients: lax.stop_gradient({_LARGEST}) -> {_LARGEST}": _SHIFT,
    f"columns.gradients: {_LARGEST}"
    " -> jnp.maximum(jnp.where(own.new, z, -jnp.inf).max(-1), sums.largest)": _SYMMETRIC,
    **{
        f"columns.gradients: -1 -> 1{i}": "the logits have two axes here"
        for i in ("", " (2)", " (3)", " (4)")
    },
    "columns.gradients: batch.coefficient[:, None].astype(dtype)"
    " -> batch.coefficient[:, None]": "both are of the dtype that is accumulated in",
    "columns.gradients: 0 -> 1 (9)": "dz is zero there, so that any x that is finite will do",
    **{
        f"dense.product: 1 - axis -> {other}": "the other axis of a matrix, counted from the end"
        for other in ("-(1 - axis)", "axis - 1")
    },
    "columns.chosen: sharding_of(weight, x) -> sharding_of(x, weight)": _SYMMETRIC,
    "chunks._scanned: max(1, size) -> max(size, 1)": _SYMMETRIC,
    "chunks._scanned: max(1, -(-own // max(1, size))) -> max(-(-own // max(1, size)), 1)": _SYMMETRIC,
    "chunks._scanned: jax.tree.map(lambda total, more: total + placed_like(more, total), total, more)"
    " -> jax.tree.map(lambda total, more: total + placed_like(more, total), more, total)": _SYMMETRIC,
    "LinearCrossEntropy.batch: self.counting.counted(target) & (target >= 0) -> target >= 0": _IGNORED,
    "LinearCrossEntropy.batch: 0 -> 1 (3)": _IGNORED,
    "Counting.reduced: 0 -> 1 (2)": _IGNORED,
    "Counting.coefficients: 1 -> 2": _WEIGHTS,
    "LinearCrossEntropy.examples: max(1, (self.chunk or min(max(LEAST, k // 2), MOST)) // max(1, tokens))"
    " -> max((self.chunk or min(max(LEAST, k // 2), MOST)) // max(1, tokens), 1)": _SYMMETRIC,
    "LinearCrossEntropy.examples: min(max(LEAST, k // 2), MOST) -> min(MOST, max(LEAST, k // 2))": _SYMMETRIC,
    "LinearCrossEntropy.examples: max(LEAST, k // 2) -> max(k // 2, LEAST)": _SYMMETRIC,
    "LinearCrossEntropy.examples: max(1, tokens) -> max(tokens, 1)": _SYMMETRIC,
    "pieces.gradients: zip(params, readings, strict=True) -> zip(params, readings)": _AS_MANY,
    "pieces.gradients: True -> False (2)": _AS_MANY,
    "factors._behind_examples: min(1, axes - 1) -> min(axes - 1, 1)": _SYMMETRIC,
    "factors._behind_examples: jnp.moveaxis(leaf, 0, min(1, axes - 1))"
    " -> jnp.moveaxis(leaf, min(1, axes - 1), 0)": "neighbours change places either way",
    "piecewise.d_hard_tanh: jnp.abs(y) -> jnp.square(y)": "the square is below one just where the number is",
    "Loss.value_and_grad: dy -> -dy": "as finite as dy",
    "Loss.value_and_grad: dy -> dy * 0 + 1": "as finite as dy",
    "Objective.row_weights: 1 -> 2": _WEIGHTS,
    "classification._log_softmax: jax.lax.stop_gradient(y.max(-1, keepdims=True))"
    " -> y.max(-1, keepdims=True)": _SHIFT,
    "regression._unit: 1 -> 2 (2)": _ZERO,
    "regression._unit: 1 -> 2 (3)": _ZERO,
    "regression._cosine: 1 -> 2 (3)": "divides where the norm is zero, and what it gives is set to zero",
    "normal._d_gelu: 40.0 -> 41.0": _NOTHING,
    "normal._d_gelu: jnp.minimum(jnp.abs(x), 40.0) -> jnp.minimum(40.0, jnp.abs(x))": _SYMMETRIC,
    "normal._d_gelu: x > 0 -> x >= 0": _EVEN,
    "normal._d_gelu_tanh: 40.0 -> 41.0": _NOTHING,
    "normal._d_gelu_tanh: jnp.minimum(jnp.abs(x), 40.0) -> jnp.minimum(40.0, jnp.abs(x))": _SYMMETRIC,
    "normal._d_gelu_tanh: 1 + e -> -(1 + e)": _SQUARED,
    "normal._d_gelu_tanh: x > 0 -> x >= 0": _EVEN,
    "weighted._d_silu: 1000.0 -> 1001.0": _NOTHING,
    "weighted._d_silu: jnp.minimum(jnp.abs(x), 1000.0) -> jnp.minimum(1000.0, jnp.abs(x))": _SYMMETRIC,
    "weighted._d_silu: 1 / (1 + e) -> -(1 / (1 + e))": _SQUARED,
    "weighted._d_silu: 1 + e -> -(1 + e)": _SQUARED,
    "weighted._d_silu: x > 0 -> x >= 0": _EVEN,
    "weighted.d_mish: 1 + 2 * e * (1 + e) -> -(1 + 2 * e * (1 + e))": _SQUARED,
    "weighted.d_mish: 2 + e * (2 + e) -> -(2 + e * (2 + e))": _SQUARED,
    "smooth.d_sigmoid: 1 + e -> -(1 + e)": _SQUARED,
    "smooth.d_tanh: 1 + e * e -> -(1 + e * e)": _SQUARED,
    "smooth.d_tanh: 2 * e / (1 + e * e) -> -(2 * e / (1 + e * e))": _SQUARED,
    "smooth.d_tanh: 2 * e -> -(2 * e)": _SQUARED,
    "smooth.d_softsign: 1 / (1 + jnp.where(x > 0, x, -x)) -> -(1 / (1 + jnp.where(x > 0, x, -x)))": _SQUARED,
    "smooth.d_softsign: 1 + jnp.where(x > 0, x, -x) -> -(1 + jnp.where(x > 0, x, -x))": _SQUARED,
    "smooth.d_softsign: x > 0 -> x >= 0": _KINK,
    "classification._kl_divergence: 1 -> 2": "times a target of zero, whatever its logarithm",
    "regression._cosine: 0 -> 1 (4)": "a row has one cosine: an index beyond the end is the last",
    "regression._huber: jnp.clip(d, -delta, delta) -> jnp.clip(-delta, d, delta)": _SYMMETRIC,
    "classification._binary_cross_entropy: y >= 0 -> y > 0": _EVEN,
    "classification._binary_cross_entropy: y >= 0 -> y > 0 (2)": _EVEN,
    "classification._binary_cross_entropy: y >= 0 -> y > 0 (3)": _EVEN,
    "classification._binary_cross_entropy: y >= 0 -> y > 0 (4)": _EVEN,
    "classification._hinge: 1 - t * y > 0 -> 1 - t * y >= 0": _KINK,
}
