"""Wrong calls of checkpoints: of the folder, of what is saved, restored and loaded."""

# pyright: reportArgumentType=false

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn import train
from tests.contract.batch_norm import BatchNorm
from tests.contract.gating import Product
from tests.suggestions.row import KEY, Late, Row, X, installs, without
from tests.train.test_checkpoint import Box, in_box, make_box

NET = fnn.Dense(2)
OWN = fnn.Serial(BatchNorm(), Product(NET, fnn.Dense(2)))
KNOWN = {
    "x": X,
    "optimizer": (),
    "step": jnp.int32(1),
    "position": None,
    "BatchNorm": BatchNorm,
    "Product": Product,
}


def state(net: Any = NET, step: int = 1, **changed: Any) -> train.State:
    return train.State(fnn.init(net, KEY, X), (), KEY, jnp.int32(step))._replace(**changed)


KNOWN |= {"net": NET, "params": Late(lambda: state().params), "state": Late(state), "like": Late(state)}


def written(
    folder: str, *steps: int, net: Any = NET, told: bool = True, spoiled: tuple[int, ...] = (), **options: Any
) -> None:
    """Write checkpoints, where the folder is not there yet, and damage some of them."""
    if Path(folder).exists():
        return
    with train.Checkpoints(folder, net if told else None, X, asynchronous=False, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(net, step))
    for step in spoiled:
        Path(folder, f"step_{step}", "files.json").unlink()


class Open:
    """The names of a row, and the checkpoints of its folder, opened when they are asked for."""

    def __init__(self, folder: str, names: dict[str, Any], best: str | None) -> None:
        self.folder, self.names, self.best = folder, KNOWN | names, best

    def keys(self) -> Any:
        return [*self.names, "checkpoints"]

    def __getitem__(self, name: str) -> Any:
        if name == "checkpoints":
            self.names[name] = train.Checkpoints(self.folder, NET, X, best=self.best)
        return self.names[name]


def opened(
    folder: str,
    wrong: Callable[[Any], Any],
    *steps: int,
    spoiled: tuple[int, ...] = (),
    best: Any = None,
    **names: Any,
) -> Row:
    """The row of a wrong call of open checkpoints, where the suggestion is a right one: it saves or restores."""
    own = Open(folder, names, best)

    def use(value: Any) -> None:
        own.names["checkpoints"].close()
        assert (
            value.state.params.keys() == state().params.keys()
            if value is not None
            else list(Path(folder).glob("step_*"))
        )

    return Row(in_a_run(folder, wrong, *steps, spoiled=spoiled, best=best), use, own)


def in_a_run(
    folder: str, wrong: Callable[[Any], Any], *steps: int, spoiled: tuple[int, ...] = (), **options: Any
) -> Callable[[], Any]:
    """Do something with open checkpoints."""

    def run() -> Any:
        written(folder, *steps, spoiled=spoiled, **options)
        with train.Checkpoints(folder, NET, X, **options) as checkpoints, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is damaged
            return wrong(checkpoints)

    return run


def begins(wrong: Callable[[], Any], net: Any = NET, known: Any = (), **names: Any) -> Row:
    """The row of a wrong call, where the suggestion opens checkpoints: a run saves, and what it saved is loaded."""

    def use(checkpoints: train.Checkpoints) -> None:
        with checkpoints:
            checkpoints.save(9, state(net, 9), metrics={"loss": 1.0})
        told = checkpoints._about["net"] is not None
        assert not told or train.load(checkpoints.folder, known=known)[0] == net

    return Row(wrong, use, KNOWN | {"net": net} | names)


def loading(folder: str, *steps: int, options: Any = None, **how: Any) -> Callable[[], Any]:
    """Load from a folder with checkpoints."""

    def run() -> Any:
        written(folder, *steps, **how)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return train.load(folder, **(options or {}))

    return run


def loaded(wrong: Callable[[], Any], net: Any = NET) -> Row:
    """The row of a load, where the suggestion loads the network."""

    def use(found: Any) -> None:
        assert found[0] == net

    return Row(wrong, use, KNOWN)


def on_a_file(name: str, call: Callable[[str], Any]) -> Callable[[], Any]:
    """Take a file for a folder."""

    def run() -> Any:
        Path(name).write_text("mine")
        return call(name)

    return run


BOXED = fnn.function.Function(in_box, init=make_box)
WIDER = state(BOXED, params=Box(jnp.ones((6, 3), jnp.float32)))
OF_BOX = (in_box, make_box)
WIDE = jax.eval_shape(lambda: state(params={"w": jnp.ones(2, jnp.float64)}))


def wide(narrow: bool = True) -> Any:
    """Restore a state of 64 bits, where there are 32."""
    with train.Checkpoints("wide") as checkpoints:
        if not Path("wide/step_1").exists():
            checkpoints.save(1, state(params={"w": jnp.ones(2, jnp.float64)}))
        with jax.enable_x64(not narrow):
            return checkpoints.restore(WIDE)


