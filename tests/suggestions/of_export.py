"""Wrong calls of the ONNX files: networks written, chains read."""

# pyright: reportArgumentType=false

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnx.external_data_helper
import onnxruntime

import fnn
from fnn import Concatenate, Dense, Each, Embedding, Heads, Serial, export
from tests.export.graphs import made
from tests.suggestions.row import KEY, Row, X

PATH = "net.onnx"
NET = Serial(Dense(4), fnn.relu, Dense(3))
PARAMS = fnn.init(NET, KEY, X)
WRITTEN = {"net": NET, "params": PARAMS, "x": X, "path": PATH}
W = np.ones((5, 4), np.float32)
DENSE = ("MatMul", ["x", "w"], ["h"])
CHAIN = [DENSE, ("Relu", ["h"], ["y"])]
READ = WRITTEN | {"onnx": onnx, "onnxruntime": onnxruntime, "shutil": shutil, "original": "spare"}


@dataclasses.dataclass(frozen=True)
class Own(fnn.Leaf):
    """A layer that has no writer."""

    def init(self, key, x):
        return ()

    def forward(self, params, x, key):
        return x, ()

    def backward(self, params, x, y, extras, dy):
        return (), dy


def written(net: Any, x: Any = X, params: Any = None) -> Callable[[], Any]:
    """Write a network, of which nothing is right but its params."""
    own = fnn.init(net, KEY, x) if params is None else params
    return lambda: export.onnx(net, own, x, PATH)


def whole(_: Any) -> None:
    """Take what is written."""
    onnx.checker.check_model(PATH, full_check=True)


def writing(net: Any, x: Any = X, given: Any = None, **names: Any) -> Row:
    """The row of a network or an x that cannot be written, where the suggestion writes it."""
    names |= {"net": net, "params": fnn.init(net, KEY, x), "x": x, "path": PATH}
    return Row(written(net, x if given is None else given, names["params"]), whole, names)


def output(net: Any, x: Any = X) -> Row:
    """The row of a network without one output, where the suggestion is another network."""
    return Row(written(net, x), lambda own: written(own, x)(), {"net": net})


def opened(value: Any) -> None:
    """Take what a file was read as: a chain, a session, or the file's own message."""
    if isinstance(value, tuple):
        net, params = value
        assert net.layers and len(params) == len(net.layers)
    elif isinstance(value, onnx.ModelProto):
        assert value.graph.node
    else:
        assert isinstance(value, onnxruntime.InferenceSession) and value.get_outputs()


def reading(nodes: Any, ends: dict[str, str] | None = None, **options: Any) -> Row:
    """The row of a graph that is refused; what its tensors are named is `w`."""
    tensors = {"w": W} if any("w" in node[1] for node in nodes) else {}

    def wrong() -> Any:
        return export.from_onnx(made(nodes, tensors, PATH, **options), **(ends or {}))

    return Row(wrong, opened, READ)


def again(_: Any) -> None:
    """Read the file, which the suggestion has written or mended."""
    opened(export.from_onnx(PATH))


def holding(content: bytes) -> Callable[[], Any]:
    """Read a file of these bytes."""

    def wrong() -> Any:
        Path(PATH).write_bytes(content)
        return export.from_onnx(PATH)

    return wrong


def apart(folder: str, missing: str) -> Callable[[], Any]:
    """Read a file of whose two files of tensors one is cut or missing; there is another of it."""

    def wrong() -> Any:
        Path(folder).mkdir(exist_ok=True)
        path = Path(folder, PATH)
        made([DENSE, ("Add", ["h", "b"], ["y"])], {"w": W, "b": W[0]}, path)
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            onnx.external_data_helper.set_external_data(tensor, f"{tensor.name}.bin")
        onnx.save(model, path)
        Path(folder, f"{missing}.bin").rename("spare")
        if missing == "w":
            Path(folder, "w.bin").write_bytes(b"a part")
        return export.from_onnx(path)

    return wrong


def beside_integers() -> Any:
    """Read an output that is none, of a graph whose first output is not of floating-point numbers."""
    made([("ArgMax", ["x"], ["label"]), ("Relu", ["x"], ["y"])], {}, PATH, output=("label", "y"))
    model = onnx.load(PATH)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, PATH)
    return export.from_onnx(PATH, output="z")


def swapped() -> Any:
    """Read a message, where a path is wanted."""
    return export.from_onnx(onnx.load(made(CHAIN, {"w": W}, PATH)))


def chain_in(folder: str) -> Callable[[Any], None]:
    return lambda _: opened(export.from_onnx(Path(folder, PATH)))


