"""Checkpoints: all comes back bit for bit, and nothing that goes wrong costs a whole one."""

import ast
import contextlib
import fcntl
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn.train import folder as folders
from fnn.train.checkpoint import Checkpoints, load
from fnn.train.state import State
from tests.contract.batch_norm import BatchNorm

NET = fnn.mlp([4, 8, 3])
X = jax.ShapeDtypeStruct((2, 4), jnp.float32)


class Own(NamedTuple):
    """A state of somebody else."""

    params: Any
    more: Any = ()


def shapes(net: Any = NET) -> State:
    """Give the shapes of the state of a run."""

    def made() -> State:
        params = fnn.init(net, jax.random.key(0), X)
        adam = optax.adam(1e-3).init(params)
        return State(params, adam, jax.random.key(7, impl="rbg"), jnp.int32(0), halted=jnp.bool_(False))

    return jax.eval_shape(made)


def state(step: int = 0) -> State:
    """Give the state of a run with numbers of which no two are the same."""
    random = np.random.default_rng(step)
    leaves = shapes()._replace(key=())
    drawn = jax.tree.map(lambda leaf: jnp.asarray(random.integers(0, 999, leaf.shape), leaf.dtype), leaves)
    return drawn._replace(key=jax.random.key(step, impl="rbg"))


def own(step: int) -> Own:
    """Give a small state that tells its step."""
    return Own({"w": jnp.full((3,), step, jnp.float32)}, jnp.int32(step))


