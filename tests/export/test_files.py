"""Params as safetensors and data as TFRecord come back as they were, and damage is found."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnn

pytest.importorskip("safetensors")
import fnn.export as export
from fnn.export.tensors import DTYPES


def test_params_come_back_in_every_dtype_and_order(tmp_path):
    path = tmp_path / "params.safetensors"
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    dtypes = {name: (grid % 2).astype(dtype) for name, dtype in DTYPES.items()}
    orders = [grid.T, grid[:, ::2], grid[::-1], np.asfortranarray(grid), grid[:0], np.float32(3)]
    tree = {"dtypes": dtypes, "orders": orders, "none": None, "empty": ()}
    export.save_params(tree, path)
    back = export.load_params(path, tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for ours, theirs in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert theirs.dtype == ours.dtype and theirs.shape == ours.shape and theirs.flags.writeable
        np.testing.assert_array_equal(theirs, ours)


def test_optimizer_state_comes_back(tmp_path):
    net, x = fnn.mlp([5, 7, 3]), jax.ShapeDtypeStruct((1, 5), jnp.float32)
    shapes = jax.eval_shape(lambda: fnn.init(net, jax.random.key(0), x))
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5, leaf.dtype), shapes)
    both = params, optax.adam(1e-3).init(params)
    export.save_params(both, tmp_path / "state.safetensors")
    like = jax.eval_shape(lambda: both)
    back = export.load_params(tmp_path / "state.safetensors", like)
    assert jax.tree.structure(back) == jax.tree.structure(both)
    jax.tree.map(np.testing.assert_array_equal, back, both)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"a": {"b": np.ones(2)}, "a.b": np.ones(3)}, "two that are called 'a.b'"),
        ({"a": 1.0}, "an array as 'a', got 1.0"),
        ({"a": np.ones(2, np.complex128)}, r"'a' in a dtype of the format, got complex128\[2\]"),
        ({"a": jax.random.key(0)}, r"try `jax.random.key_data\(key\)`"),
    ],
)
def test_trees_that_do_not_fit_are_refused(tree, said, tmp_path):
    with pytest.raises(fnn.InputError, match=f"save_params: expected .*{said}"):
        export.save_params(tree, tmp_path / "params.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_that_do_not_fit_are_refused(tmp_path):
    path, tree = tmp_path / "params.safetensors", {"w": np.ones((2, 3)), "b": np.ones(3)}
    export.save_params(tree, path)
    for like, said in [
        ({"w": tree["w"]}, "expected the leaves w, got a file with b"),
        ({"w": tree["w"], "c": tree["b"]}, "a file without c and a file with b"),
        (tree | {"b": np.ones(4)}, r"b like float64\[4\], got float64\[3\]"),
        (tree | {"b": np.ones(3, np.float32)}, r"b like float32\[3\], got float64\[3\]"),
    ]:
        with pytest.raises(fnn.InputError, match=said):
            export.load_params(path, like)
    for content in (b"", b"no such thing" * 9, path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(fnn.InputError, match="to be a safetensors file"):
            export.load_params(path, tree)
    with pytest.raises(FileNotFoundError):
        export.load_params(tmp_path / "nowhere", tree)


EXAMPLES = [{"x": np.arange(4, dtype=np.float32) + i, "t": np.array([i]), "name": f"é{i}"} for i in range(5)]


@pytest.fixture
def records(tmp_path):
    pytest.importorskip("tfrecords")
    assert export.write_records(tmp_path / "data.tfrecord", EXAMPLES) == 5
    return tmp_path / "data.tfrecord"


def test_records_come_back(records):
    for example, back in zip(EXAMPLES, export.read_records(records), strict=True):
        np.testing.assert_array_equal(back["x"], example["x"])
        np.testing.assert_array_equal(back["t"], example["t"])
        assert back["x"].dtype == np.float32 and back["t"].dtype == np.int64
        assert back["name"] == [example["name"].encode()]


def test_every_bit_of_a_record_is_tested(records):
    whole = records.read_bytes()
    length = len(whole) // 5
    for bit in range(2 * length * 8, 3 * length * 8, 37):  # in its length, its data and both checksums
        spoiled = bytearray(whole)
        spoiled[bit // 8] ^= 1 << bit % 8
        records.write_bytes(spoiled)
        found = export.read_records(records)
        assert [next(found)["t"][0], next(found)["t"][0]] == [0, 1]
        with pytest.raises(fnn.InputError, match="a whole record 2 in .*damaged"):
            next(found)


@pytest.mark.parametrize("cut", [3, 13, 40])
def test_a_record_that_is_cut_off_is_found(cut, records):
    records.write_bytes(records.read_bytes()[:-cut])
    with pytest.raises(fnn.InputError, match="a whole record 4"):
        list(export.read_records(records))


def test_values_keep_their_kind(records):
    example = {
        "flags": np.array([True, False]), "none": np.zeros(0, np.int32), "raw": b"\x00\xff\x00",
        "words": ["a", "b"], "half": jnp.ones(2, jnp.bfloat16), "large": np.array([2**63 - 1]),
    }  # fmt: skip
    export.write_records(records, [example])
    (back,) = export.read_records(records)
    assert back["raw"] == [b"\x00\xff\x00"] and back["words"] == [b"a", b"b"]
    assert {name: (v.dtype.name, v.tolist()) for name, v in back.items() if isinstance(v, np.ndarray)} == {
        "flags": ("int64", [1, 0]), "none": ("int64", []), "half": ("float32", [1, 1]),
        "large": ("int64", [2**63 - 1]),
    }  # fmt: skip


@pytest.mark.parametrize("value", [np.ones(2, complex), np.array([2**63], np.uint64), None, {"a": 1}])
def test_what_no_record_can_hold_is_refused_and_the_file_left_alone(value, records):
    before = records.read_bytes()
    with pytest.raises(fnn.InputError, match="expected 'x' to be real numbers"):
        export.write_records(records, [EXAMPLES[0], {"x": value}])
    assert records.read_bytes() == before and len(list(records.parent.iterdir())) == 1


def test_files_that_are_no_records_are_refused(records):
    records.write_bytes(b"no such thing" * 9)
    with pytest.raises(fnn.InputError, match="a whole record 0"):
        list(export.read_records(records))
    with pytest.raises(FileNotFoundError):
        list(export.read_records(records.parent / "nowhere"))
