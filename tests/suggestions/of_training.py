"""Wrong calls of training: steps, the loop, batches, checkpoints, shardings."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fnn
from fnn import Dense, train
from tests.suggestions.row import KEY, Row, X, drawn, without

LABEL = jnp.array([0, 1, 2, 0])
LOSS = fnn.softmax_cross_entropy()
NET = fnn.Serial(Dense(4), fnn.tanh, Dense(3))
PARAMS = drawn(NET, X)
ADAM = optax.adam(1e-3)
KNOWN = {"net": NET, "loss": LOSS, "params": PARAMS, "x": X, "key": KEY, "optimizer": ADAM, "target": LABEL}
STEP = train.make_step(NET, LOSS, ADAM, donate=False)
STATE = STEP.init(KEY, X)
BATCH = X, LABEL
PRIVATE = train.Private(norm=1.0, noise_multiplier=1.0, batch_size=4, sampling=1.0)
OF_PRIVATE = train.make_step(NET, LOSS, ADAM, private=train.Private(1.0, 1.0, 1.8, 0.05))
NORMS = train.Metric(lambda o: o.readings, read=fnn.readers.squared_norm)
MESH = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
ROWS_OF = jax.sharding.NamedSharding(MESH, jax.sharding.PartitionSpec("data"))
LIE = train.shardings(NET, PARAMS, MESH, "data")
NAMED, HEAD = fnn.Serial(body=Dense(2)), fnn.LinearCrossEntropy(5)
OF_BOTH = drawn(NAMED, X), HEAD.init(KEY, X[:, :2])
ON = KNOWN | {"mesh": MESH, "NamedSharding": jax.sharding.NamedSharding, "P": jax.sharding.PartitionSpec}


def stepped(step: Any) -> Any:
    return step(step.init(KEY, X), BATCH)


def drew(step: Any) -> Any:
    """Run a private step on a batch with its mask."""
    return step(step.init(KEY, X), (*BATCH, np.ones(len(X), bool)))


def made(*, loss: Any = LOSS, optimizer: Any = ADAM, **options: Any) -> Callable[[], Any]:
    return lambda: stepped(train.make_step(NET, loss, optimizer, **options))


def fitted(**options: Any) -> Callable[[], Any]:
    return lambda: train.fit(STEP, STATE, train.Batches((X, LABEL), 2), **({"steps": 2} | options))


RUN = KNOWN | {"step": STEP, "state": STATE, "batches": train.Batches((X, LABEL), 2, epochs=1)}


@dataclasses.dataclass(frozen=True)
class Misnamed(fnn.Leaf):
    """A layer that names one axis of two."""

    axes = {"kernel": ("in",)}

    def init(self, key, x):
        return {"kernel": jnp.zeros((x.shape[-1], 2))}

    def forward(self, params, x, key):
        return x @ params["kernel"], ()

    def backward(self, params, x, y, extras, dy):
        return {"kernel": fnn.factors.Outer(x, dy)}, dy @ params["kernel"].T


PLACED = Misnamed(), {"kernel": jnp.zeros((6, 2))}


def in_a_run() -> Any:
    """Fit into the folder "run", which holds a run."""
    with train.Checkpoints("run", NET, X) as checkpoints:
        checkpoints.save(3, STATE)
        return fitted(checkpoints=checkpoints)()


class Told:
    """Batches that tell where they stand in a way of their own."""

    def __init__(self, left: int = 3) -> None:
        self.left = left

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return BATCH

    def get_state(self) -> Any:
        return {"shard": 0}

    def set_state(self, state: Any) -> None:
        assert state == {"shard": 0}


def in_a_run_of_others() -> Any:
    """Resume with a list what was saved with batches that tell where they stand."""
    with train.Checkpoints("of others", NET, X) as checkpoints:
        train.fit(STEP, STATE, Told(), steps=1, checkpoints=checkpoints)
        return train.fit(STEP, STATE, [BATCH, BATCH], steps=2, checkpoints=checkpoints, resume=True)


class InTheRun:
    """Names, with the checkpoints of a folder, opened when they are asked for."""

    def __init__(
        self, batches: Callable[[], Any] = lambda: train.Batches(BATCH, 1, epochs=1), folder: str = "run"
    ) -> None:
        self.folder = folder
        self.opened: list[train.Checkpoints] = []
        self.batches = batches

    def close(self, done: Any) -> None:
        self.opened.pop().close()

    def keys(self) -> Any:
        return [*RUN, "checkpoints"]

    def __getitem__(self, name: str) -> Any:
        if name == "checkpoints":
            self.opened.append(train.Checkpoints(self.folder, NET, X))
            return self.opened[-1]
        return RUN[name] if name != "batches" else self.batches()


IN_THE_RUN, IN_THAT_OF_OTHERS = InTheRun(), InTheRun(Told, "of others")


ROWS = {
    "a step's batch": Row(lambda: STEP(STATE, X), lambda batch: STEP(STATE, batch), KNOWN),
    "a step's optimizer": Row(made(optimizer=3), lambda own: made(optimizer=own)()),
    "a step's loss": Row(made(loss=LOSS.with_reduction("none")), lambda own: made(loss=own)(), KNOWN | {"loss": LOSS.with_reduction("none")}),
    "a step's clip": Row(made(clip=0), stepped, KNOWN),
    "a step's average": Row(made(average=1), stepped, KNOWN),
    "a step's nonfinite": Row(made(nonfinite="go on"), stepped, KNOWN),
    "a scale that is told nothing": Row(made(loss_scale=train.LossScale(), nonfinite="ignore"), stepped, KNOWN),
    "metrics in the backward": Row(made(in_backward=True, microbatch=2), stepped, KNOWN),
    "metrics that are not private": Row(made(private=PRIVATE, metrics={"norms": NORMS}), stepped, KNOWN | {"private": PRIVATE}),
    "a metric": Row(made(metrics={"loss": train.gradient_norm()}), stepped, KNOWN),
    "a microbatch of a step": Row(made(microbatch=3), stepped, KNOWN),
    "a reader of microbatches": Row(
        made(microbatch=2, metrics={"moment": train.Metric(lambda o: o.readings, read=fnn.readers.second_moment)}),
        lambda metric: made(microbatch=2, metrics={"own": metric})(), {"compute": lambda observed: observed.readings},
    ),
    "a loss scale": Row(lambda: train.LossScale(0.5), lambda own: made(loss_scale=own)()),
    "private": Row(lambda: train.Private(1.0, 0.0, 4, 0.5), lambda own: drew(train.make_step(NET, LOSS, ADAM, private=own))),
    "skip without clip": Row(lambda: train.update_in_backward(NET, LOSS, ADAM, skip=True), lambda u: u.step(PARAMS, u.init(PARAMS, X), X, LABEL), KNOWN),
    # The loop.
    "steps": Row(fitted(steps=-1), names=RUN),
    "a profile": Row(fitted(profile=("x", 2, 1)), names=RUN),
    "what to watch": Row(fitted(evaluate=lambda state: {"accuracy": 1.0}, best="loss"), names=RUN | {"evaluate": lambda state: {"accuracy": 1.0}}),
    "a folder with a run": Row(in_a_run, IN_THE_RUN.close, names=IN_THE_RUN),
    "nothing to watch": Row(fitted(patience=1), names=RUN | {"evaluate": lambda state: {"loss": 1.0}}),
    "nothing to resume from": Row(fitted(resume=True), IN_THE_RUN.close, names=IN_THE_RUN),
    "a state of other batches": Row(lambda: train.Batches(BATCH, 2).set_state({"shard": 0}), train.Batches(BATCH, 2).set_state, RUN),
    "a position of other batches": Row(in_a_run_of_others, IN_THAT_OF_OTHERS.close, names=IN_THAT_OF_OTHERS),
    "a sharding of no mesh": Row(fitted(sharding=jax.sharding.PartitionSpec("data")), names=ON),
    "batches of another probability": Row(
        lambda: train.fit(OF_PRIVATE, OF_PRIVATE.init(KEY, X), train.Batches(BATCH, 4), steps=1),
        lambda own: train.fit(OF_PRIVATE, OF_PRIVATE.init(KEY, X), own, steps=1),
        KNOWN | {"data": BATCH},
    ),
    "a private batch without a mask": Row(
        lambda: stepped(OF_PRIVATE),
        lambda own: train.fit(OF_PRIVATE, OF_PRIVATE.init(KEY, X), own, steps=1),
        {"x": jnp.tile(X, (9, 1)), "target": jnp.tile(LABEL, 9)},
    ),
    "no rich": Row(without("rich", fitted(progress=True)), names=RUN),
    "no tensorboardX": Row(without("tensorboardX", lambda: train.tensorboard("runs")), lambda log: log({"step": 1})),
    "a file of records": Row(lambda: train.json_lines("."), lambda log: log({"step": 1})),
    "data of other lengths": Row(lambda: train.Batches((X, LABEL[:2]), 2), lambda data: next(train.Batches(data, 2)), KNOWN),
    "a size": Row(lambda: train.Batches(BATCH, 9), next, {"data": BATCH}),
    "a share": Row(lambda: train.Batches(BATCH, 3, share=(0, 2)), next, {"data": BATCH, "size": 2}),
    "sampling of batches": Row(lambda: train.Batches(BATCH, 4, sampling=2.0), next, {"data": BATCH}),
    "too many drawn": Row(lambda: next(train.Batches(BATCH, 1, sampling=1.0)), next, {"data": BATCH}),
    "a batch that does not divide": Row(lambda: train.placed(X[:3], ROWS_OF), lambda own: train.placed(next(own), ROWS_OF), {"data": BATCH}),
    # On meshes.
    "a preset": Row(lambda: train.shardings(NET, PARAMS, MESH, "zero"), names=ON),
    "a preset without its axis": Row(lambda: train.shardings(NET, PARAMS, MESH, "tensor"), lambda mesh: train.shardings(NET, PARAMS, mesh, "tensor"), ON),
    "rules": Row(lambda: train.shardings(NET, PARAMS, MESH, [3]), names=ON),
    "an axis of no param": Row(lambda: train.shardings(NET, PARAMS, MESH, {"up": "data"}), names=ON),
    "an axis of no mesh": Row(lambda: train.shardings(NET, PARAMS, MESH, {"out": "model"}), names=ON),
    "a pattern of no param": Row(lambda: train.shardings(NET, PARAMS, MESH, [("first", {"out": "data"})]), names=ON),
    "an input that does not follow": Row(
        lambda: train.shardings(fnn.Each({"a": Dense(2)}), {"a": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}, MESH),
        names=ON | {"net": fnn.Each({"a": Dense(2)}), "params": {"a": {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}}, "x": {"a": jnp.ones((1, 3))}},
    ),
    "params of a loss that is not named": Row(lambda: train.shardings(NAMED, OF_BOTH, MESH, x=X), names=ON | {"net": NAMED, "params": OF_BOTH, "loss": HEAD}),
    "names of too few axes": Row(lambda: train.param_axes(*PLACED, X), lambda axes: axes["kernel"]),
    "shardings of another tree": Row(lambda: train.shardings_like(STATE, PARAMS, LIE[0]), lambda lie: train.shardings_like(STATE, PARAMS, lie), ON),
    "a report elsewhere": Row(lambda: fnn.memory.report(NET, PARAMS, X, target="h100", shardings=LIE), names=ON | {"shardings": LIE, "x": jax.ShapeDtypeStruct(X.shape, X.dtype, sharding=ROWS_OF)}),
    "a report of rows nowhere": Row(lambda: fnn.memory.report(NET, PARAMS, X, target="here", shardings=LIE), lambda x: fnn.memory.report(NET, PARAMS, x, target="here", shardings=LIE), ON),
    "constraints": Row(lambda: train.constrain(NET, {"rows": "data"}), names=ON),
    "constraints of another mesh": Row(lambda: fnn.output(train.constrain(NET, {"batch": "model"}, MESH), PARAMS, X), lambda net: fnn.output(net, PARAMS, X), ON),
}  # fmt: skip