def bits(leaf: Any) -> tuple[Any, ...]:
    """Give all that a leaf is, but for its place."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_impl(leaf), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes()
    return leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()


def assert_same(got: Any, wanted: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert bits(a) == bits(b)


def saved(folder: Path, *steps: int, **options: Any) -> Path:
    """Write checkpoints of `own`."""
    with Checkpoints(folder, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, own(step))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_run_goes_on_where_it_was(tmp_path, asynchronous):
    position = {"epoch": 3, "seen": (1, [2.5, None]), "raw": b"\x00\xff"}
    with Checkpoints(tmp_path / "new" / "run", NET, X, every=5, asynchronous=asynchronous) as checkpoints:
        assert checkpoints.restore(state()) is None
        assert [step for step in range(12) if checkpoints.due(step)] == [5, 10]
        checkpoints.save(5, state(5), position)
    with Checkpoints(tmp_path / "new" / "run", NET, X) as checkpoints:
        restored = checkpoints.restore(shapes())
        assert restored is not None
        assert (restored.step, restored.position) == (5, position)
        assert_same(restored.state, state(5))


KINDS = [
    "bool", "int2", "int4", "int8", "int16", "int32", "int64", "uint2", "uint4", "uint8", "uint16", "uint32",
    "uint64", "float4_e2m1fn", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn",
    "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "bfloat16", "float16", "float32",
    "float64", "complex64", "complex128",
]  # fmt: skip


def test_every_dtype_comes_back_bit_for_bit(tmp_path):
    """NaN of all kinds and subnormal numbers among them."""
    random = np.random.default_rng(0)

    def draw(kind: str) -> Any:
        dtype = jnp.dtype(kind)
        if kind == "bool" or "int" in kind:
            return random.integers(0, 2, (64, 3)).astype(dtype)
        raw = random.integers(0, 256, (64, 3, dtype.itemsize), np.uint8)
        return (raw & 15 if kind.startswith("float4") else raw).view(dtype)[..., 0]

    arrays = {kind: draw(kind) for kind in KINDS}
    own = Own({kind: jnp.asarray(array) for kind, array in arrays.items()}, arrays)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, own)
        restored: Any = checkpoints.restore(own)
    assert_same(restored.state, own)
    assert all(type(leaf) is np.ndarray for leaf in restored.state.more.values())


def test_numbers_keys_and_empty_leaves_come_back(tmp_path):
    keys = {impl: jax.random.key(1, impl=impl) for impl in ("threefry2x32", "rbg", "unsafe_rbg")}
    more = {
        "keys": keys,
        "split": jax.random.split(jax.random.key(2), (2, 3)),
        "no keys": jax.random.split(jax.random.key(2), 0),
        "empty": jnp.zeros((0, 3), jnp.bfloat16),
        "none": None,
        "numbers": (1, 2.5, True, np.float32(0.1), np.int8(3)),
        "array": np.arange(3),
        "a/b..": {"": jnp.ones(1), "['a']": jnp.zeros(1)},
        3: jnp.ones(()),
    }
    del more[3]  # JAX sorts the keys of a dict
    own = Own(jnp.ones((2, 3)), more)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, own)
        more["array"] += 1  # what is written is a copy
        restored: Any = checkpoints.restore(own)
    more["array"] -= 1
    numbers = restored.state.more.pop("numbers")
    assert numbers == more["numbers"] and list(map(type, numbers)) == list(map(type, more["numbers"]))
    more.pop("numbers")
    assert_same(restored.state, own)


@pytest.mark.parametrize("params", [(), {}, (None, {}), jnp.zeros((0, 2))], ids=repr)
def test_a_network_may_have_no_params(tmp_path, params):
    with Checkpoints(tmp_path, fnn.relu) as checkpoints:
        checkpoints.save(1, Own(params))
        restored: Any = checkpoints.restore(Own(params))
    assert_same(restored.state, Own(params))
    net, loaded = load(tmp_path)
    assert net == fnn.relu
    assert_same(loaded, params)


def test_what_is_donated_after_a_save_is_saved(tmp_path):
    step = jax.jit(lambda own: jax.tree.map(lambda leaf: leaf + 1, own), donate_argnums=0)
    run = Own(jnp.zeros((300, 300)), jnp.zeros(3))
    with Checkpoints(tmp_path) as checkpoints:
        for i in range(1, 4):
            run = step(run)
            checkpoints.save(i, run)
    with Checkpoints(tmp_path) as checkpoints:
        restored: Any = checkpoints.restore(run)
    assert (np.asarray(restored.state.params) == 3).all()


def test_the_last_and_the_best_are_kept(tmp_path):
    losses = {1: 3.0, 2: 1.0, 3: 2.0, 4: float("nan"), 5: 4.0, 6: 5.0}
    for best, wanted in [("loss", 2), (None, None)]:
        folder = tmp_path / str(best)
        for steps in [(1, 2, 3), (4, 5, 6)]:  # two runs, the second of which is told by the first
            with Checkpoints(folder, NET, best=best, keep=2) as checkpoints:
                for step in steps:
                    checkpoints.save(step, own(step), metrics={"loss": losses[step]})
        assert names(folder) == sorted({f"step_{step}" for step in (5, 6, wanted or 6)})
        if wanted:
            assert_same(load(folder, best=True)[1], own(wanted).params)
    with pytest.raises(fnn.InputError, match=r"load: expected checkpoints .* told its metric, got best=None"):
        load(tmp_path / "None", best=True)


def test_a_save_without_metrics_is_no_candidate_of_the_best(tmp_path):
    with Checkpoints(tmp_path, NET, best="-accuracy", keep=1) as checkpoints:
        with pytest.raises(fnn.InputError, match="save: expected the metric 'accuracy' among metrics"):
            checkpoints.save(1, own(1), metrics={"loss": 1.0})
        checkpoints.save(1, own(1), metrics={"accuracy": jnp.float32(0.5)})
        checkpoints.save(2, own(2))
        checkpoints.save(3, own(3))
    assert names(tmp_path) == ["step_1", "step_3"]
    assert int(load(tmp_path, best=True)[1]["w"][0]) == 1


def test_a_step_is_saved_once_and_steps_rise(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, own(2))
        checkpoints.save(2, own(9))
        with pytest.raises(
            fnn.InputError, match=r"save: expected a step above 2, the last in .*, got 1: try"
        ):
            checkpoints.save(1, own(1))
        restored: Any = checkpoints.restore(own(0))
        checkpoints.save(2, own(9))
        checkpoints.save(np.int64(3), own(3))  # pyright: ignore[reportArgumentType]
    assert int(restored.state.more) == 2
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(fnn.InputError, match="expected a step above 3"):
            checkpoints.save(3, own(3))
        restored = checkpoints.restore(own(0), step=2)
        assert int(restored.state.more) == 2
        with pytest.raises(fnn.InputError, match="expected a step above 3"):
            checkpoints.save(3, own(3))
        with pytest.raises(fnn.InputError, match=r"restore: expected a step of \[2, 3\], got step=1"):
            checkpoints.restore(own(0), step=1)


# Damage


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """Write two checkpoints, the second to be damaged."""
    return saved(tmp_path_factory.mktemp("two"), 1, 2)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


FILES = ["about/metadata", "position/metadata", "params/manifest.ocdbt", "rest/_METADATA", "files.json"]


@pytest.mark.parametrize("file", [*FILES, "params/ocdbt.process_0/d/*"])
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b""), "has 0 bytes of|is not readable"),
        (cut, r"has \d+ bytes of \d+|is not readable"),
        (flip, "has changed|is not readable"),
        (lambda path: path.write_text("garbage"), "has 7 bytes of|is not readable"),
    ],
    ids=["missing", "empty", "cut", "bit", "garbage"],
)
def test_a_damaged_checkpoint_is_passed_over(two, tmp_path, file, damage, why):
    folder = shutil.copytree(two, tmp_path / "run")
    path = next((folder / "step_2").glob(file))
    damage(path)
    with Checkpoints(folder) as checkpoints:
        with pytest.warns(UserWarning, match=rf"step_2 is passed over: .*{path.name} ({why})"):
            restored: Any = checkpoints.restore(own(0))
        assert_same(restored.state, own(1))


def test_a_run_goes_on_from_before_the_damage_and_sets_it_aside(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "run")
    shutil.rmtree(folder / "step_2" / "rest")
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(
            fnn.InputError, match=r"restore: expected a whole checkpoint, got step_2 in .*damaged"
        ):
            with pytest.warns(UserWarning, match="step_2 is passed over: rest/.* is missing"):
                checkpoints.restore(own(0), step=2)
        with pytest.warns(UserWarning, match="step_2 is passed over"):
            restored: Any = checkpoints.restore(own(0))
        assert restored.step == 1
        checkpoints.save(2, own(2))
        restored = checkpoints.restore(own(0))
        assert restored.step == 2
        checkpoints.save(3, own(3))
        checkpoints.save(4, own(4))
    damaged, *rest = names(folder)
    assert damaged.startswith("damaged_step_2_") and rest == ["step_3", "step_4"]


def test_damage_to_all_is_no_empty_folder(tmp_path):
    saved(tmp_path, 1)
    (tmp_path / "step_1" / "files.json").unlink()
    with Checkpoints(tmp_path) as checkpoints, pytest.warns(UserWarning, match="files.json is missing"):
        with pytest.raises(fnn.InputError, match="expected a whole checkpoint, got step_1"):
            checkpoints.restore(own(0))
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(fnn.InputError, match="load: expected a w"),
    ):
        load(tmp_path)


def test_what_was_not_written_to_its_end_is_passed_over(tmp_path):
    saved(tmp_path, 1)
    left = tmp_path / "step_2.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "step_1" / "params", left / "params")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(
            UserWarning, match="step_2.orbax-checkpoint-tmp is passed over: it was not written to"
        ):
            restored: Any = checkpoints.restore(own(0))
        assert restored.step == 1
        checkpoints.save(2, own(2))
    assert names(tmp_path) == ["step_1", "step_2"]


# Another network


def test_another_network_is_refused_by_its_difference(tmp_path):
    with Checkpoints(tmp_path, NET) as checkpoints:
        checkpoints.save(1, state())
        for net, match in [
            (fnn.mlp([4, 16, 3]), r"with params\['first'\]\['bias'\] float32 \(16,\), got .* \(8,\) in "),
            (fnn.Serial(first=fnn.Dense(8), output=fnn.Dense(3, bias=False)),
             r"with no params\['output'\]\['bias'\], got params\['output'\]\['bias'\] float32 \(3,\) in "),
            (fnn.mlp([4, 8, 8, 3]), r"with params\['hidden.*, got no params\['hidden"),
        ]:  # fmt: skip
            with pytest.raises(fnn.InputError, match=match):
                checkpoints.restore(shapes(net))
        for change, match in [
            ({"step": jnp.int16(0)}, r"state.step int16 \(\), got state.step int32 \(\)"),
            ({"key": jax.random.key(0)}, r"state.key key<threefry2x32> \(\), got state.key key<rbg> \(\)"),
            ({"optimizer": ()}, r"no state.optimizer\[0\].count, .* more that differ"),
            ({"average": state().params}, r"state.average\['first'\]\['bias'\].*, got no state.average"),
        ]:
            with pytest.raises(fnn.InputError, match=match):
                checkpoints.restore(state()._replace(**change))


def test_another_activation_is_told(tmp_path):
    saved(tmp_path, 1, net=fnn.Serial(fnn.Dense(3), fnn.relu))
    with Checkpoints(tmp_path, fnn.Serial(fnn.Dense(3), fnn.relu, plan=(fnn.Segment(0, 2),))) as checkpoints:
        checkpoints.restore(own(0))
    with Checkpoints(tmp_path, fnn.Serial(fnn.Dense(3), fnn.gelu)) as checkpoints:
        with pytest.warns(UserWarning, match=r"differs at net.layers\[1\]: .*fnn.relu.*, not .*fnn.gelu"):
            checkpoints.restore(own(0))


def test_what_needs_64_bits_is_refused_where_there_are_32(tmp_path):
    with Checkpoints(tmp_path, NET) as checkpoints:
        checkpoints.save(1, Own(jnp.ones(2, jnp.float64)))
        with jax.enable_x64(False):
            with pytest.raises(
                fnn.InputError, match="restore: expected 64 bits for  float64.*jax_enable_x64"
            ):
                checkpoints.restore(Own(jax.ShapeDtypeStruct((2,), jnp.float64)))
            with pytest.raises(fnn.InputError, match="jax_enable_x64"):
                load(tmp_path)


# The folder


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, own(1))
        with pytest.raises(fnn.InputError, match=r"which this process has open and not closed"):
            Checkpoints(tmp_path)
        restored: Any = checkpoints.restore(own(0))
        assert_same(restored.state, own(1))
    saved(tmp_path, 2)


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_in_another_process_holds_the_folder_until_it_dies(tmp_path):
    saved(tmp_path, 1)
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        with pytest.raises(fnn.InputError, match="a folder that no other run holds"):
            Checkpoints(tmp_path)
        other.kill()
        other.wait()
    saved(tmp_path, 2)
    assert names(tmp_path) == ["step_1", "step_2"]


def test_a_file_system_without_locks_is_not_locked(tmp_path, monkeypatch):
    def refuse(*_: Any) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    saved(tmp_path, 1)


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "3").mkdir()
    (tmp_path / "step_7").mkdir()
    (tmp_path / "step_7" / "mine").write_text("mine")
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        with pytest.raises(fnn.InputError, match="a step above 7"):
            checkpoints.save(7, own(7))
        checkpoints.save(8, own(8))
        checkpoints.save(9, own(9))
    assert names(tmp_path) == ["3", "notes.txt", "step_7", "step_9"]
    assert (tmp_path / "step_7" / "mine").read_text() == (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("folder", [3, None, "gs://bucket/run"])
def test_what_is_no_folder_is_refused(folder):
    with pytest.raises(fnn.InputError, match="Checkpoints: expected the path of a local folder"):
        Checkpoints(folder)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(fnn.InputError, match="Checkpoints: expected a folder, got .*/run, which is a file"):
        Checkpoints(tmp_path / "run")
    with pytest.raises(fnn.InputError, match="load: expected a folder of checkpoints"):
        load(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


# A write that fails


@contextlib.contextmanager
def small_files(size: int):
    """Let no file grow beyond a number of bytes: the disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# A write that fails after others of the same save finds tensorstore's event loop closed, which no one hears.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [0, 100, 20_000])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, size, asynchronous, capfd):
    def large(step: int) -> Own:
        return Own(jax.random.normal(jax.random.key(step), (100, 100)))

    with Checkpoints(tmp_path, keep=1, asynchronous=asynchronous) as checkpoints:
        checkpoints.save(1, large(1))
        checkpoints.wait()
        with small_files(size), pytest.raises(OSError, match="step_2 could not be written: step_1 and those"):
            checkpoints.save(2, large(2))
            checkpoints.wait()
        assert names(tmp_path) == ["step_1"]
        restored: Any = checkpoints.restore(large(0))
        assert_same(restored.state, large(1))
        checkpoints.save(2, large(2))
    assert names(tmp_path) == ["step_2"]
    assert not capfd.readouterr().err


