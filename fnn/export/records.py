"""Training data in TFRecord files, without TensorFlow: read and written by the package `tfrecords`."""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from fnn.errors import InputError, describe
from fnn.export.files import whole

Example = Mapping[str, Any]
_DAMAGE = "DataLossError", "OutOfRangeError"  # what `tfrecords` raises; it does not export them


@cache
def _message() -> Any:
    """Return the class of tf.train.Example: features {1: {1: name, 2: {1: bytes, 2: floats, 3:
    integers}}}.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="fnn_example.proto", package="fnn", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, Any, bool, str]) -> Any:
        made = file.message_type.add(name=name)
        for field, number, kind, many, other in fields:
            label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED if many else 1
            made.field.add(name=field, number=number, type=kind, label=label, type_name=other or None)
        return made

    number, integer, text, other, raw = 2, 3, 9, 11, 12  # float, int64, string, message, bytes
    message("Bytes", ("value", 1, raw, True, ""))
    message("Floats", ("value", 1, number, True, ""))
    message("Integers", ("value", 1, integer, True, ""))
    kinds = ("bytes", 1, "Bytes"), ("floats", 2, "Floats"), ("integers", 3, "Integers")
    message("Feature", *((name, i, other, False, f".fnn.{kind}") for name, i, kind in kinds))
    message("Entry", ("key", 1, text, False, ""), ("value", 2, other, False, ".fnn.Feature"))
    message("Features", ("feature", 1, other, True, ".fnn.Entry"))
    message("Example", ("features", 1, other, False, ".fnn.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fnn.Example"))


def write_records(path: str | os.PathLike[str], examples: Iterable[Example]) -> int:
    """Write examples, each a dict of arrays or of bytes, as `tf.train.Example` records; give their number.

    Floating arrays become lists of float32, integers and booleans of int64; bytes and text (in UTF-8), or a
    list of them, become lists of bytes. Shapes are not stored. Raises InputError for anything else. The file
    is written whole or not at all.
    """
    from tfrecords import TFRecordWriter

    count = 0
    with whole(path) as new:
        writer = TFRecordWriter(os.fspath(new))
        try:
            for example in examples:
                message = _message()()
                for name, value in sorted(example.items()):
                    kind, flat = _feature(name, value)
                    entry = message.features.feature.add(key=name)
                    feature = getattr(entry.value, kind)
                    feature.SetInParent()  # an empty list has its kind, too
                    feature.value.extend(flat)
                writer.write(message.SerializeToString())
                count += 1
        finally:
            writer.close()
    return count


def _feature(name: str, value: Any) -> tuple[str, list[Any]]:
    """Return the kind of list that a value becomes, and what is in it."""
    values = [value] if isinstance(value, (bytes, str)) else value
    if isinstance(values, (list, tuple)) and values and all(isinstance(v, (bytes, str)) for v in values):
        return "bytes", [v.encode() if isinstance(v, str) else v for v in values]
    array = np.asarray(value)
    if array.dtype == bool or jnp.issubdtype(array.dtype, jnp.integer):
        if not array.size or array.max() <= np.iinfo(np.int64).max:
            return "integers", array.astype(np.int64).ravel().tolist()
    elif jnp.issubdtype(array.dtype, jnp.floating):
        return "floats", array.astype(np.float32).ravel().tolist()
    wanted = f"{name!r} to be real numbers, int64 at most, or bytes"
    raise InputError("write_records", wanted, describe(value), "np.asarray(value, np.float32)")


def read_records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Read `tf.train.Example` records: give of each its lists by name.

    Lists are arrays of one axis, float32 or int64; lists of bytes are Python's. Every record's checksums
    are tested. Raises InputError at the first that is damaged or cut off, or is another message.
    """
    from google.protobuf.message import DecodeError
    from tfrecords import tf_record_iterator

    with open(path, "rb"):  # where there is none, Python's own error says so
        pass
    records, count = tf_record_iterator(os.fspath(path)), 0
    while True:
        try:
            message = _message().FromString(next(records))
        except StopIteration:
            return
        except Exception as error:
            if not isinstance(error, DecodeError) and type(error).__name__ not in _DAMAGE:
                raise
            wanted = f"a whole record {count} in {os.fspath(path)}"
            fix = "fnn.export.write_records(path, examples)"
            raise InputError("read_records", wanted, f"a damaged one ({error})", fix) from error
        yield {entry.key: _list(entry.value) for entry in message.features.feature}
        count += 1


def _list(feature: Any) -> Any:
    if feature.HasField("bytes"):
        return list(feature.bytes.value)
    if feature.HasField("integers"):
        return np.array(feature.integers.value, np.int64)
    return np.array(feature.floats.value, np.float32)
