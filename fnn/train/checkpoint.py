"""Checkpoints of a run, by orbax: all of its state, beside a description of its network.

    folder/step_1000/params      the params, and
                     rest        the other fields of the state: a tree of each, by the paths of the leaves
                     about       JSON: the network, the dtype and shape of every leaf, the metrics
                     position    JSON: where the run stood in its data
                     files.json  the size and the CRC-32 of every file

A checkpoint gets its name when it is whole, and the one that it replaces is deleted after that.
"""

import operator
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import jax

from fnn.arrays import shapes_of
from fnn.core import Layer
from fnn.errors import InputError, check_size, describe
from fnn.train import leaves
from fnn.train.folder import another, made, missing, none_whole, path_of, steps
from fnn.train.recipe import from_json, to_json
from fnn.train.restore import Restored as Restored
from fnn.train.restore import load as load
from fnn.train.restore import read, warn_of_unfinished, whole
from fnn.train.spelled import difference
from fnn.train.writing import Writer

_PLAN = ("plan", "every")  # say what is computed again, and change no value


class Checkpoints:
    """The checkpoints of one run, in a folder that the run holds until it is closed: use it by `with`.

    Other files of the folder are left alone. A second run on the folder, in another process too, is refused.

    Args:
        folder: a local folder, made where there is none.
        net: the network, which is described in every checkpoint, for `load`; None where it cannot be.
        x: the network's input or its shape, for `load` where the params are in containers of your own.
        every: the number of steps from one `due` to the next.
        keep: how many of the last checkpoints are kept; two, so that one may turn out damaged.
        best: the name of the metric by which the best is kept too: "loss" for the lowest, "-accuracy" for the
            highest; None for none.
        asynchronous: whether `save` returns when the state is copied, and files are written meanwhile.

    Raises:
        InputError: where another run holds the folder, there is a file in its place, the network cannot be
            described, a number is out of its range, or orbax is not installed.

    >>> import fnn, jax, jax.numpy as jnp, tempfile
    >>> from fnn.train.state import State
    >>> net, x = fnn.mlp([4, 8, 3]), jnp.ones((2, 4))
    >>> state = State(fnn.init(net, jax.random.key(0), x), (), jax.random.key(1), jnp.int32(2000))
    >>> with Checkpoints(tempfile.mkdtemp(), net, x, every=1000) as checkpoints:
    ...     if checkpoints.due(2000):
    ...         checkpoints.save(2000, state, position={"epoch": 3}, metrics={"loss": 0.5})
    ...     restored = checkpoints.restore(like=state)
    >>> restored.step, restored.position
    (2000, {'epoch': 3})
    """

    def __init__(
        self,
        folder: Any,
        net: Layer | None = None,
        x: Any = None,
        *,
        every: int = 1000,
        keep: int = 2,
        best: str | None = None,
        asynchronous: bool = True,
    ) -> None:
        check_size("Checkpoints", "every", every, "fnn.train.Checkpoints(folder, every=1000)")
        check_size("Checkpoints", "keep", keep, "fnn.train.Checkpoints(folder, keep=2)")
        if best is not None and not isinstance(best, str):
            fix = 'fnn.train.Checkpoints(folder, best="loss")'
            raise InputError("Checkpoints", "the name of a metric as best", repr(best), fix)
        shapes = None if x is None else jax.tree.map(leaves.told, shapes_of("Checkpoints", x))
        self._about = {
            "format": 1,
            "net": None if net is None else to_json(net),
            "x": None if shapes is None else to_json(shapes),
            "best": best,
        }
        self.every, self.best, self.asynchronous = every, best, asynchronous
        self.folder = made("Checkpoints", folder)
        self._writer: Writer | None = Writer(self.folder, keep, best)
        self._damaged: list[int] = []  # that `restore` passed over
        self._at: int | None = None  # the step that was saved or restored last

    def due(self, step: int) -> bool:
        """Return whether a step is one of every `every`."""
        return step > 0 and step % self.every == 0

    def save(
        self, step: int, state: Any, position: Any = None, metrics: Mapping[str, Any] | None = None
    ) -> None:
        """Save a state. A step that was just saved or restored is not saved again.

        Args:
            step: the number of steps that were taken, above those of the checkpoints that are there.
            state: a named tuple with the field `params`, such as `State`, of arrays, typed keys, and numbers.
            position: the position in the data: bytes, or numbers and strings in dicts, lists and tuples.
            metrics: numbers by their names, among them that of `best`; None for no candidate of the best.

        Raises:
            InputError: where an argument is not as said, before anything is written.
            OSError: where this or the last checkpoint could not be written: those before it stay whole.
        """
        self.wait()
        step = operator.index(step)
        if step == self._at:
            return
        self._check_step(step)
        own = None if metrics is None else {name: float(value) for name, value in metrics.items()}
        name = (self.best or "").removeprefix("-")
        if own is not None and name and name not in own:
            fix = "checkpoints.save(step, state, position, metrics=None)"
            raise InputError("save", f"the metric {name!r} among metrics", repr(own), fix)
        params, rest = leaves.split("save", state)
        told, stored = {"tree": _structure(params)}, {}
        for item, tree in (("params", params), ("rest", rest)):
            found = leaves.paths(tree)
            leaves.check("save", item, found)
            told[item] = {path: leaves.told(leaf) for path, leaf in found.items()}
            stored[item] = leaves.stored(found)
        about = self._about | {"step": step, "metrics": own} | told
        texts = {"about": about, "position": {"position": _position(position)}}
        writer = self._opened()
        writer.set_aside(self._damaged)
        self._damaged, self._at = [], None
        writer.write(step, stored, texts, own)
        self._at = step
        if not self.asynchronous:
            self.wait()

    def restore(self, like: Any, step: int | None = None) -> Restored | None:
        """Return the newest checkpoint that is whole, None where the folder has none.

        One that is damaged is passed over with a warning.

        Args:
            like: a state of this run, arrays or `jax.ShapeDtypeStruct`s, with the same dtypes and shapes.
                Every leaf comes back with its sharding, or free to move where it is bound to no device.
            step: the step of another checkpoint.

        Raises:
            InputError: where it is of another network, by its difference; where there is no such step; or
                where none is whole.
        """
        self.wait()
        params, rest = leaves.split("restore", like)
        found = steps(self.folder)
        if step is not None and step not in found:
            raise missing("restore", self.folder, step, "checkpoints.restore(like{})")
        if step is None:
            warn_of_unfinished(self._opened().unfinished)
        damaged: list[int] = []
        order = reversed(found) if step is None else [step]
        step, about = next(whole(self.folder, order, damaged), (None, {}))
        if step is None:
            if damaged:
                raise none_whole("restore", self.folder, damaged, "checkpoints.restore(like{})")
            return None
        path = path_of(self.folder, step)
        fix = another(self.folder)
        leaves.check_same("restore", about["params"], leaves.paths(params), "params", path, fix)
        leaves.check_same("restore", about["rest"], leaves.paths(rest), "state", path, fix)
        if about["net"] is not None and self._about["net"] is not None:
            other = difference(about["net"], self._about["net"], _PLAN)
            if other is not None:
                text = f"{path} is of a network with the same params that differs at net{other}"
                warnings.warn(text, UserWarning, stacklevel=2)
        items = read(path, params=params, rest=rest, position=None)
        self._damaged, self._at = damaged, step
        state, position = items["rest"]._replace(params=items["params"]), items["position"]["position"]
        return Restored(state, step, from_json(position))

    def wait(self) -> None:
        """Return when all is written. Raises: OSError, where the last checkpoint could not be written."""
        try:
            self._opened().wait()
        except OSError:
            self._at = None
            raise

    def close(self) -> None:
        """Wait, stop orbax's threads, and let go of the folder. Raises: OSError, as `wait`."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Writer:
        if self._writer is None:
            fix = f"fnn.train.Checkpoints({str(self.folder)!r}, net, x)"
            raise InputError("Checkpoints", "checkpoints that are open", "closed ones", fix)
        return self._writer

    def _check_step(self, step: int) -> None:
        there = [one for one in steps(self.folder) if one not in self._damaged]
        if step < 0 or (there and step <= there[-1]):
            wanted = f"a step above {there[-1]}, the last in {self.folder}" if there else "a step >= 0"
            fix = another(self.folder) if step >= 0 else "checkpoints.save(state.step, state, position)"
            raise InputError("save", wanted, repr(step), fix)


def _structure(params: Any) -> Any:
    """Describe params with the dtype and shape of each leaf; None where a container cannot be described."""
    try:
        return to_json(jax.tree.map(leaves.told, params))
    except InputError:
        return None


def _position(position: Any) -> Any:
    try:
        return to_json(position)
    except InputError as error:
        wanted = "bytes, or numbers and strings in dicts, lists and tuples, as position"
        fix = "checkpoints.save(step, state, position=None)"
        raise InputError("save", wanted, describe(position), fix) from error