def test_a_failure_is_raised_by_the_next_call(tmp_path, monkeypatch):
    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, own(1))
        checkpoints.wait()
        with monkeypatch.context() as patch:
            patch.setattr("fnn.train.writing.seal", fail)
            checkpoints.save(2, own(2))
            with pytest.raises(OSError, match="step_2 could not be written") as caught:
                checkpoints.save(3, own(3))
        assert "No space left" in str(caught.value.__cause__)
        checkpoints.save(3, own(3))
        checkpoints.wait()
        with monkeypatch.context() as patch:
            patch.setattr("fnn.train.writing.seal", fail)
            checkpoints.save(4, own(4))
            with pytest.raises(OSError, match="step_4 could not be written"):
                checkpoints.close()
    assert names(tmp_path) == ["step_1", "step_3"]
    saved(tmp_path, 4)


# Loading


def test_a_network_is_loaded_from_the_folder_alone(tmp_path):
    net = fnn.Serial(BatchNorm(), fnn.Dense(3))
    params = fnn.init(net, jax.random.key(0), X)
    with Checkpoints(tmp_path, net, X) as checkpoints:
        checkpoints.save(1, Own(params))
        checkpoints.save(2, Own(jax.tree.map(lambda leaf: leaf + 1, params)))
        checkpoints.wait()
        with pytest.raises(
            fnn.InputError, match=r"load: .*BatchNorm among `known`.*load\('.*known=\(BatchNorm,\)"
        ):
            load(tmp_path)
        again, loaded = load(tmp_path, step=1, known=(BatchNorm,))  # while the run goes on
    assert again == net
    assert_same(loaded, params)
    assert not any(leaf.committed for leaf in jax.tree.leaves(loaded))
    with pytest.raises(fnn.InputError, match=r"load: expected a step of \[1, 2\], got step=3 .*step=2\)"):
        load(tmp_path, step=3)


