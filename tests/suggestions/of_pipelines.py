"""Wrong calls of pipelines."""

# pyright: reportArgumentType=false

from typing import Any

import jax
import jax.numpy as jnp

import fnn
from fnn import Dense, Repeat, Serial, pipeline
from tests.suggestions.row import KEY, Row, drawn

X, Y = jnp.ones((4, 4)), jnp.zeros((4, 2))
NET, LOSS = Serial(Dense(4), Repeat(Dense(4), 4), Dense(2)), fnn.half_squared_error()
PARAMS = drawn(NET, X)
MESH = jax.make_mesh((2,), ("stage",), devices=jax.devices()[:2])
SCHEDULE = pipeline.one_f_one_b(stages=2, microbatches=4)


def run(net: Any = NET, loss: Any = LOSS, mesh: Any = MESH, schedule: Any = SCHEDULE, x: Any = X) -> Any:
    own = pipeline.value_and_grad(net, loss, mesh, schedule)
    y = jnp.zeros((len(x), 2))
    params = jax.device_put(fnn.init(net, KEY, x), pipeline.shardings(net, fnn.init(net, KEY, x), MESH))
    return jax.jit(own)(params, x, y)


def made(net: Any = NET, loss: Any = LOSS, mesh: Any = MESH, schedule: Any = SCHEDULE) -> Any:
    return pipeline.value_and_grad(net, loss, mesh, schedule)


def ordered(*microbatches: int) -> tuple[pipeline.Op, ...]:
    return tuple(pipeline.Op(kind, m) for m in microbatches for kind in ("F", "BW"))


ROWS = {
    "a net of no stages": Row(lambda: made(net=Serial(Dense(4), Dense(2))), lambda net: run(net)),
    "stages that do not divide": Row(lambda: made(net=Repeat(Dense(2), 3)), lambda net: run(Serial(net, Dense(2)))),
    "stages of no pipeline": Row(lambda: pipeline.gpipe(0, 4), str),
    "microbatches of no pipeline": Row(lambda: pipeline.zero_bubble(4, 0), str),
    "a schedule's name": Row(lambda: made(schedule="1f1b"), lambda schedule: run(schedule=schedule)),
    "a mesh without stages": Row(
        lambda: made(mesh=jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])), lambda mesh: run(mesh=mesh)
    ),
    "stages of no mesh": Row(
        lambda: pipeline.shardings(NET, PARAMS, jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])),
        lambda mesh: run(mesh=mesh),
    ),
    "a pipeline's loss by example": Row(
        lambda: made(loss=LOSS.with_reduction("none")), lambda loss: run(loss=loss), {"loss": LOSS.with_reduction("none")}
    ),
    "a pipeline's tied head": Row(
        lambda: made(loss=fnn.LinearCrossEntropy(7, tied=(0, "embedding"))), lambda loss: made(loss=loss), {"V": 7}
    ),
    "a pipeline's rows": Row(lambda: run(x=jnp.ones((6, 4))), lambda x: run(x=x)),
    "an order that misses an operation": Row(lambda: pipeline.Schedule(((pipeline.Op("F", 0),),)), str),
    "an order that waits for itself": Row(lambda: pipeline.Schedule((ordered(0, 1), ordered(1, 0))), str),
}  # fmt: skip
