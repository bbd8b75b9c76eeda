"""A chain of layers, read from an ONNX file."""

import os
from typing import Any

import jax.numpy as jnp

from fnn.compose.serial import Serial
from fnn.errors import InputError
from fnn.export.layers import Chain
from fnn.export.nodes import read_layer
from fnn.export.regions import read_activation
from fnn.export.shapes import STANDARD, Value
from fnn.export.source import Refused, Source, cut, load, opened


def from_onnx(
    path: str | os.PathLike[str], *, input: str | None = None, output: str | None = None
) -> tuple[Serial, tuple[Any, ...]]:
    """Read a chain of layers from an ONNX file.

    Layers are read from products (MatMul, Gemm), rows added or multiplied, LayerNormalization,
    RMSNormalization, BatchNormalization of inference, Softmax, and from every way of writing an activation or
    a norm of fnn with elementwise operators. Nodes that change nothing are passed over: Identity, Dropout of
    inference, and Cast, Reshape, Flatten and Transpose to what is there already. Numbers among a node's
    attributes, such as a slope or an epsilon, are float32 in the format, and read as the shortest decimal
    number.

    Args:
        path: an ONNX file of opset 7 or later.
        input: the name of the value that the chain begins with, which may be inside the graph; None for the
            graph's input.
        output: the name of the value that it ends in; None for the first output of floating-point numbers. Of
            a classifier's outputs, label and probabilities, these are the probabilities; a ZipMap, which
            makes dicts of them, is passed over.

    Returns:
        the network, and its params as NumPy arrays.

    Raises:
        InputError: for a node that is no layer, with its name and the reason; for a file that is no valid
            ONNX file, or whose tensors are missing; and where `input` or `output` name no such value.

    >>> import fnn, fnn.export, jax, tempfile
    >>> net, x = fnn.Serial(fnn.Dense(3), fnn.relu), jax.ShapeDtypeStruct((1, 2), "float32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnn.export.onnx(net, fnn.init(net, jax.random.key(0), x), x, f"{folder}/net.onnx")
    ...     fnn.export.from_onnx(f"{folder}/net.onnx")[0]
    Serial(Dense(3, inputs=2), relu)
    """
    model = load(path)
    source = cut(model, input, output)
    if source.opset < 7:
        fix = "onnx.save(onnx.version_converter.convert_version(onnx.load(path), 13), path)"
        raise InputError("from_onnx", "opset 7 or later", f"opset {source.opset}", fix)
    chain = Chain(source.start, source.values.get(source.start, Value(None, None)))
    try:
        _read(chain, source)
    except Refused as error:
        named = {name: value for name, value in (("input", input), ("output", output)) if value is not None}
        fix = _part(model, source, chain, error.node, named)
        raise InputError("from_onnx", error.expected, error.got, fix) from error
    return Serial(*chain.layers), tuple(chain.params)


def _read(chain: Chain, source: Source) -> None:
    """Walk from the start to the end: all nodes that are left hang on the chain's last value."""
    nodes = source.nodes
    last = {name: i for i, node in enumerate(nodes) for name in node.input} | {source.end: len(nodes)}
    i = 0
    while chain.v != source.end:
        chain.value = chain.value if chain.value.axes else source.values.get(chain.v, chain.value)
        node, dtype = nodes[i], chain.value.dtype
        after = read_activation(chain, source, i, last, ours=True)
        single = not any(last.get(name, i) > i for name in (chain.v, *node.output[1:]))
        if (
            not after
            and single
            and (dtype is None or jnp.issubdtype(dtype, jnp.floating))
            and read_layer(chain, source, node)
        ):
            chain.v, after = node.output[0], i + 1
        after = after or read_activation(chain, source, i, last, ours=False)
        if not after:
            raise _unknown(chain, source, i, single)
        i = after


def _part(model: Any, source: Source, chain: Chain, node: Any, named: dict[str, str]) -> str:
    """Find a call that reads the part of the chain before a refused node, or else the part behind it."""
    call = "fnn.export.from_onnx(path, {})"
    if chain.v != source.start:
        named = named | {"output": chain.v}
    else:
        if node.output[0] == source.end:
            return opened(model)
        named = named | {"input": node.output[0]}
        try:
            behind = cut(model, named["input"], source.end)
            _read(Chain(behind.start, behind.values.get(behind.start, Value(None, None))), behind)
        except (InputError, Refused):
            return opened(model)
    return call.format(", ".join(f"{name}={value!r}" for name, value in sorted(named.items())))


def _unknown(chain: Chain, source: Source, i: int, single: bool) -> Refused:
    """Say why no layer stands for the i-th node; `single` is whether nothing else takes what it takes."""
    node, dtype = source.nodes[i], chain.value.dtype
    before, after = (source.values.get(name, Value(None, None)) for name in (chain.v, node.output[0]))
    if node.domain not in STANDARD:
        return Refused(node, "operators of the ONNX standard", f"of the domain {node.domain!r}")
    if not single:
        names = {chain.v, *node.output[1:]}
        other = next(Refused(other, "").got for other in source.nodes[i + 1 :] if names & {*other.input})
        got = f"beside which {other} takes a value of the chain"
        return Refused(node, "a chain, or an elementwise function", got)
    match node.op_type:
        case "Cast":
            return Refused(node, "a Cast that changes nothing", f"from {before.dtype} to {after.dtype}")
        case "Reshape" | "Flatten" | "Transpose" | "Squeeze" | "Unsqueeze":
            got = f"from {_shape(before)} to {_shape(after)}"
            return Refused(node, f"a {node.op_type} that changes nothing", got)
        case "Dropout":
            return Refused(node, "a Dropout of inference", "of training")
    others = [name for name in node.input if name and name != chain.v and name not in source.tensors]
    if others:
        return Refused(
            node, f"a node that takes {chain.v!r} and constants", f"which takes {', '.join(others)}, too"
        )
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        return Refused(node, "floating-point values", f"of {dtype}")
    return Refused(node, "a dense layer, a norm or an activation")


def _shape(value: Value) -> str:
    return "an unknown shape" if value.axes is None else f"({', '.join(str(a or '?') for a in value.axes)})"