@jax.tree_util.register_pytree_with_keys_class
class Box:
    """A container of somebody else, that no description tells."""

    def __init__(self, w: Any) -> None:
        self.w = w

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey("w"), self.w)], None

    @classmethod
    def tree_unflatten(cls, _: Any, children: Any) -> "Box":
        return cls(*children)


def in_box(params: Any, x: Any) -> Any:
    return x @ params.w


def make_box(key: Any, x: Any) -> Box:
    return Box(jnp.ones((x.shape[-1], 2)))


def test_params_in_containers_of_others_are_loaded_by_the_shape_of_x(tmp_path):
    net = fnn.function.Function(in_box, init=make_box)
    for x in (None, {"a": X}["a"]):
        with Checkpoints(tmp_path / str(x is None), net, x) as checkpoints:
            checkpoints.save(1, Own(Box(jnp.full((4, 2), 3.0, jnp.float32))))
    with pytest.raises(fnn.InputError, match="a checkpoint that tells the shape of x"):
        load(tmp_path / "True", known=(in_box, make_box))
    with pytest.raises(fnn.InputError, match="load: expected a checkpoint with params.w float64"):
        load(tmp_path / "False", known=(in_box, make_box))
    with jax.enable_x64(False):
        again, params = load(tmp_path / "False", known=(in_box, make_box))
    assert again == net and (params.w == 3).all()


