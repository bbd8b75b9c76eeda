"""How do a network, its params and its data leave the program?

    python -m experiments.questions.files

A network is a graph of a few operators with arrays at its nodes: as Protocol Buffers that is an ONNX file,
which onnxruntime computes without knowing JAX. Params alone are a safetensors file: a head in JSON and
bytes, read without running anything. Training data are TFRecord files: `tf.train.Example` messages, each
framed by its length and two checksums, so that damage is found where it is. Here a network learns the
digits from a TFRecord file, leaves as ONNX and safetensors, and comes back from both.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from experiments.library.answer import (
    Options,
    canvas,
    deliver,
    heading,
    label,
    run,
    table,
)
from experiments.library.data import from_scikit_learn
from experiments.library.figures import COOL


def through_records(path: Path, x: np.ndarray, t: np.ndarray) -> tuple[Any, Any]:
    """Write the digits to a TFRecord file, and read them back."""
    from fnn import export

    export.write_records(path, ({"pixels": a, "label": np.array([b])} for a, b in zip(x, t, strict=True)))
    read = list(export.read_records(path))
    return np.stack([e["pixels"] for e in read]), np.concatenate([e["label"] for e in read]).astype(np.int32)


def first_damage(path: Path, bit: int) -> str:
    """Turn one bit of the file around, and give what the reader says."""
    from fnn import export

    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        return f"{len(list(export.read_records(path)))} records, and no word of damage"
    except fnn.InputError as error:
        return str(error).replace(str(path), path.name)


def graph_nodes(path: Path) -> list[tuple[str, str, str, str]]:
    """List an ONNX file's nodes: operator, value in, value out, and the tensor with its shape."""
    import onnx

    graph = onnx.load(path).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return [
        (
            node.op_type,
            node.input[0],
            node.output[0],
            *(f"{t} {shapes[t]}" for t in node.input if t in shapes),
        )
        + ("",) * (len(node.input) == 1)
        for node in graph.node
    ]  # pyright: ignore[reportReturnType]


def main(options: Options, steps: int = 200) -> dict[str, Any]:
    """Learn from a TFRecord file, write and read the network in each format, print, draw, write."""
    import onnxruntime

    from fnn import export

    digits = from_scikit_learn(options.seed)
    net = fnn.mlp([64, 48, 48, 10], fnn.gelu)
    with TemporaryDirectory() as folder:
        records, graph, tensors = (
            Path(folder) / f"digits.{end}" for end in ("tfrecord", "onnx", "safetensors")
        )
        x, t = through_records(records, digits.x, digits.t)
        same_data = bool(np.array_equal(x, digits.x) and np.array_equal(t, digits.t))
        sizes = {records.name: records.stat().st_size}
        value_and_grad = fnn.value_and_grad(net, fnn.softmax_cross_entropy())

        def step(params: Any, _: Any) -> tuple[Any, Any]:
            value, grads = value_and_grad(params, jnp.asarray(x), jnp.asarray(t))
            return jax.tree.map(lambda p, g: p - 0.5 * g, params, grads), value

        first = fnn.init(net, jax.random.key(options.seed), jnp.asarray(x))
        params, _ = jax.jit(lambda p: jax.lax.scan(step, p, None, steps))(first)
        x_test = jnp.asarray(digits.x_test)
        ours = np.asarray(fnn.apply(net, params, x_test))

        export.onnx(net, params, x_test, graph)
        nodes = graph_nodes(graph)
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        theirs: Any = session.run(None, {"x": digits.x_test})[0]
        again, read = export.from_onnx(graph)
        back = np.asarray(fnn.apply(again, jax.tree.map(jnp.asarray, read), x_test))
        export.save_params(params, tensors)
        loaded = export.load_params(tensors, params)
        same_params = all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), params, loaded)))
        sizes |= {path.name: path.stat().st_size for path in (graph, tensors)}
        damage = first_damage(records, 8 * (sizes[records.name] // 2))
    size = float(np.abs(ours).max())
    off = {"onnxruntime": np.abs(theirs - ours) / size, "from_onnx": np.abs(back - ours) / size}
    right = float(np.mean(ours.argmax(-1) == digits.t_test))
    heading(f"{net}, {right:.1%} of held-out digits right")
    print(table(("node", "in", "out", "tensor"), nodes, left=4), "\n")
    print(table(("file", "bytes"), [(name, f"{n:,}") for name, n in sizes.items()]))
    print(f"\nTFRecord: {len(x):,} digits read back, {'equal' if same_data else 'DIFFERENT'}")
    print(f"          one bit turned around in the middle: {damage}")
    for name, values in off.items():
        print(f"ONNX:     {name} differs by {values.max():.1e} of the largest output at most")
    print(f"tensors:  read back, {'equal' if same_params else 'DIFFERENT'}")
    found = {
        "held-out accuracy": right,
        "bytes": sizes,
        "data equal": same_data,
        "params equal": same_params,
        "damage": damage,
        "largest difference": {name: float(values.max()) for name, values in off.items()},
    }
    return deliver(options, "files", found, draw(ours, theirs, sizes))


def draw(ours: np.ndarray, theirs: np.ndarray, sizes: dict[str, int]) -> Any:
    """Draw onnxruntime's outputs over fnn's, and the files' sizes."""
    off = np.abs(ours - theirs).max() / np.abs(ours).max()
    message = f"onnxruntime computes what fnn does, to {off:.0e} of the largest logit"
    figure, (left, right) = canvas(message, 2, size=(12, 4.6))
    left.plot(ours.ravel(), theirs.ravel(), ".", color=COOL, markersize=3)
    left.set(xlabel="fnn", ylabel="onnxruntime", title="logits of held-out digits", aspect="equal")
    right.barh(list(sizes), [n / 1024 for n in sizes.values()], color=COOL, height=0.5)
    for i, n in enumerate(sizes.values()):
        label(right, (n / 1024, i), f"{n / 1024:,.0f}")
    right.set(title="size of the files, in KiB", xlim=(0, 1.2 * max(sizes.values()) / 1024))
    right.invert_yaxis()
    return figure


if __name__ == "__main__":
    run(main, __doc__)
