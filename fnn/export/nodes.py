"""Nodes of ONNX that hold tensors, as layers: products, norms, rows added and multiplied, softmax."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.activations.table import Softmax
from fnn.errors import describe
from fnn.export.elementwise import decimal
from fnn.export.layers import Chain
from fnn.export.shapes import SCALER, STANDARD
from fnn.export.source import Refused, Source
from fnn.layers.affine import Bias, Scale
from fnn.layers.norm import LayerNorm, RMSNorm


def read_layer(chain: Chain, source: Source, node: Any) -> bool:
    """Append the layer that a node is, and return whether it is one.

    Args:
        chain: the layers so far.
        source: the graph.
        node: the node.

    Raises:
        Refused: where it is one that no layer stands for.
    """
    told = attributes(node)
    if node.domain not in STANDARD:
        if (node.domain, node.op_type) == SCALER:
            _scaler(chain, node, told)
            return True
        return False
    match node.op_type:
        case "Gemm":
            _gemm(chain, source, node, told)
        case "MatMul":
            _first(chain, node)
            chain.dense(_matrix(chain, node, tensor(source, node, 1)))
        case "Softmax":
            chain.add(Softmax(_softmax_axis(chain, source, node, told)))
        case "LayerNormalization" | "RMSNormalization":
            _norm(chain, source, node, told)
        case "BatchNormalization":
            _batch_norm(chain, source, node, told)
        case "Add" | "Sub" | "Mul" | "Div":
            _affine(chain, source, node)
        case _:
            return False
    return True


def attributes(node: Any) -> dict[str, Any]:
    """Read a node's attributes."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def tensor(source: Source, node: Any, i: int) -> np.ndarray:
    """Return an input of a node that is a floating-point tensor of the file.

    Args:
        source: the graph.
        node: the node.
        i: the number of the input.

    Raises:
        Refused: for a value that is computed from x, or has another dtype.
    """
    name = node.input[i]
    if name not in source.tensors:
        raise Refused(
            node, "layers whose params are stored in the file", f"which takes {name!r} from the graph"
        )
    value = source.tensors[name]
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise Refused(node, "floating-point params", f"which takes {name!r}, {describe(value)}")
    return value


def row(chain: Chain, node: Any, value: np.ndarray) -> np.ndarray:
    """Return a tensor that is broadcast along the last axis alone as (k,).

    Args:
        chain: the layers so far.
        node: the node, for the error message.
        value: the tensor.

    Raises:
        Refused: where it varies along another axis, or has another length.
    """
    features, rank = chain.value.features, chain.value.rank
    wanted = f"{'numbers' if features is None else f'{features} numbers'} along the last axis alone"
    if value.size != (value.shape[-1] if value.ndim else 1):
        raise Refused(node, wanted, f"with {describe(value)}, which varies along another axis")
    if value.ndim > (2 if rank is None else rank):
        raise Refused(node, wanted, f"with {describe(value)}, which has more axes than its input")
    if value.size not in (1, features) and features is not None:
        raise Refused(node, wanted, f"with {describe(value)}, which makes more features of {features}")
    if features is None and value.size == 1:
        raise Refused(node, "an input with a known last axis", f"with {describe(value)}")
    return np.broadcast_to(value.reshape(-1), (features or value.size,)).copy()


def _first(chain: Chain, node: Any) -> None:
    if node.input[0] != chain.v:
        raise Refused(node, "a product x W", f"a product W x, of {node.input[0]!r} on the left")


def _matrix(chain: Chain, node: Any, value: np.ndarray) -> np.ndarray:
    rank = chain.value.rank
    if value.ndim < 2 or value.shape[:-2] != (1,) * (value.ndim - 2) or value.ndim > max(rank or 2, 2):
        raise Refused(node, "a weight (k, j)", f"with {describe(value)}")
    if chain.value.features not in (None, value.shape[-2]):
        raise Refused(node, f"a weight ({chain.value.features}, j)", f"with {describe(value)}")
    return value.reshape(value.shape[-2:])


