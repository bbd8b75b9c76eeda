"""Networks and data leave and come back: ONNX against onnxruntime, safetensors, TFRecord."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

pytest.importorskip("onnx")
import fnn.export as export
from fnn.export.graph import OPERATORS

NETS = {
    "relu": fnn.mlp([5, 7, 3]),
    "scanned gelu": fnn.mlp([5, 7, 7, 7, 7, 7, 3], fnn.gelu),
    "every activation": fnn.mlp(
        [5, *[6] * 14, 3],
        [*(a for a, _ in OPERATORS.values()), fnn.gelu, fnn.gelu_tanh, fnn.silu],
        scan_from=99,
    ),
    "skips": fnn.Serial(
        fnn.Repeat(fnn.Skip(fnn.Serial(fnn.Dense(5), fnn.tanh, fnn.Dropout(0.5))), 3), fnn.softmax
    ),
    "no bias": fnn.Serial(fnn.Dense(4, bias=False), fnn.sigmoid, fnn.Dense(2, bias=False)),
}


def problem(net, shape=(4, 5)):
    x = jax.random.normal(jax.random.key(1), shape, jnp.float32)
    return fnn.init(net, jax.random.key(0), x), x


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5)], ids=str)
def test_onnxruntime_computes_the_same(name, shape, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    net = NETS[name]
    params, x = problem(net, shape)
    export.onnx(net, params, x, tmp_path / "net.onnx")
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for batch in (x, x[:1]):  # any n
        (y,) = session.run(None, {"x": np.asarray(batch)})
        np.testing.assert_allclose(y, fnn.apply(net, params, batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "scanned gelu", "no bias"])
def test_chains_come_back_with_their_params(name, tmp_path):
    net = NETS[name]
    params, x = problem(net)
    export.onnx(net, params, x, tmp_path / "net.onnx")
    again, back = export.from_onnx(tmp_path / "net.onnx")
    y = fnn.apply(again, jax.tree.map(jnp.asarray, back), x)
    np.testing.assert_allclose(y, fnn.apply(net, params, x), rtol=1e-4, atol=1e-6)
    assert all(isinstance(layer, (fnn.Dense, fnn.Activation)) for layer in again.layers)


def test_what_has_no_counterpart_is_named(tmp_path):
    net = fnn.Serial(fnn.Dense(4), fnn.activation(jnp.sin))
    params, x = problem(net)
    with pytest.raises(fnn.InputError, match="known activation, got sin"):
        export.onnx(net, params, x, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    params, x = problem(NETS["skips"])
    export.onnx(NETS["skips"], params, x, tmp_path / "net.onnx")
    with pytest.raises(fnn.InputError, match="from_onnx: expected"):
        export.from_onnx(tmp_path / "net.onnx")
    with pytest.raises(fnn.InputError, match="x of shape"):
        export.onnx(NETS["relu"], *problem(NETS["relu"], (5,)), tmp_path / "net.onnx")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_params_come_back_from_safetensors(dtype, tmp_path):
    pytest.importorskip("safetensors")
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), problem(NETS["scanned gelu"])[0])
    params[0]["w"] = np.asarray(params[0]["w"]).T.copy().T  # in Fortran's order
    export.save_params(params, tmp_path / "params.safetensors")
    back = export.load_params(
        tmp_path / "params.safetensors", jax.eval_shape(lambda: jax.tree.map(jnp.asarray, params))
    )
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    with pytest.raises(fnn.InputError, match="expected the leaves"):
        export.load_params(tmp_path / "params.safetensors", params[:1])
    other = jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape), leaf.dtype), params)
    with pytest.raises(fnn.InputError, match=r"0\.b like"):
        export.load_params(tmp_path / "params.safetensors", other)


def test_records_come_back_and_damage_is_found(tmp_path):
    pytest.importorskip("tfrecords")
    path = tmp_path / "data.tfrecord"
    examples = [{"x": np.arange(4, dtype=np.float32) + i, "t": np.array([i])} for i in range(5)]
    assert export.write_records(path, examples) == 5
    for example, back in zip(examples, export.read_records(path), strict=True):
        np.testing.assert_array_equal(back["x"], example["x"])
        np.testing.assert_array_equal(back["t"], example["t"])
        assert back["x"].dtype == np.float32 and back["t"].dtype == np.int64
    whole = path.read_bytes()
    length = len(whole) // 5
    path.write_bytes(
        whole[: 2 * length + 20] + bytes([whole[2 * length + 20] ^ 1]) + whole[2 * length + 21 :]
    )
    found = export.read_records(path)
    assert [next(found)["t"][0], next(found)["t"][0]] == [0, 1]
    with pytest.raises(fnn.InputError, match="a whole record 2 in .*damaged"):
        next(found)
    path.write_bytes(whole[:-3])
    with pytest.raises(fnn.InputError, match="a whole record 4"):
        list(export.read_records(path))
