"""Wrong calls of the files of data and of params: TFRecord, safetensors."""

# pyright: reportArgumentType=false

import gzip
import itertools
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

import fnn
from fnn import export
from fnn.export.framing import framed
from fnn.export.messages import record_message
from tests.suggestions.row import KEY, Row, X

PATH = "data"
EXAMPLES = [{"x": np.arange(3) + i} for i in range(3)]
TOLD = {"path": PATH, "examples": EXAMPLES, "itertools": itertools}
NET = fnn.Serial(fnn.Dense(3), fnn.LayerNorm())
PARAMS = fnn.init(NET, KEY, X)
TREE = {"net": NET, "x": X, "path": PATH, "params": PARAMS}


def count() -> int:
    """Return the number of records in the file."""
    return len(list(export.read_records(PATH)))


def found(examples: Any) -> None:
    """Take the examples that the suggestion reads, of which there are some, or what it has written."""
    assert len(list(examples)) if not isinstance(examples, int) else count() == examples


def holding(
    change: Callable[[bytes], bytes] = lambda data: data, compression: Any = None
) -> Callable[[], Any]:
    """Read a file of records that was changed."""

    def wrong() -> Any:
        export.write_records(PATH, EXAMPLES)
        Path(PATH).write_bytes(change(Path(PATH).read_bytes()))
        return list(export.read_records(PATH, compression))

    return wrong


def examples(given: Any, written: int) -> Row:
    """The row of examples that cannot be written; `written` is how many the suggestion writes."""

    def use(made: Any) -> None:
        if isinstance(made, dict):  # in the place of the example
            assert export.write_records(PATH, [made]) == written
        assert count() == written

    first = given[0] if isinstance(given, list) else given
    return Row(lambda: export.write_records(PATH, given), use, TOLD | {"examples": given, "example": first})


def feature(value: Any) -> Row:
    """The row of a value that cannot be written: the suggestion stands for it, or for its example."""
    example = {"x": value, "t": 1}

    def use(made: Any) -> None:
        export.write_records(PATH, [made if isinstance(made, dict) else {"x": made}])
        assert count() == 1

    return Row(lambda: export.write_records(PATH, [example]), use, {"value": value, "example": example})


def saved(params: Any) -> Row:
    """The row of params that cannot be saved: the suggestion has saved them, or stands for them, or a leaf."""

    def use(made: Any) -> None:
        if made is not None:
            export.save_params(made, PATH)
            assert jax.tree.leaves(export.load_params(PATH, made))
        assert Path(PATH).is_file()

    return Row(
        lambda: export.save_params(params, PATH),
        use,
        {"params": params, "path": PATH, "leaf": jax.tree.leaves(params)[0]},
    )


def loaded(like: Any, there: Any = PARAMS) -> Row:
    """The row of a tree that is not what a file holds: the suggestion is what that is, or like it."""

    def wrong() -> Any:
        export.save_params(there, PATH)
        return export.load_params(PATH, like)

    def use(made: Any) -> None:
        assert jax.tree.leaves(export.load_params(PATH, made))

    return Row(wrong, use, TREE | {"like": like, "leaf": jax.tree.leaves(like)[0]})


def no_params() -> Any:
    """Read params from a file that has none."""
    Path(PATH).write_bytes(b"no such thing" * 9)
    return export.load_params(PATH, PARAMS)


def params_there(_: Any) -> None:
    export.load_params(PATH, PARAMS)


def swapped(read: Callable[..., Any], use: Callable[[Any], Any], given: Any = PARAMS) -> Row:
    """The row of a call whose path is none, where there is a file."""

    def wrong() -> Any:
        export.write_records(PATH, EXAMPLES)
        if read is export.load_params:
            export.save_params(PARAMS, PATH)
        return read(given, PATH) if read is not export.save_params else read(PATH, given)

    return Row(wrong, use, TREE | TOLD)


def cut(data: bytes) -> bytes:
    return data[:-1]


def other(data: bytes) -> bytes:
    return data + framed(b"no such message")


def both(data: bytes) -> bytes:
    """Add a record with one name in its context and in its steps."""
    message = record_message()()
    message.features.feature.add(key="x").value.integers.value.append(1)
    message.sequences.sequence.add(key="x").value.feature.add().integers.value.append(1)
    return data + framed(message.SerializeToString())


