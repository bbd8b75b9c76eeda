"""Data come back from TFRecord files as they were, and damage is found at its record."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

pytest.importorskip("google.protobuf")
import fnn.export as export
from fnn.export.framing import framed
from fnn.export.messages import record_message

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


def test_values_keep_their_kind(records):
    raw = {
        "raw": b"\x00\xff\x00", "words": ["a", "b"], "array": bytearray(b"ab"), "view": memoryview(b"cd"),
        "both": ["a", b"b"], "text": np.array([["a"], ["bc"]]), "objects": np.array([b"a", "b"], object),
        "views": (bytearray(b"x"), memoryview(b"y")),
    }  # fmt: skip
    numbers = {
        "flags": np.array([True, False]), "none": np.zeros(0, np.int32), "half": jnp.ones(2, jnp.bfloat16),
        "large": np.array([2**63 - 1]), "far": [np.inf, -np.inf], "empty": [], "list": [1, 2], "scalar": 1.5,
        "top": [2**63 - 1], "least": -(2**63), "largest": 3.4028235e38, "nan": np.float64(np.nan),
    }  # fmt: skip
    export.write_records(records, [raw | numbers])
    (back,) = export.read_records(records)
    assert np.isnan(back.pop("nan"))
    assert {name: v for name, v in back.items() if isinstance(v, list)} == {
        "raw": [b"\x00\xff\x00"], "words": [b"a", b"b"], "array": [b"ab"], "view": [b"cd"],
        "both": [b"a", b"b"], "text": [b"a", b"bc"], "objects": [b"a", b"b"], "views": [b"x", b"y"],
    }  # fmt: skip
    assert {name: (v.dtype.name, v.tolist()) for name, v in back.items() if isinstance(v, np.ndarray)} == {
        "flags": ("int64", [1, 0]), "none": ("int64", []), "half": ("float32", [1, 1]),
        "large": ("int64", [2**63 - 1]), "far": ("float32", [np.inf, -np.inf]), "empty": ("float32", []),
        "list": ("int64", [1, 2]), "scalar": ("float32", [1.5]), "top": ("int64", [2**63 - 1]),
        "least": ("int64", [-(2**63)]), "largest": ("float32", [float(np.finfo(np.float32).max)]),
    }  # fmt: skip


REFUSED = {
    "complex": np.ones(2, complex), "complex number": 1j, "uint64": np.array([2**63], np.uint64),
    "far integers": [2**64, 1], "far and negative": [2**63, -1], "far float": 1e40,
    "far floats": np.array([1.0, -1e300]), "ragged": [[1, 2], [3]], "ragged arrays": [np.ones(2), np.ones(3)],
    "none": None, "nested none": [1, None], "dict": {"a": 1}, "set": {1}, "surrogate": "\ud800",
    "dates": np.array(["2000-01-01"], "M8[D]"), "key": jax.random.key(0),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_record_can_hold_is_refused_and_the_suggestion_works(name, records):
    before, value = records.read_bytes(), REFUSED[name]
    example = {"x": value, "t": 1}
    with pytest.raises(
        fnn.InputError, match="write_records: expected 'x' to be .* in example 1: try"
    ) as error:
        export.write_records(records, [EXAMPLES[0], example])
    assert records.read_bytes() == before and len(list(records.parent.iterdir())) == 1
    fix = error.value.args[3]
    names = {"value": value, "example": example, "np": np, "jax": jax}
    made = eval(fix, names)
    example = made if isinstance(made, dict) else {"x": made}
    assert export.write_records(records, [example]) == 1 and len(list(export.read_records(records))) == 1


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([{3: np.ones(2), "x": 1}], "text as a name, got 3"),
        ([{b"x": np.ones(2)}], "text as a name, got b'x'"),
        ([{"\ud800": np.ones(2)}], "a name that UTF-8 can write"),
        ([np.ones(2)], "examples, each a dict, got float64.2. in example 0"),
        ({"x": np.ones(2)}, "examples, each a dict, got one dict"),
    ],
)
def test_examples_that_are_none_are_refused_and_the_suggestion_works(examples, said, records):
    with pytest.raises(fnn.InputError, match=said) as error:
        export.write_records(records, examples)
    example = examples if isinstance(examples, dict) else examples[0]
    names = {"example": example, "examples": examples, "fnn": fnn, "path": records}
    made = eval(error.value.args[3], names)
    assert made == 1 or export.write_records(records, [made]) == 1


def test_swapped_arguments_are_told(records):
    swapped: Any = EXAMPLES
    with pytest.raises(
        fnn.InputError, match="expected a path, .*try `fnn.export.write_records.path, examples.`"
    ):
        export.write_records(swapped, records)


def sequence(lists, context=None):
    message = record_message()()
    for name, values in (context or {}).items():
        message.features.feature.add(key=name).value.integers.value.extend(values)
    for name, steps in lists.items():
        entry = message.sequences.sequence.add(key=name)
        for step in steps:
            entry.value.feature.add().floats.value.extend(step)
    return framed(message.SerializeToString())


def test_lists_of_a_sequence_come_beside_its_context(records):
    records.write_bytes(sequence({"x": [[1, 2], [3], []], "none": []}, {"n": [3]}) + records.read_bytes())
    first, *others = export.read_records(records)
    assert len(others) == 5 and first["n"].tolist() == [3] and first["none"] == []
    assert [step.tolist() for step in first["x"]] == [[1, 2], [3], []] and first["x"][0].dtype == np.float32
    records.write_bytes(sequence({"x": [[1]]}, {"x": [3]}))
    with pytest.raises(
        fnn.InputError, match="record 0 in .* to be a name in its context or in its steps, got x in both"
    ):
        list(export.read_records(records))


@pytest.mark.parametrize("data", [b"no such message", b"\x1a\x01a", b"\x0a\x02\x18\x01"])
def test_other_messages_are_refused(data, records):
    records.write_bytes(records.read_bytes() + framed(data))
    with pytest.raises(fnn.InputError, match="record 5 in .* to be a tf.train.Example or SequenceExample"):
        list(export.read_records(records))


def test_files_that_are_no_records_are_refused(records):
    records.write_bytes(b"no such thing" * 9)
    with pytest.raises(fnn.InputError, match="a whole record 0"):
        list(export.read_records(records))
    with pytest.raises(FileNotFoundError):
        list(export.read_records(records.parent / "nowhere"))