def test_a_write_that_goes_on_is_no_matter_to_load(tmp_path):
    saved(tmp_path, 1, net=NET)
    (tmp_path / "step_2.orbax-checkpoint-tmp").mkdir()
    assert load(tmp_path)[0] == NET


def test_a_folder_that_does_not_tell_its_network_is_not_loaded(tmp_path):
    with pytest.raises(fnn.InputError, match="load: expected a folder with checkpoints"):
        load(tmp_path)
    saved(tmp_path, 1)
    with pytest.raises(fnn.InputError, match="load: expected a checkpoint that tells its network"):
        load(tmp_path)


# Arguments


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"every": 0}, "every to be an integer >= 1"),
        ({"keep": 0}, "keep to be an integer >= 1"),
        ({"best": 3}, "the name of a metric as best"),
        ({"net": fnn.activation(lambda x: x)}, "to_json: expected a function that its module has"),
        ({"x": 3}, "an array or shape as x"),
    ],
)
def test_options_are_checked_before_a_folder_is_made(tmp_path, options, match):
    with pytest.raises(fnn.InputError, match=match):
        Checkpoints(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_arguments_of_save_are_checked_before_anything_is_written(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for arguments, match in [
            (
                (1, {"params": 1}),
                "save: expected a state that is a named tuple with the field params, got dict",
            ),
            ((1, own(1), {1, 2}), "save: expected bytes, or numbers and strings"),
            ((1, own(1), jnp.ones(2)), "save: expected bytes, or numbers and strings"),
            ((1, Own({"w": "text"})), r"save: expected an array or a number at params\['w'\], got 'text'"),
            ((1, Own((), np.array(["text"]))), r"save: expected an array or a number at rest.more"),
            ((-1, own(1)), "save: expected a step >= 0, got -1"),
        ]:
            with pytest.raises(fnn.InputError, match=match):
                checkpoints.save(*arguments)  # pyright: ignore[reportArgumentType]
    assert names(tmp_path) == []
    with pytest.raises(fnn.InputError, match="expected checkpoints that are open, got closed ones"):
        checkpoints.save(1, own(1))
    checkpoints.close()


def test_orbax_is_imported_where_it_is_used_alone(tmp_path, monkeypatch):
    for path in Path(fnn.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            assert not isinstance(node, ast.Import | ast.ImportFrom) or "orbax." not in ast.unparse(node)
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(
        fnn.InputError, match=r'expected orbax-checkpoint, .*: try `pip install "fnn\[train\]"`'
    ):
        Checkpoints(tmp_path)
    monkeypatch.undo()
    saved(tmp_path, 1)


def test_nothing_is_left_behind(tmp_path, capfd):
    before, filters = {*threading.enumerate()}, [*logging.getLogger("absl").filters]
    saved(tmp_path, 1, 2, 3)
    assert {*threading.enumerate()} <= before
    assert logging.getLogger("absl").filters == filters
    assert capfd.readouterr() == ("", "")
    with open(os.devnull, "w"), pytest.raises(ZeroDivisionError), Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, own(4))
        raise ZeroDivisionError
    assert names(tmp_path) == ["step_3", "step_4"]


def test_a_checkpoint_can_be_read_by_orbax_alone(tmp_path):
    import orbax.checkpoint as ocp

    saved(tmp_path, 5)
    with warnings.catch_warnings(), ocp.StandardCheckpointer() as reader:
        warnings.simplefilter("ignore")
        found = reader.restore(tmp_path / "step_5" / "params")
    assert list(found) == ["['w']"] and (found["['w']"] == 5).all()
    about = json.loads((tmp_path / "step_5" / "about" / "metadata").read_text())
    assert about["params"] == {"['w']": "float32 (3,)"} and about["step"] == 5


# Meshes


def test_leaves_come_back_where_the_run_has_them(tmp_path):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    values = Own(jnp.arange(8.0), jax.random.split(jax.random.key(0), 2))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, jax.device_put(values, rows))
        for like in (
            jax.device_put(values, rows),
            jax.device_put(values, whole),
            jax.device_put(values, jax.devices()[1]),
            jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=rows), values),
            values,
        ):
            restored: Any = checkpoints.restore(like)
            assert_same(restored.state, values)
            for got, leaf in zip(jax.tree.leaves(restored.state), jax.tree.leaves(like), strict=True):
                assert got.sharding == leaf.sharding
                assert got.committed == (like is not values)


@pytest.mark.thorough
def test_a_sharded_state_comes_back_on_another_mesh_of_eight(tmp_path):
    script = Path(__file__).with_name("on_eight_checkpoint.py")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-W", "error", str(script), str(tmp_path / "run")]
    found = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True)
    assert (found.stdout, found.returncode) == ("done\n", 0), found.stderr


def test_what_is_kept_is_a_function_of_the_metrics():
    metrics = {1: None, 2: {"a": 1.0}, 3: {"a": 1.0}, 4: {"b": 0.0}, 5: {"a": float("inf")}}
    assert folders.kept(metrics, 1, None) == {5}
    assert folders.kept(metrics, 2, "a") == {3, 4, 5}
    assert folders.kept(metrics, 1, "-a") == {3, 5}
    assert folders.kept(metrics, 9, "b") == {1, 2, 3, 4, 5}
    assert folders.kept({}, 1, "a") == set()
