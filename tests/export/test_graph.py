"""Networks as ONNX graphs: onnxruntime computes what fnn computes, and chains come back."""

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
    "scanned gelu": fnn.mlp([5, 7, 7, 7, 7, 7, 3], fnn.gelu),
    "no bias": fnn.mlp([5, 4, 2], fnn.sigmoid, bias=False),
    "every activation": fnn.mlp([5, *[6] * len(ACTIVATIONS + MADE), 3], [*ACTIVATIONS, *MADE], scan_from=99),
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


def test_embedding_takes_indices(tmp_path):
    net, x = fnn.Serial(fnn.Embedding(10, 6), fnn.Dense(3)), jnp.arange(8) % 10
    params = fnn.init(net, jax.random.key(0), x)
    for batch in (x, x.reshape(2, 4)):
        export.onnx(net, params, batch, tmp_path / "net.onnx")
        assert_same(run(tmp_path / "net.onnx", batch), apply(net, params, batch))


@pytest.mark.parametrize("name", CHAINS)
def test_chains_come_back_with_their_params(name, tmp_path):
    net = CHAINS[name]
    params, x = problem(net)
    export.onnx(net, params, x, tmp_path / "net.onnx")
    again, back = export.from_onnx(tmp_path / "net.onnx")
    assert_same(apply(again, back, x), apply(net, params, x))
    if name != "scanned gelu":  # it comes back written out
        assert repr(again) == repr(net).replace("identity, ", "")


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (fnn.activation(jnp.sin), r"net.layers\[1\]: onnx: expected a layer or activation of fnn, got sin"),
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
    params, x = problem(net)
    with pytest.raises(fnn.InputError, match="x of shape"):
        export.onnx(net, params, x[0], path)
    with pytest.raises(fnn.InputError, match=r"params \{w: \(5, 7\)"):
        export.onnx(net, problem(fnn.mlp([5, 6, 3]))[0], x, path)
    with pytest.raises(fnn.InputError, match="expected x in float32 or float64"):
        export.onnx(net, params, x.astype(jnp.bfloat16), path)
    with pytest.raises(fnn.InputError, match="expected a network"):
        export.onnx("net", params, x, path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        export.onnx(net, params, x, tmp_path / "nowhere" / "net.onnx")
    assert not list(tmp_path.iterdir())


def made(nodes, tensors, path, opset=20, output="y"):
    from onnx import TensorProto, helper, numpy_helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in ("x", output)]
    arrays = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in tensors.items()]
    graph = helper.make_graph(
        [helper.make_node(*n[:3], **n[3]) for n in nodes], "made", ends[:1], ends[1:], arrays
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
    return path


def test_graphs_of_other_exporters_are_read(tmp_path):
    random = np.random.default_rng(0)
    w, v, x = random.normal(size=(4, 5)), random.normal(size=(4, 2)), random.normal(size=(3, 5))
    from onnx import numpy_helper

    told = {"value": numpy_helper.from_array(np.asarray(v, np.float32))}
    nodes = [
        ("Constant", [], ["v"], told),
        ("Gemm", ["x", "w", "b"], ["h"], {"transB": 1}),
        ("Clip", ["h", "low", "high"], ["a"], {}),
        ("MatMul", ["a", "v"], ["p"], {}),
        ("Add", ["c", "p"], ["y"], {}),
    ]
    tensors = {"kernel": w, "bias": np.arange(4.0), "low": 0, "high": 6, "c": np.ones((1, 2))}
    path = made(nodes, tensors, tmp_path / "net.onnx")
    net, params = export.from_onnx(path)
    assert repr(net) == "Serial(Dense(4, inputs=5), relu6, Dense(2, inputs=4))"
    x = jnp.asarray(x, jnp.float32)
    assert_same(apply(net, params, x), run(path, x))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([("Add", ["x", "x"], ["y"], {})], "a node that takes 'x' alone, got Add"),
        ([("Clip", ["x", "low", "high"], ["y"], {})], "known activation, got Clip"),
        ([("HardSigmoid", ["x"], ["y"], {})], "known activation, got HardSigmoid"),
        ([("Gemm", ["x", "w"], ["y"], {"alpha": 2.0})], "alpha = beta = 1, got Gemm"),
        ([("MatMul", ["w", "x"], ["y"], {})], "known activation, got MatMul"),
        ([("Relu", ["x"], ["y"], {}), ("Relu", ["y"], ["z"], {})], "ends in its output, 'z'"),
    ],
)
def test_graphs_that_are_no_such_chain_are_refused(nodes, said, tmp_path):
    tensors = {"low": -1, "high": 6, "kernel": np.ones((2, 2))}
    with pytest.raises(fnn.InputError, match=f"from_onnx: expected .*{said}"):
        export.from_onnx(made(nodes, tensors, tmp_path / "net.onnx"))


def test_files_that_are_no_onnx_are_refused(tmp_path):
    for content in (b"", b"no such thing" * 9):
        (tmp_path / "net.onnx").write_bytes(content)
        with pytest.raises(fnn.InputError, match="net.onnx to be an ONNX file"):
            export.from_onnx(tmp_path / "net.onnx")
    with pytest.raises(FileNotFoundError):
        export.from_onnx(tmp_path / "nowhere")
    path = made([("Softmax", ["x"], ["y"], {})], {}, tmp_path / "old.onnx", opset=11)
    with pytest.raises(fnn.InputError, match="opset 13"):
        export.from_onnx(path)