TREE = {"a": X, "b": X[:, :3]}
OF_TREE = Serial(Each({"a": Dense(2), "b": Dense(2)}), Concatenate())
IN_BFLOAT16 = Dense(4, dtype="bfloat16")
TWO = Heads({"a": fnn.relu, "b": fnn.tanh})
OTHER_ROWS = Heads({"a": Serial(Dense(6), TWO), "b": Serial(Dense(6), TWO, Concatenate(axis=1))})
SINE = fnn.activation(jnp.sin)

ROWS = {
    # Written.
    "no network to write": Row(lambda: export.onnx("net", PARAMS, X, PATH), whole, WRITTEN),
    "no array to write for": writing(NET, given=[1.0] * 6),
    "a tree to write for": Row(written(OF_TREE, TREE), lambda own: own.call(TREE), {"net": OF_TREE, "params": fnn.init(OF_TREE, KEY, TREE), "x": TREE}),
    "one example to write for": writing(NET, X[0]),
    "the shape of one example": writing(NET, jax.ShapeDtypeStruct((6,), jnp.float32)),
    "a number to write for": writing(fnn.relu, jnp.float32(1)),
    "an index to write for": writing(Embedding(3, 2), jnp.int32(1)),
    "half precision to write for": writing(NET, X.astype(jnp.bfloat16)),
    "the shape of half precision": writing(NET, jax.ShapeDtypeStruct((4, 6), jnp.float16)),
    "two outputs to write": output(TWO),
    "outputs to write of other rows": output(OTHER_ROWS, jnp.ones((2, 3, 6), jnp.float32)),
    "an activation to write": writing(Serial(Dense(3), SINE), write=lambda graph, layer, params, v, name: graph.node("Sin", [v])),
    "a layer to write": writing(Serial(Dense(3), Own()), Own=Own, write=lambda graph, layer, params, v, name: v),
    "a dtype to write": Row(written(IN_BFLOAT16), lambda own: written(own)(), {"layer": IN_BFLOAT16, "dataclasses": dataclasses}),
    # Read: files.
    "no path of a graph": Row(swapped, opened, READ),
    "no ONNX file": Row(holding(b"no such thing" * 9), again, READ),
    "an empty ONNX file": Row(holding(b""), again, READ),
    "an old opset": Row(lambda: export.from_onnx(made([("Relu", ["x"], ["y"])], {}, PATH, opset=6)), again, READ),
    "tensors that are missing": Row(apart("graph", "b"), chain_in("graph"), READ),
    "tensors that are cut": Row(apart("other", "w"), chain_in("other"), READ),
    "tensors that are missing here": Row(apart(".", "b"), chain_in("."), READ),
    # Read: ends.
    "an output of no graph": reading(CHAIN, {"output": "z"}),
    "an output beside integers": Row(beside_integers, opened, READ),
    "an input of no graph": reading(CHAIN, {"input": "z"}),
    "an input behind the output": reading(CHAIN, {"input": "y", "output": "h"}),
    "an input of two": reading([("Add", ["x", "z"], ["y"])], {"input": "w"}, inputs=("x", "z")),
    "two inputs": reading([("Add", ["x", "z"], ["y"])], inputs=("x", "z")),
    "no input": reading([("RandomNormal", [], ["y"], {"shape": [1, 5]})]),
    # Read: nodes.
    "a layer before what is none": reading([DENSE, ("LogSoftmax", ["h"], ["y"])]),
    "a layer behind what is none": reading([("Cast", ["x"], ["c"], {"to": 11}), ("Relu", ["c"], ["y"])]),
    "no layer at all": reading([("MatMul", ["x", "x"], ["y"])]),
    "integers to read": reading([("Relu", ["x"], ["y"])], dtype=np.int32),
    "an operator of somebody": reading([("Gelu", ["x"], ["y"], {}, "com.example")]),
    "an operator of onnxruntime": reading([("Gelu", ["x"], ["y"], {}, "com.microsoft")]),
    "nodes in another order": reading([("Relu", ["h"], ["y"]), ("Relu", ["x"], ["h"])]),
    "nodes in a circle": Row(reading([("Add", ["y", "x"], ["h"]), ("Relu", ["h"], ["y"])]).wrong, again, READ),
    "a node of too few inputs": Row(reading([("Gemm", ["x"], ["y"])]).wrong, again, READ),
    "a node of another attribute": Row(reading([("Elu", ["x"], ["y"], {"alpha": "text"})]).wrong, again, READ),
}  # fmt: skip