ROWS = {
    # Records that are read.
    "records by gzip": Row(holding(gzip.compress), found, TOLD),
    "records by zlib": Row(holding(zlib.compress, "gzip"), found, TOLD),
    "records that are not compressed": Row(holding(compression="gzip"), found, TOLD),
    "a compression that is none": Row(holding(gzip.compress, "GZIP"), found, TOLD),
    "a compression of what has none": Row(holding(compression="zip"), found, TOLD),
    "a record that is cut": Row(holding(cut), found, TOLD),
    "a first record that is cut": Row(holding(lambda data: data[:5]), found, TOLD),
    "a record that is cut and compressed": Row(holding(lambda data: gzip.compress(cut(data)), "gzip"), found, TOLD),
    "another message": Row(holding(other), found, TOLD),
    "another message first": Row(holding(lambda data: framed(b"no such message")), found, TOLD),
    "another message, compressed": Row(holding(lambda data: zlib.compress(other(data)), "zlib"), found, TOLD),
    "a name in both": Row(holding(both), found, TOLD),
    "no path of records": swapped(lambda *_: export.read_records(EXAMPLES), found),
    # Records that are written.
    "no path to write records": swapped(export.write_records, found, EXAMPLES),
    "one example": examples({"x": np.ones(2)}, 1),
    "examples without names": examples([np.ones(2), np.ones(2)], 2),
    "an example without names": examples([{"x": 1}, np.ones(2)], 1),
    "a number as a name": examples([{3: np.ones(2)}], 1),
    "bytes as a name": examples([{b"x": np.ones(2)}], 1),
    "a name that UTF-8 lacks": examples([{"\ud800": np.ones(2)}], 1),
    "text that UTF-8 lacks": feature("\ud800"),
    "texts that UTF-8 lacks": feature(["a", b"b", "\ud800"]),
    "a table of texts that UTF-8 lacks": feature(np.array([["a"], ["\ud800"]])),
    "a key as a feature": feature(jax.random.key(0)),
    "rows of several lengths": feature([[1, 2], [3]]),
    "rows and a number": feature([1, [2, 3]]),
    "tables of several lengths": feature([np.ones((2, 3)), np.ones((1, 3))]),
    "rows of rows of several lengths": feature([[[1], [2, 3]], [[4]]]),
    "integers without a sign": feature(np.array([2**63], np.uint64)),
    "integers beyond all": feature([2**64, 1]),
    "floats beyond float32": feature(np.array([1.0, -1e300])),
    "complex features": feature(np.ones(2, complex)),
    "dates": feature(np.array(["2000-01-01"], "M8[D]")),
    "nothing as a feature": feature(None),
    # Params that are saved.
    "no path to save": swapped(export.save_params, params_there),
    "names that meet": saved({"a": {"b": np.ones(2)}, "a.b": np.ones(3)}),
    "a name that is not free": saved({"__metadata__": np.ones(2)}),
    "shapes to save": saved({"a": jax.ShapeDtypeStruct((2,), np.float32), "b": np.ones(2)}),
    "a number to save": saved({"a": float("nan"), "b": np.ones(2)}),
    "a number beyond all": saved({"a": 2**70, "b": np.ones(2)}),
    "text to save": saved({"a": "text", "b": np.float32(2)}),
    "objects to save": saved({"a": np.array([None, 1]), "b": np.ones(2)}),
    "keys to save": saved({"a": jax.random.key(0)}),
    "complex128 to save": saved({"a": np.ones(2, complex)}),
    "int4 to save": saved({"a": np.ones(2, ml_dtypes.int4)}),
    "no gradients to save": saved({"a": np.zeros(2, jax.dtypes.float0)}),
    "dates to save": saved({"a": np.array(["2000-01-01"], "M8[D]")}),
    "an array of text to save": saved({"a": np.array(["text"])}),
    # Params that are loaded.
    "no path to load": swapped(export.load_params, lambda made: jax.tree.leaves(made)[0]),
    "no safetensors": Row(no_params, params_there, TREE),
    "other leaves": loaded(PARAMS[:1]),
    "other shapes": loaded(fnn.init(NET, KEY, X[:, :5])),
    "names that meet in what is loaded": loaded({"a": {"b": np.ones(2)}, "a.b": np.ones(3)}, {0: np.ones(2), 1: np.ones(3)}),
    "a name that is not free in what is loaded": loaded({"__metadata__": np.ones(2)}, {"params": {"__metadata__": np.ones(2)}}),
    "a number to be like": loaded(1.0, np.float64(2)),
    "text to be like": loaded({"a": "text", "b": jax.ShapeDtypeStruct((2,), np.float32)}, {"b": np.ones(2, np.float32)}),
    "the shape of a key": loaded(jax.eval_shape(lambda: jax.random.key(0)), jax.random.key_data(KEY)),
    "the shape of complex128": loaded(jax.ShapeDtypeStruct((2,), np.complex128), np.ones((2, 2))),
    "the shape of int4": loaded(jax.ShapeDtypeStruct((2,), jnp.int4), np.ones(2, np.int8)),
}  # fmt: skip
