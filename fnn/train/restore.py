"""Reading checkpoints: the newest that is whole, or the network and its params from the folder alone."""

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fnn.core import Layer, Params, init
from fnn.errors import InputError
from fnn.train import leaves
from fnn.train.folder import another, flaw, missing, none_whole, path_of, score, steps
from fnn.train.recipe import build


class Restored(NamedTuple):
    """What `Checkpoints.restore` returns.

    Args:
        state: the state, on the devices of the run that restores.
        step: its step.
        position: what was saved as the position in the data.

    >>> Restored(state=(), step=1000, position={"epoch": 2}).step
    1000
    """

    state: Any
    step: int
    position: Any


def orbax() -> Any:
    """Import orbax, which is not needed for anything else.

    Raises:
        InputError: where it is not installed.
    """
    try:
        import orbax.checkpoint as found
    except ImportError as error:
        raise InputError("Checkpoints", "orbax-checkpoint", str(error), 'pip install "fnn[train]"') from error
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what orbax logs from the log: what goes wrong is raised."""

    def others(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    logger = logging.getLogger("absl")
    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


def whole(folder: Path, order: Iterable[int], damaged: list[int]) -> Iterator[tuple[int, Any]]:
    """List checkpoints that are what was written: the step, and what describes the run.

    Others are passed over with a warning. In a run of several processes the first one looks.

    Args:
        folder: the folder.
        order: the steps, in the order in which they are wanted.
        damaged: gets the steps of those that are passed over.
    """
    for step in order:
        path = path_of(folder, step)
        why = _agreed(flaw(path) if jax.process_index() == 0 else None)
        if why is None:
            yield step, read(path, about=None)["about"]
        else:
            damaged.append(step)
            warnings.warn(f"{path} is passed over: {why}", UserWarning, stacklevel=3)


def warn_of_unfinished(paths: Sequence[Path]) -> None:
    """Warn of checkpoints that a run did not write to their end, as it was stopped."""
    for path in paths:
        warnings.warn(f"{path} is passed over: it was not written to its end", UserWarning, stacklevel=3)


def read(path: Path, **items: Any) -> dict[str, Any]:
    """Read items of a checkpoint.

    Args:
        path: its path.
        items: for each a tree of leaves that is wanted, or None for one that is JSON.
    """
    ocp = orbax()
    args = {
        name: ocp.args.JsonRestore()
        if like is None
        else ocp.args.StandardRestore(leaves.wanted(leaves.paths(like)))
        for name, like in items.items()
    }
    with quiet(), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        found = reader.restore(path, ocp.args.Composite(**args))
    return {
        name: found[name] if like is None else leaves.come_back(found[name], like)
        for name, like in items.items()
    }


def load(
    folder: Any, step: int | None = None, *, best: bool = False, known: Sequence[Any] = ()
) -> tuple[Layer, Params]:
    """Return a network and its params from a folder of checkpoints alone.

    Nothing is written, so that it may be called while the run goes on. The params are on the default device,
    and a pair with those of the loss where `State.params` is one.

    Args:
        folder: the folder.
        step: the step of the checkpoint; None for the newest that is whole.
        best: whether the best is wanted, by the metric that the run was told.
        known: the classes and functions of the network that are not fnn's.

    Raises:
        InputError: where there is no such checkpoint, it is damaged, or it does not tell its network.

    >>> import fnn, jax, jax.numpy as jnp, optax, tempfile
    >>> from fnn.train.checkpoint import Checkpoints
    >>> from fnn.train.state import State
    >>> net, x, folder = fnn.mlp([4, 8, 3]), jnp.ones((2, 4)), tempfile.mkdtemp()
    >>> key = jax.random.key(0)
    >>> state = State(fnn.init(net, key, x), (), key, jnp.int32(7))
    >>> with Checkpoints(folder, net, x) as checkpoints:
    ...     checkpoints.save(7, state)
    >>> load(folder)[0] == net
    True
    """
    own = f", known=({', '.join(one.__name__ for one in known)},)" if known else ""
    call = f"fnn.train.load({str(folder)!r}{{}}{own})"
    path = Path(folder).absolute()
    if not path.is_dir():
        raise InputError("load", "a folder of checkpoints", str(path), another(path))
    found, damaged = steps(path), []
    if step is not None and step not in found:
        raise missing("load", path, step, call)
    order = whole(path, reversed(found) if step is None else [step], damaged)
    chosen = next(iter(_best(path, list(order), call)) if best else order, None)
    if chosen is None and damaged:
        raise none_whole("load", path, damaged, call)
    if chosen is None:
        fix = f"fnn.train.Checkpoints({str(folder)!r}, net, x)"
        raise InputError("load", "a folder with checkpoints", f"{path} without", fix)
    step, about = chosen
    if about["net"] is None:
        fix = f"fnn.train.Checkpoints({str(folder)!r}, net, x)"
        raise InputError("load", "a checkpoint that tells its network", str(path_of(path, step)), fix)
    call = f"fnn.train.load({str(folder)!r}, step={step}, known={{}})"
    net = build(about["net"], known, call)
    return net, read(path_of(path, step), params=_like(net, about, path_of(path, step), known, call))[
        "params"
    ]


def _best(folder: Path, found: list[tuple[int, Any]], call: str) -> list[tuple[int, Any]]:
    """Sort checkpoints, the best first; without those that have no finite metric."""
    if not found:
        return []
    name = found[0][1]["best"]
    if name is None:
        fix = f'fnn.train.Checkpoints({str(folder)!r}, net, x, best="loss")'
        raise InputError(
            "load", "checkpoints of a run that was told its metric", f"best=None in {folder}", fix
        )
    scored = [(score(about["metrics"], name), step, about) for step, about in found]
    ranked = sorted((value, -step, step, about) for value, step, about in scored if value is not None)
    if not ranked:
        raise InputError(
            "load", f"checkpoints with a finite metric {name!r}", f"none in {folder}", call.format("")
        )
    return [(step, about) for _, _, step, about in ranked]


def _like(net: Layer, about: Any, path: Path, known: Sequence[Any], call: str) -> Any:
    """Return the shapes of the params of a checkpoint as a tree."""
    if about["tree"] is not None:
        return jax.tree.map(leaves.shape_of, build(about["tree"], known, call))
    fix = f"fnn.train.Checkpoints({str(path.parent)!r}, net, x)"
    if about["x"] is None:
        raise InputError("load", "a checkpoint that tells the shape of x", str(path), fix)
    x = jax.tree.map(leaves.shape_of, build(about["x"], known, call))
    like = jax.eval_shape(lambda: init(net, jax.random.key(0), x))
    leaves.check_same("load", about["params"], leaves.paths(like), "params", path, fix)
    return like


def _agreed(why: str | None) -> str | None:
    """Return what the first process found, in all of them."""
    if jax.process_count() == 1:
        return why
    from jax.experimental import multihost_utils

    found = multihost_utils.broadcast_one_to_all(np.int32(why is not None))
    return (why or "the first process found it damaged") if found else None


def together(name: str) -> None:
    """Wait for the other processes, where there are any.

    Args:
        name: what is waited for.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
