"""Mutants that compute the same: the change, and why nothing can tell it apart."""

_PRODUCT = "x * dz is dz * x: a factor's gradient does not tell its two sides apart"
_UNREAD = "never looked at: where there is no output, no layer reads one"
_GIVEN = "the layer looks only at the sides that it names"
_KINK = "differs at the kink alone, where either side is a subgradient"

EQUIVALENT = {
    "product: accumulator(a.dtype, b.dtype) -> accumulator(b.dtype, a.dtype)": "symmetric",
    "Scale.backward: Scaled(x, dy) -> Scaled(dy, x)": _PRODUCT,
    "LayerNorm.backward: Scaled(h, wide) -> Scaled(wide, h)": _PRODUCT,
    "RMSNorm.backward: Scaled(h, wide) -> Scaled(wide, h)": _PRODUCT,
    "Activation.backward: dy -> -dy": "of a side that is not read only the shape counts",
    "Activation.backward: dy -> jnp.ones_like(dy)": "likewise",
    "Parallel.backward: [None] * len(self.layers) if y is None else jnp.split(y, ends, axis=-1)"
    " -> jnp.split(y, ends, axis=-1)": "an output of None splits into slices that no layer reads",
    **{
        f"Parallel.backward: [None] * len(self.layers) -> {other}": _UNREAD
        for other in (
            "[None] / len(self.layers)",
            "[None] + len(self.layers)",
            "[None]",
            "len(self.layers)",
            "-([None] * len(self.layers))",
        )
    },
    "Parallel.backward: x if 'input' in layer.needs else None -> x": _GIVEN,
    "Parallel.backward: outputs[i] if 'output' in layer.needs else None -> outputs[i]": _GIVEN,
    "Parallel.backward: 0 -> 1": "for indices every branch gives float0",
    "Parallel.backward: 0 -> 1 (2)": "likewise",
    "gradient: jnp.zeros(param.shape, acc).at[safe].add(dz.astype(acc), mode='drop')"
    " -> jnp.zeros(param.shape, acc).at[safe].add(dz.astype(acc))": "to drop is what JAX does by itself",
    "_cosine: 1 -> 2 (2)": "divides where the norm is zero, and what it gives there is set to zero",
    "d_silu: x > 0 -> x >= 0": "at zero both branches are one half",
    "d_silu: 1 + e -> -(1 + e) (2)": "squared",
    "_hinge: 1 - t * y > 0 -> 1 - t * y >= 0": _KINK,
}
