"""Small ONNX graphs made by hand, and what runs them."""

import math
from typing import Any

import jax
import numpy as np

import fnn
import fnn.export as export


def made(
    nodes,
    tensors,
    path,
    opset=20,
    output=("y",),
    dtype: Any = np.float32,
    shape=("n", 5),
    inputs=("x",),
    out=None,
):
    """Write a graph of nodes (operator, inputs, outputs, attributes, domain); outputs have no shape."""
    from onnx import helper, numpy_helper, save

    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ends = [helper.make_tensor_value_info(name, element, shape) for name in inputs]
    outputs = [helper.make_tensor_value_info(name, out or element, None) for name in output]
    arrays = [
        numpy_helper.from_array(
            np.asarray(value, value.dtype if getattr(value, "dtype", None) else dtype), name
        )
        for name, value in tensors.items()
    ]
    graph = helper.make_graph(
        [
            helper.make_node(
                *node[:3],
                domain=(*node, "", "")[4] if len(node) > 4 else "",
                **(node[3] if len(node) > 3 else {}),
            )
            for node in nodes
        ],
        "made",
        ends,
        outputs,
        arrays,
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, 1) for domain in sorted({n[4] for n in nodes if len(n) > 4})]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 10
    save(model, path)
    return path


def run(path, x, output=None) -> Any:
    """Run a graph with onnxruntime; where that lacks a kernel, with ONNX's own reference."""
    import onnxruntime
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    class Erf(OpRun):  # the reference's own is in float32
        op_domain = ""

        def _run(self, x):
            return (np.vectorize(math.erf, otypes=[x.dtype])(x),)

    onnxruntime.set_default_logger_severity(4)
    names = None if output is None else [output]
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except NoKernel:
        ran: Any = ReferenceEvaluator(str(path), new_ops=[Erf]).run(names, {"x": np.asarray(x)})
        return ran[0]
    return session.run(names, {"x": np.asarray(x)})[0]


def apply(net, params, x):
    """Run a network."""
    return np.asarray(jax.jit(fnn.apply, static_argnums=0)(net, params, x))


def assert_same(y, other):
    """Assert agreement to 1e-6 of the largest output in float32, to 1e-12 in float64."""
    assert y.shape == other.shape and y.dtype == other.dtype
    tolerance = {2: 4e-3, 4: 1e-6, 8: 1e-12}[y.dtype.itemsize]
    np.testing.assert_allclose(y, other, rtol=0, atol=tolerance * np.abs(other).max())


def assert_read(path, x, said=None, **ends):
    """Assert that a graph is read as this network and computes what it did."""
    net, params = export.from_onnx(path, **ends)
    assert said is None or repr(net) == said
    assert_same(apply(net, params, x), run(path, x, ends.get("output")))
    return net, params
