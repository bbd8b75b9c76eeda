"""Inner products of the gradients of every two examples: fnn beside neural-tangents and dattri.

    python -m experiments.bench.kernels --neural-tangents VENV/bin/python --dattri VENV/bin/python

The same matrix is asked of each, at the size of a classifier of MNIST: entry (i, j) is the product of the
gradient of the loss of training example i with that of test example j, as TracIn has it, and the empirical
neural tangent kernel of the losses. neural-tangents 0.6.5 does not go with this JAX, nor dattri with its
threads, so each library runs in a process and an environment of its own, given by its Python; the processes
take turns. A rival that is not given has no row. Times are medians of all rounds, with quartiles; `apart` is
the largest difference from fnn's matrix, relative to its largest entry.
"""

# pyright: reportMissingImports=false

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZES, EXAMPLES = (784, 512, 512, 10), 128
Products = Callable[[], Any]  # the matrix, computed and waited for


def drawn() -> tuple[list[tuple[np.ndarray, np.ndarray]], list[np.ndarray]]:
    """Give the layers' weights and biases; training inputs and labels, and those of the test."""
    rng = np.random.default_rng(0)
    layers = [
        ((rng.standard_normal((k, j)) / k**0.5).astype("float32"), np.zeros(j, "float32"))
        for k, j in zip(SIZES, SIZES[1:], strict=False)
    ]
    data = []
    for _ in range(2):
        data += [rng.random((EXAMPLES, SIZES[0])).astype("float32"), rng.integers(0, SIZES[-1], EXAMPLES)]
    return layers, data


def by_fnn() -> dict[str, Products]:
    """Give fnn's way: Gram matrices of the factors."""
    import jax
    import jax.numpy as jnp

    import fnn

    layers, data = drawn()
    net = fnn.Serial(fnn.Dense(512), fnn.relu, fnn.Dense(512), fnn.relu, fnn.Dense(10))
    params = tuple({"kernel": jnp.asarray(w), "bias": jnp.asarray(b)} for w, b in layers)
    shaped = fnn.init(net, jax.random.key(0), jnp.asarray(data[0]))
    params = jax.tree.unflatten(jax.tree.structure(shaped), jax.tree.leaves(params))
    scores = jax.jit(
        lambda p, *data: fnn.attribution.tracin(net, fnn.softmax_cross_entropy())([(p, 1.0)], *data)
    )
    data = [jnp.asarray(a) for a in data]
    return {"fnn": lambda: jax.block_until_ready(scores(params, *data))}


def by_neural_tangents() -> dict[str, Products]:
    """Give neural-tangents' ways, as its documentation has them: `vmap_axes=0`, since examples are apart."""
    import jax
    import jax.numpy as jnp
    import neural_tangents as nt

    layers, (x, labels, x_test, labels_test) = drawn()

    def losses(params: Any, example: Any) -> Any:
        y, labels = example
        for w, b in params[:-1]:
            y = jax.nn.relu(y @ w + b)
        w, b = params[-1]
        return -jnp.take_along_axis(jax.nn.log_softmax(y @ w + b), labels[:, None], 1)

    train, test = (jnp.asarray(x), jnp.asarray(labels)), (jnp.asarray(x_test), jnp.asarray(labels_test))
    params = [(jnp.asarray(w), jnp.asarray(b)) for w, b in layers]
    found = {}
    for way in nt.NtkImplementation:
        if way is nt.NtkImplementation.AUTO:
            continue
        kernel = jax.jit(nt.empirical_ntk_fn(losses, vmap_axes=0, trace_axes=(-1,), implementation=way))
        run = lambda k=kernel: jax.block_until_ready(k(train, test, params))  # noqa: E731
        found[f"neural-tangents, {way.name.lower().replace('_', ' ')}"] = run
    return found


def by_dattri() -> dict[str, Products]:
    """Give dattri's TracIn, without projections."""
    import torch
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask

    layers, data = drawn()
    modules: list[Any] = []
    for w, b in layers:
        linear = torch.nn.Linear(*w.shape)
        linear.load_state_dict({"weight": torch.tensor(w.T.copy()), "bias": torch.tensor(b)})
        modules += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1])

    def loss(params: Any, example: Any) -> Any:
        x, label = example
        return torch.nn.functional.cross_entropy(
            torch.func.functional_call(model, params, (x.unsqueeze(0),)), label.unsqueeze(0)
        )

    tensors = [torch.tensor(a) for a in data]
    train, test = (
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*two), batch_size=EXAMPLES)
        for two in (tensors[:2], tensors[2:])
    )
    task = AttributionTask(loss_func=loss, model=model, checkpoints=[model.state_dict()])
    attributor = TracInAttributor(task, weight_list=torch.ones(1), normalized_grad=False)
    attributor.projector_kwargs = None  # by default gradients are projected at random, which takes far longer
    return {"dattri, TracIn": lambda: attributor.attribute(train, test)}


WAYS = {"fnn": by_fnn, "neural-tangents": by_neural_tangents, "dattri": by_dattri}


def serve(library: str) -> None:
    """Time what a line asks for: the answer to "ready" is the names, to a name its seconds and its matrix."""
    products = WAYS[library]()
    for line in sys.stdin:
        name = line.strip()
        if name == "ready":
            print(json.dumps(list(products)), flush=True)
            continue
        start = time.perf_counter()
        found = products[name]()
        seconds = time.perf_counter() - start
        print(
            json.dumps([seconds, np.asarray(found, float).reshape(EXAMPLES, EXAMPLES).tolist()]), flush=True
        )


class Server:
    """A library in a process of its own."""

    def __init__(self, python: str, library: str):
        command = [python, str(Path(__file__)), "--serve", library]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.names: list[str] = self.ask("ready")

    def ask(self, name: str) -> Any:
        """Send a line, and give the answer."""
        assert self.process.stdin and self.process.stdout
        print(name, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} stopped at {name!r}")
        return json.loads(line)


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--neural-tangents", metavar="PYTHON", help="of an environment that has it")
    parser.add_argument("--dattri", metavar="PYTHON", help="likewise")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve)
    pythons = {"fnn": sys.executable, "neural-tangents": given.neural_tangents, "dattri": given.dattri}
    servers = [Server(python, library) for library, python in pythons.items() if python]
    rows = [(server, name) for server in servers for name in server.names]
    first = {name: np.array(server.ask(name)[1]) for server, name in rows}  # compiles
    taken = {name: [] for _, name in rows}
    for _ in range(given.rounds):
        for server, name in rows:
            taken[name].append(server.ask(name)[0])
    own = np.median(taken["fnn"])
    print(f"{EXAMPLES} x {EXAMPLES} examples, {'-'.join(map(str, SIZES))}, {given.rounds} rounds")
    print(f"{'way':40} {'ms':>8} {'quartiles':>18} {'fnn / it':>9} {'apart':>9}")
    for name, seconds in taken.items():
        low, middle, high = 1e3 * np.quantile(seconds, (0.25, 0.5, 0.75))
        apart = np.max(np.abs(first[name] - first["fnn"])) / np.max(np.abs(first["fnn"]))
        spread = f"{low:.1f} - {high:.1f}"
        print(f"{name:40} {middle:8.1f} {spread:>18} {1e3 * own / middle:9.3f} {apart:9.1e}")


if __name__ == "__main__":
    main()