def boxed(folder: str, x: Any, params: Any = None) -> Callable[[], Any]:
    """Load params in a container of somebody."""

    def run() -> Any:
        with train.Checkpoints(folder, BOXED, x) as checkpoints:
            if not Path(folder, "step_1").exists():
                checkpoints.save(1, params or state(BOXED))
        return train.load(folder, known=OF_BOX)

    return run


def wider(checkpoints: train.Checkpoints) -> None:
    """Restore what cannot be loaded."""
    with checkpoints:
        restored: Any = checkpoints.restore(like=WIDER)
    assert restored.state.params.w.shape == (6, 3)


def held() -> Any:
    """Open what another process has open."""
    with patch("fnn.train.folder._process", lambda: "process 1 elsewhere"):
        checkpoints = train.Checkpoints("held")
    with checkpoints:
        train.Checkpoints("held")


OPENED: list[train.Checkpoints] = []


def held_here() -> Any:
    """Open what is open."""
    OPENED.append(train.Checkpoints("held here"))
    train.Checkpoints("held here")


def closed() -> Any:
    """Save after the end."""
    with train.Checkpoints("closed") as checkpoints:
        pass
    checkpoints.save(1, state())


def empty() -> Any:
    """Load from a folder without checkpoints."""
    Path("empty").mkdir(exist_ok=True)
    train.load("empty")


TEXT = state(params={"w": "text", "k": X})
TEXTS = state(average=np.array(["text"]))

ROWS = {
    # Options and the folder.
    "how often to save": begins(lambda: train.Checkpoints("often", every=0), folder="often"),
    "how many to keep": begins(lambda: train.Checkpoints("keep", keep=0), folder="keep"),
    "the best of no metric": begins(lambda: train.Checkpoints("best", best=3), folder="best"),
    "a folder that is none": begins(lambda: train.Checkpoints("gs://bucket/run")),
    "a folder that is a file": begins(on_a_file("mine", train.Checkpoints)),
    "a folder that is held": begins(held),
    "a folder that is held here": Row(held_here, lambda _: train.Checkpoints("held here").close(), {"checkpoints": Late(OPENED.pop)}),
    "no orbax": Row(without("orbax.checkpoint", lambda: train.Checkpoints("none")), installs("orbax-checkpoint")),
    # Saved.
    "checkpoints that are closed": begins(closed),
    "a step that is there": begins(in_a_run("there", lambda run: run.save(1, state()), 2)),
    "a step below zero": opened("below", lambda run: run.save(-1, state())),
    "a metric that is missing": opened("metric", lambda run: run.save(1, state(), metrics={"accuracy": 1.0}), best="loss"),
    "a position": opened("position", lambda run: run.save(1, state(), {1, 2})),
    "a state without params": Row(in_a_run("dict", lambda run: run.save(1, {"params": 1})), lambda own: in_a_run("dict", lambda run: run.save(1, own))(), KNOWN),
    "text among params": opened("text", lambda run: run.save(1, TEXT), state=TEXT),
    "text in a state": opened("texts", lambda run: run.save(1, TEXTS), state=TEXTS),
    # Restored.
    "a step to restore": opened("step", lambda run: run.restore(state(), step=9), 1, 2),
    "a step to restore before the damage": opened("before", lambda run: run.restore(state(), step=9), 1, 2, spoiled=(2,)),
    "a step to restore of none": begins(in_a_run("nothing", lambda run: run.restore(state(), step=9))),
    "a damaged step to restore": opened("damaged", lambda run: run.restore(state(), step=2), 1, 2, spoiled=(2,)),
    "nothing whole to restore": begins(in_a_run("spoiled", lambda run: run.restore(state()), 1, spoiled=(1,))),
    "the state of another network": begins(in_a_run("other", lambda run: run.restore(state(fnn.Dense(3))), 1)),
    "the state of another run": begins(in_a_run("optimizer", lambda run: run.restore(state(optimizer=X)), 1)),
    "what needs 64 bits": Row(wide, lambda _: wide(False)),
    # Loaded.
    "nothing to load": begins(lambda: train.load("nowhere")),
    "a file to load": begins(on_a_file("file", train.load)),
    "no checkpoints to load": begins(empty),
    "a step to load": loaded(loading("steps", 1, 2, options={"step": 3})),
    "a step to load of own classes": loaded(loading("own", 1, options={"step": 3, "known": (BatchNorm, Product)}, net=OWN), OWN),
    "a damaged step to load": loaded(loading("damage", 1, 2, options={"step": 2}, spoiled=(2,))),
    "nothing whole to load": begins(loading("ruins", 1, spoiled=(1,))),
    "a network that is not told": begins(loading("untold", 1, told=False)),
    "a metric that is not told": begins(loading("unscored", 1, options={"best": True})),
    "a metric that is not finite": loaded(loading("unmeasured", 1, options={"best": True}, best="loss")),
    "own classes to load": loaded(loading("classes", 1, 2, options={"step": 1, "known": (Product,)}, net=OWN), OWN),
    "containers without a shape": begins(boxed("shapeless", None), BOXED, OF_BOX),
    "containers of other shapes": Row(boxed("shapes", X, WIDER), wider, KNOWN | {"net": BOXED}),
}  # fmt: skip
