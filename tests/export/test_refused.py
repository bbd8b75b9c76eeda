"""Graphs that no chain stands for are refused: the sentence names the node and the reason, its call works."""

import shutil
from typing import Any

import numpy as np
import pytest

import fnn
from tests.export.graphs import made

pytest.importorskip("onnx")
import onnx
import onnx.version_converter
import onnxruntime

import fnn.export as export

W, B = np.ones((5, 4), np.float32), np.arange(4, dtype=np.float32)
DENSE = ("MatMul", ["x", "w"], ["h"])
SHAPE = ("Constant", [], ["s"], {"value_ints": [-1, 1]})
# The nodes, the tensors beside w, what is said (of the node, why, and the call), and how the graph is made.
REFUSED = {
    "a column": (
        [DENSE, ("Add", ["h", "b"], ["y"])], {"b": B[:, None]},
        r"4 numbers along the last axis alone, got Add \(to y\), with float32\[4,1\], which varies along", "output='h'",
    ),
    "a column in a Gemm": (
        [("Gemm", ["x", "w", "b"], ["y"])], {"b": B[:, None]}, r"got Gemm \(to y\), with float32\[4,1\]", "Session",
    ),
    "a higher rank": (
        [DENSE, ("Add", ["h", "b"], ["y"])], {"b": B[None, None]},
        r"got Add \(to y\), with float32\[1,1,4\], which has more axes than its input", "output='h'",
    ),
    "a higher rank by a number": (
        [DENSE, ("Relu", ["h"], ["r"]), ("Mul", ["r", "b"], ["y"])], {"b": np.ones((1, 1, 1), np.float32)},
        r"got Mul \(to y\), with float32\[1,1,1\], which has more axes", "output='r'",
    ),
    "more features": (
        [("MatMul", ["x", "v"], ["h"]), ("Add", ["h", "b"], ["y"])], {"b": B, "v": W[:, :1]},
        "got Add .*which makes more features of 1", "output='h'",
    ),
    "a vector": ([("MatMul", ["x", "v"], ["y"])], {"v": W[:, 0]}, r"a weight \(k, j\), got MatMul .*float32\[5\]", "Session"),
    "a stack of weights": (
        [("MatMul", ["x", "v"], ["y"])], {"v": np.stack([W, W])}, r"a weight \(k, j\), got MatMul .*\[2,5,4\]", "Session",
    ),
    "W x": ([("MatMul", ["v", "x"], ["y"])], {"v": np.ones((2, 3), np.float32)}, "a product x W, got MatMul", "Session"),
    "x^T": ([("Gemm", ["x", "w"], ["y"], {"transA": 1})], {}, "a Gemm of x as it is, .*with x transposed", "Session"),
    "x x": ([("MatMul", ["x", "x"], ["y"])], {}, "params are stored in the file, got MatMul .*takes 'x' from", "Session"),
    "a skip": (
        [DENSE, ("MatMul", ["h", "v"], ["a"]), ("Add", ["a", "h"], ["y"])], {"v": np.eye(4, dtype=np.float32)},
        "a chain, or an elementwise function, got MatMul .to a., beside which Add .to y. takes a value", "output='h'",
    ),
    "another domain": (
        [DENSE, ("Relu", ["h"], ["r"], {}, "com.example"), ("Relu", ["r"], ["y"])], {},
        r"operators of the ONNX standard, got Relu \(to r\), of the domain 'com.example'", "output='h'",
    ),
    "another domain first": (
        [("Gelu", ["x"], ["r"], {}, "com.example"), ("Relu", ["r"], ["y"])], {}, "domain 'com.example'", "input='r'",
    ),
    "a cast": ([("Cast", ["x"], ["c"], {"to": 11}), ("Relu", ["c"], ["y"])], {}, "from float32 to float64", "input='c'"),
    "a reshape": (
        [DENSE, SHAPE, ("Reshape", ["h", "s"], ["y"])], {},
        r"a Reshape that changes nothing, got Reshape \(to y\), from \(n, 4\) to", "output='h'",
    ),
    "a flatten": (
        [("Flatten", ["x"], ["f"]), ("MatMul", ["f", "v"], ["y"])], {"v": np.ones((15, 2), np.float32)},
        r"a Flatten that changes nothing, got Flatten \(to f\), from \(n, 3, 5\) to \(n, 15\)", "input='f'",
    ),
    "a transpose": ([("Transpose", ["x"], ["y"], {"perm": [1, 0]})], {}, "a Transpose that changes nothing", "Session"),
    "a softmax over several axes": (
        [("Softmax", ["x"], ["y"], {"axis": 1})], {}, "a Softmax over one axis, got .* of opset 11, over all axes from 1", "Session",
    ),
    "a dropout of training": ([DENSE, ("Dropout", ["h", "r", "t"], ["y"])], {"r": np.float32(0.5), "t": np.array(True)},
                              "a Dropout of inference, got Dropout", "output='h'"),
    "a norm over more axes": (
        [("LayerNormalization", ["x", "w"], ["y"], {"axis": 0})], {}, "a norm over the last axis", "Session",
    ),
    "two outputs": (
        [DENSE, ("Split", ["h"], ["a", "b"], {"num_outputs": 2, "axis": -1}), ("Mul", ["a", "b"], ["y"])], {},
        "got Split .*beside which Mul", "output='h'",
    ),
    "no layer": ([DENSE, ("LogSoftmax", ["h"], ["y"])], {}, "a dense layer, a norm or an activation, got LogSoftmax", "output='h'"),
    "integers": ([("Relu", ["x"], ["y"])], {}, "floating-point values, got Relu .to y., of int32", "Session"),
}  # fmt: skip
MADE = {
    "a flatten": {"shape": ("n", 3, 5)}, "a softmax over several axes": {"shape": ("n", 3, 5), "opset": 11},
    "integers": {"dtype": np.int32}, "a norm over more axes": {"opset": 17},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_node_and_the_reason_are_named_and_the_call_works(name, tmp_path):
    nodes, tensors, said, fix = REFUSED[name]
    used = {i for node in nodes for i in node[1]}
    path = made(
        nodes, ({"w": W} | tensors) if "w" in used else tensors, tmp_path / "net.onnx", **MADE.get(name, {})
    )
    with pytest.raises(fnn.InputError, match=f"^from_onnx: expected .*{said}") as error:
        export.from_onnx(path)
    assert fix in error.value.args[3]
    found = eval(error.value.args[3], {"fnn": fnn, "path": path, "onnxruntime": onnxruntime})
    assert found.get_outputs() if fix == "Session" else isinstance(found[0], fnn.Serial)


def test_ends_that_are_none_are_named_and_the_call_works(tmp_path):
    path = made([DENSE, ("Relu", ["h"], ["y"])], {"w": W}, tmp_path / "net.onnx")
    for ends, said in [({"output": "z"}, "output to name one of y"), ({"input": "z"}, "input to name a value that 'y'"),
                       ({"input": "w"}, "input to name a value"), ({"input": "y", "output": "h"}, "value that 'h'")]:  # fmt: skip
        with pytest.raises(fnn.InputError, match=said) as error:
            export.from_onnx(path, **ends)
        read = "Dense(4, bias=False, inputs=5)" + ", relu" * (ends.get("output") != "h")
        assert repr(eval(error.value.args[3], {"fnn": fnn, "path": path})[0]) == f"Serial({read})"
    path = made([("Add", ["x", "z"], ["y"])], {}, path, inputs=("x", "z"))
    with pytest.raises(fnn.InputError, match="one input that 'y' is made of, got x, z"):
        export.from_onnx(path)


def test_files_that_are_no_onnx_are_refused(tmp_path):
    for content in (b"", b"no such thing" * 9):
        (tmp_path / "net.onnx").write_bytes(content)
        with pytest.raises(fnn.InputError, match="net.onnx to be an ONNX file"):
            export.from_onnx(tmp_path / "net.onnx")
    with pytest.raises(FileNotFoundError):
        export.from_onnx(tmp_path / "nowhere")
    model: Any = onnx.ModelProto()
    with pytest.raises(fnn.InputError, match="expected a path"):
        export.from_onnx(model)


def test_nodes_that_break_the_standard_are_refused(tmp_path):
    for nodes, said in [
        ([("Gemm", ["x"], ["y"])], "nodes as the ONNX standard has them, got .*Gemm"),
        ([("Elu", ["x"], ["y"], {"alpha": "text"})], "nodes as the ONNX standard has them"),
        ([("Relu", ["h"], ["y"]), ("Relu", ["x"], ["h"])], "nodes in the order in which they run"),
    ]:
        with pytest.raises(fnn.InputError, match=said):
            export.from_onnx(made(nodes, {}, tmp_path / "net.onnx"))


def test_older_opsets_are_refused_and_the_call_works(tmp_path):
    path = str(made([("Relu", ["x"], ["y"])], {}, tmp_path / "net.onnx", opset=6))
    with pytest.raises(fnn.InputError, match="opset 7 or later, got opset 6") as error:
        export.from_onnx(path)
    eval(error.value.args[3], {"onnx": onnx, "path": path})
    assert repr(export.from_onnx(path)[0]) == "Serial(relu)"


def test_tensors_beside_the_file_are_read_and_missing_ones_named(tmp_path):
    (tmp_path / "a").mkdir()
    path = made([DENSE, ("Relu", ["h"], ["y"])], {"w": W}, tmp_path / "a" / "net.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.bin", size_threshold=0)
    np.testing.assert_array_equal(export.from_onnx(path)[1][0]["kernel"], W)
    beside, whole = tmp_path / "a" / "net.bin", (tmp_path / "a" / "net.bin").read_bytes()
    shutil.copy(beside, tmp_path)
    for spoil in (beside.unlink, lambda: beside.write_bytes(whole[:10])):
        spoil()
        with pytest.raises(fnn.InputError, match="with its tensors whole, in net.bin beside it") as error:
            export.from_onnx(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            eval(error.value.args[3], {"shutil": shutil, "original": "net.bin"})
        np.testing.assert_array_equal(export.from_onnx(path)[1][0]["kernel"], W)
