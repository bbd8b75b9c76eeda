"""Train a network by one script on one device, eight, or in two processes: copy it, change what is yours.

python -m experiments.training.template --data tiny_shakespeare.txt   (or a folder of MNIST's idx files)
XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m experiments.training.template ...
python -m experiments.training.template --processes 2 --process 0 ... &   and   --process 1 ...
The same command goes on with a run that was killed.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import optax
import tyro
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from experiments.library.data import from_idx
from experiments.library.text import flattened, from_text


@dataclass
class Options:  # every field is an option of the command line
    data: Path
    folder: Path = Path("runs/template")
    steps: int = 1000
    batch: int = 128
    rate: float = 1e-3
    rules: str = "data"  # where params lie on the devices: "data" (everywhere) or "fsdp"
    every: int = 200  # steps between evaluations, checkpoints and records
    processes: int = 1
    process: int = 0
    address: str = "localhost:12765"


def main(o: Options) -> fnn.train.Fit:
    if o.processes > 1:
        jax.distributed.initialize(o.address, o.processes, o.process)
    x, t, x_test, t_test, *_ = from_idx(o.data) if o.data.is_dir() else from_text(o.data)
    net = fnn.mlp([x.shape[1], 256, 256, 10])
    if not o.data.is_dir():
        net = fnn.Serial(fnn.Embedding(128, 24), fnn.function.Function(flattened), fnn.mlp([384, 256, 128]))
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    step = fnn.train.make_step(net, fnn.softmax_cross_entropy(), optax.adam(o.rate), clip=1.0)
    params = fnn.init(net, jax.random.key(0), x[:1])
    state = step.init(jax.random.key(0), x[:1], params, fnn.shardings(net, params, mesh, o.rules, x[:1]))
    batches = fnn.train.Batches((x, t), o.batch, share=(o.process, o.processes))
    wrong = jax.jit(lambda params, x, t: (fnn.apply(net, params, x).argmax(-1) != t).mean())
    few = fnn.train.placed((x_test[: 2**10], t_test[: 2**10]), NamedSharding(mesh, P()))
    with fnn.train.Checkpoints(o.folder, net, x[:1], every=o.every, best="wrong") as saved:
        return fnn.train.fit(
            step, state, batches, steps=o.steps, sharding=NamedSharding(mesh, P("data")), resume=True,
            evaluate=lambda state: {"wrong": wrong(state.params, *few)}, evaluate_every=o.every, best="wrong",
            logs=[fnn.train.json_lines(o.folder / "log.jsonl"), print], log_every=o.every, checkpoints=saved,
        )  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options))