def _gemm(chain: Chain, source: Source, node: Any, told: Any) -> None:
    _first(chain, node)
    if told.get("transA") or chain.value.rank not in (None, 2):
        raise Refused(node, "a Gemm of x as it is, (n, k)", "with x transposed" if told.get("transA") else "")
    w = tensor(source, node, 1)
    w = _matrix(chain, node, w.T if told.get("transB") else w)
    chain.dense(_times(w, told.get("alpha", 1.0)))
    if len(node.input) > 2 and node.input[2]:
        chain.bias(row(chain, node, _times(tensor(source, node, 2), told.get("beta", 1.0))))


def _times(value: np.ndarray, factor: float) -> np.ndarray:
    return value if factor == 1 else value * np.asarray(decimal(factor, value.dtype), value.dtype)


def _softmax_axis(chain: Chain, source: Source, node: Any, told: Any) -> int:
    """Find the axis, -1 where it is the last; before opset 13 a Softmax goes over all axes from it on."""
    rank, axis = chain.value.rank, told.get("axis", -1 if source.opset >= 13 else 1)
    if axis == -1 or (rank is not None and axis == rank - 1):
        return -1
    if source.opset < 13:
        of = "an unknown number of" if rank is None else rank
        got = f"one of opset {source.opset}, over all axes from {axis} on of {of} axes"
        raise Refused(node, "a Softmax over one axis", got)
    return axis


def _norm(chain: Chain, source: Source, node: Any, told: Any) -> None:
    axis, rank = told.get("axis", -1), chain.value.rank
    if axis != -1 and (rank is None or axis != rank - 1):
        raise Refused(node, "a norm over the last axis", f"over those from {axis} on")
    eps = decimal(told.get("epsilon", 1e-5), chain.value.dtype)
    if node.op_type == "LayerNormalization":
        chain.add(LayerNorm(eps, scale=False, bias=False), {})
    else:
        chain.add(RMSNorm(eps, scale=False), {})
    chain.scale(row(chain, node, tensor(source, node, 1)))
    if len(node.input) > 2 and node.input[2]:
        chain.bias(row(chain, node, tensor(source, node, 2)))


def _batch_norm(chain: Chain, source: Source, node: Any, told: Any) -> None:
    if told.get("training_mode") or chain.value.rank != 2:
        raise Refused(node, "a BatchNormalization of inference, of (n, k)")
    scale, bias, mean, variance = (tensor(source, node, i).astype(np.float64) for i in range(1, 5))
    dtype, factor = (
        source.tensors[node.input[1]].dtype,
        scale / np.sqrt(variance + decimal(told.get("epsilon", 1e-5), chain.value.dtype)),
    )
    chain.add(Scale(), {"scale": row(chain, node, factor.astype(dtype))})
    chain.add(Bias(), {"bias": row(chain, node, (bias - mean * factor).astype(dtype))})


def _affine(chain: Chain, source: Source, node: Any) -> None:
    """x + c, x - c, c - x, x c or x / c."""
    first = node.input[0] == chain.v
    value = row(chain, node, tensor(source, node, int(first)))
    match node.op_type:
        case "Add":
            chain.bias(value)
        case "Sub":
            if not first:
                chain.scale(-np.ones_like(value))
            chain.bias(-value if first else value)
        case "Mul":
            chain.scale(value)
        case _ if first:
            with np.errstate(divide="ignore"):
                chain.scale(np.reciprocal(value))
        case _:
            raise Refused(node, "a division by a constant", f"a division by {chain.v!r}")


def _scaler(chain: Chain, node: Any, told: Any) -> None:
    """(x - offset) scale, in float32 (ai.onnx.ml)."""
    if chain.value.dtype != np.float32:
        raise Refused(node, "a Scaler of float32", f"of {chain.value.dtype}")
    offset, scale = (np.array(told[name], np.float32) for name in ("offset", "scale"))
    chain.add(Bias(), {"bias": row(chain, node, -offset)})
    chain.scale(row(chain, node, scale))
