"""Data come back from TFRecord files as they were, and damage is found at its record."""

import jax.numpy as jnp
import numpy as np
import pytest

import fnn

pytest.importorskip("tfrecords")
import fnn.export as export

EXAMPLES = [{"x": np.arange(4, dtype=np.float32) + i, "t": np.array([i]), "name": f"é{i}"} for i in range(5)]


@pytest.fixture
def records(tmp_path):
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
