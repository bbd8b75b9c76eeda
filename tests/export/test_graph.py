"""Networks as ONNX graphs: onnxruntime computes what fnn computes, and chains come back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.activations import table as rows
from fnn.compose.remat import Remat

pytest.importorskip("onnx")
import fnn.export as export

ACTIVATIONS = [value for value in vars(rows).values() if isinstance(value, (rows.Activation, rows.Softmax))]
MADE = [rows.leaky_relu_with(0.2), rows.elu_with(0.3), rows.celu_with(0.7)]
CHAINS = {
    "relu": fnn.mlp([5, 7, 3]),
    "scanned gelu": fnn.mlp([5, 7, 7, 7, 7, 7, 3], fnn.gelu, scan=True),
    "no bias": fnn.mlp([5, 4, 2], fnn.sigmoid, bias=False),
    "every activation": fnn.mlp([5, *[6] * len(ACTIVATIONS + MADE), 3], [*ACTIVATIONS, *MADE]),
}
NETS = CHAINS | {
    "activations beside each other": fnn.Serial(
        fnn.Scale(4.0), fnn.Parallel(*ACTIVATIONS, *MADE, join="concatenate")
    ),
    "skips": fnn.Serial(
        fnn.Repeat(fnn.Skip(fnn.Serial(fnn.Dense(5), fnn.tanh, fnn.Dropout(0.5))), 3), fnn.softmax
    ),
    "recomputed": Remat(fnn.mlp([5, 4, 2])),
    "shared": fnn.Repeat(fnn.Skip(fnn.Serial(fnn.relu, fnn.Dense(5))), 3, shared=True),
    "norms": fnn.Serial(
        fnn.LayerNorm(), fnn.Dense(6), fnn.RMSNorm(), fnn.LayerNorm(scale=False, bias=False), fnn.Bias(0.5)
    ),
    "names": fnn.Serial(
        body=fnn.Serial(fnn.Dense(4), fnn.relu), head=fnn.Serial(drop=fnn.Dropout(0.1), out=fnn.Dense(2))
    ),
    "entries": fnn.Serial(
        fnn.Heads({"a": fnn.Dense(4), "b": fnn.Serial(fnn.Dense(4), fnn.tanh), "c": fnn.relu}),
        fnn.Each({"a": fnn.tanh, "b": fnn.Dense(4), "c": fnn.identity}),
        fnn.Heads((fnn.Serial(fnn.Select(("a", "b")), fnn.Sum()), fnn.Select("c"))),
        fnn.Concatenate(),
    ),
    "gates in blocks": fnn.gated(6, blocks=3),
    "branches": fnn.Parallel(fnn.gated(5), fnn.Dense(5), fnn.Serial(fnn.relu, fnn.Scale(2.0))),
}


def problem(net, shape=(4, 5)):
    x = jax.random.normal(jax.random.key(1), shape, jnp.float32)
    return fnn.init(net, jax.random.key(0), x), x


def apply(net, params, x):
    return np.asarray(jax.jit(fnn.apply, static_argnums=0)(net, params, x))


def run(path, x):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.asarray(x)})[0]


def assert_same(y, other):
    """Assert agreement to 1e-6 of the largest output."""
    assert y.shape == other.shape and y.dtype == other.dtype
    np.testing.assert_allclose(y, other, rtol=0, atol=1e-6 * np.abs(other).max())


@pytest.mark.parametrize("name", NETS)
def test_onnxruntime_computes_the_same(name, tmp_path):
    net = NETS[name]
    for shape in [(4, 5)] if name == "every activation" else [(4, 5), (2, 3, 5)]:
        params, x = problem(net, shape)
        export.onnx(net, params, x, tmp_path / "net.onnx")
        y = apply(net, params, x)
        assert_same(run(tmp_path / "net.onnx", x), y)
        assert_same(run(tmp_path / "net.onnx", x[:1]), y[:1])  # any n


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_indices_of_every_dtype_give_rows_or_nan(dtype, tmp_path):
    net, limits = fnn.Embedding(300, 2), np.iinfo(dtype)
    drawn = np.array([0, 1, 127, 255, 299, 300, 301, limits.max, -1, -2, -300, -301, limits.min], object)
    x = drawn[(drawn >= limits.min) & (drawn <= limits.max)].astype(dtype)
    params = fnn.init(net, jax.random.key(0), x)
    known = np.array([0 <= int(i) < 300 for i in x])
    rows = np.asarray(params["embedding"])[np.where(known, x, 0).astype(int)]
    y = np.where(known[:, None], rows, np.float32(np.nan))
    export.onnx(net, params, jax.ShapeDtypeStruct(x.shape, dtype), tmp_path / "net.onnx")
    np.testing.assert_array_equal(run(tmp_path / "net.onnx", x), y)
    export.onnx(net, params, jax.ShapeDtypeStruct((1, *x.shape), dtype), tmp_path / "net.onnx")
    np.testing.assert_array_equal(run(tmp_path / "net.onnx", x[None]), y[None])


def test_embedding_takes_indices(tmp_path):
    net, x = fnn.Serial(fnn.Embedding(10, 6), fnn.Dense(3)), jnp.arange(8) % 10
    params = fnn.init(net, jax.random.key(0), x)
    for batch in (x, x.reshape(2, 4)):
        export.onnx(net, params, batch, tmp_path / "net.onnx")
        assert_same(run(tmp_path / "net.onnx", batch), apply(net, params, batch))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (fnn.activation(jnp.sin), r"net.layers\[1\]: onnx: expected .* of fnn, or a writer for it, got sin"),
        (
            fnn.Parallel(fnn.Dense(4, dtype=jnp.bfloat16)),
            r"net.layers\[1\].layers\[0\]: onnx: expected layers that compute in x's dtype",
        ),
    ],
)
def test_what_has_no_counterpart_is_named(layer, said, tmp_path):
    net = fnn.Serial(fnn.Dense(4), layer)
    x = jnp.zeros((2, 5), jnp.float32)
    params = fnn.init(net, jax.random.key(0), x)
    (tmp_path / "net.onnx").write_bytes(b"the earlier one")
    with pytest.raises(fnn.InputError, match=said):
        export.onnx(net, params, x, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == b"the earlier one" and len(list(tmp_path.iterdir())) == 1


def test_wrong_arguments_are_named(tmp_path):
    net, path = NETS["relu"], tmp_path / "net.onnx"
    wrong: Any = "net"
    params, x = problem(net)
    with pytest.raises(fnn.InputError, match="x of shape"):
        export.onnx(net, params, x[0], path)
    with pytest.raises(fnn.InputError, match=r"params \{kernel: \(5, 7\)"):
        export.onnx(net, problem(fnn.mlp([5, 6, 3]))[0], x, path)
    with pytest.raises(fnn.InputError, match="expected x in float32 or float64"):
        export.onnx(net, params, x.astype(jnp.bfloat16), path)
    heads = fnn.Heads({"a": fnn.relu, "b": fnn.tanh})
    with pytest.raises(fnn.InputError, match=r"one array as output, got \{a: float32.*fnn\.Concatenate"):
        export.onnx(heads, {}, x, path)
    with pytest.raises(fnn.InputError, match="an array or shape as x"):
        export.onnx(fnn.Concatenate(), (), (x, x), path)
    with pytest.raises(fnn.InputError, match="expected a network"):
        export.onnx(wrong, params, x, path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        export.onnx(net, params, x, tmp_path / "nowhere" / "net.onnx")
    assert not list(tmp_path.iterdir())
