"""Layers of Flax and Haiku."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, normal, row


def rows() -> Iterator[Row]:
    import flax.linen as nn
    import haiku as hk
    import jax
    from flax import nnx

    x, seq = normal(4, 6), normal(2, 5, 6)
    plain = {
        "Dense": (nn.Dense(3), x), "LayerNorm": (nn.LayerNorm(), x), "RMSNorm": (nn.RMSNorm(), x),
        "GroupNorm": (nn.GroupNorm(2), x), "Conv": (nn.Conv(4, (3,)), seq), "ConvTranspose": (nn.ConvTranspose(4, (3,)), seq),
        "MultiHeadDotProductAttention": (nn.MultiHeadDotProductAttention(2), seq),
        "RNN(LSTMCell)": (nn.RNN(nn.LSTMCell(5)), seq), "RNN(GRUCell)": (nn.RNN(nn.GRUCell(5)), seq),
        "SpectralNorm": (nn.Sequential([nn.Dense(4), nn.PReLU(), nn.Dense(2)]), x), "WeightNorm": (nn.WeightNorm(nn.Dense(3)), x),
        "Einsum": (nn.Einsum((6, 3), "bi,ij->bj"), x), "DenseGeneral": (nn.DenseGeneral((2, 3)), x),
    }  # fmt: skip
    for name, (layer, given) in plain.items():
        params = layer.init(jax.random.key(0), given)
        yield row(f"flax.linen.{name}", lambda p, x, f=layer: f.apply(p, x), params, given)
    dense, state = nnx.split(nnx.Linear(6, 3, rngs=nnx.Rngs(0)))
    yield row(
        "flax.nnx.Linear",
        lambda s, x: nnx.merge(dense, s)(x),
        state.to_pure_dict() if hasattr(state, "to_pure_dict") else state,
        x,
    )
    for name, make, given in (
        ("Linear", lambda: hk.Linear(3), x), ("LayerNorm", lambda: hk.LayerNorm(-1, True, True), x),
        ("LSTM", lambda: lambda x: hk.dynamic_unroll(hk.LSTM(4), x, hk.LSTM(4).initial_state(2), time_major=False)[0], seq),
        ("GRU", lambda: lambda x: hk.dynamic_unroll(hk.GRU(4), x, hk.GRU(4).initial_state(2), time_major=False)[0], seq),
        ("MultiHeadAttention", lambda: lambda x: hk.MultiHeadAttention(2, 3, w_init=hk.initializers.VarianceScaling(1.0))(x, x, x), seq),
        ("Conv1D", lambda: hk.Conv1D(4, 3), seq), ("InstanceNorm", lambda: hk.InstanceNorm(True, True), seq),
    ):  # fmt: skip
        net = hk.without_apply_rng(hk.transform(lambda x, make=make: make()(x)))
        params = net.init(jax.random.key(0), given)
        yield row(f"haiku.{name}", lambda p, x, f=net: f.apply(p, x), params, given)
