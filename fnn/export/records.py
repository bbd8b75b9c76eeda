"""Training data in TFRecord files, without TensorFlow: read and written by the package `tfrecords`."""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from fnn.errors import InputError

Example = Mapping[str, np.ndarray]


@cache
def _message() -> Any:
    """Give the class of tf.train.Example: features {1: {1: map of name and {2: floats, 3: integers}}}."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="fnn_example.proto", package="fnn", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, Any, bool, str]) -> Any:
        made = file.message_type.add(name=name)
        for field, number, kind, many, other in fields:
            label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED if many else 1
            made.field.add(name=field, number=number, type=kind, label=label, type_name=other or None)
        return made

    number, integer, text, other = 2, 3, 9, 11  # float, int64, string, message
    message("Floats", ("value", 1, number, True, ""))
    message("Integers", ("value", 1, integer, True, ""))
    message(
        "Feature", ("floats", 2, other, False, ".fnn.Floats"), ("integers", 3, other, False, ".fnn.Integers")
    )
    message("Entry", ("key", 1, text, False, ""), ("value", 2, other, False, ".fnn.Feature"))
    message("Features", ("feature", 1, other, True, ".fnn.Entry"))
    message("Example", ("features", 1, other, False, ".fnn.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fnn.Example"))


def write_records(path: str | os.PathLike[str], examples: Iterable[Example]) -> int:
    """Write examples, each a dict of arrays, as `tf.train.Example` records; give their number.

    Floating arrays become float32 lists, integer ones int64 lists; shapes are not stored.
    """
    from tfrecords import TFRecordWriter

    writer, count = TFRecordWriter(os.fspath(path)), 0
    for example in examples:
        message = _message()()
        for name, value in sorted(example.items()):
            entry = message.features.feature.add(key=name)
            flat = np.asarray(value).ravel()
            kind = "integers" if np.issubdtype(flat.dtype, np.integer) else "floats"
            getattr(entry.value, kind).value.extend(flat.tolist())
        writer.write(message.SerializeToString())
        count += 1
    writer.close()
    return count


def read_records(path: str | os.PathLike[str]) -> Iterator[dict[str, np.ndarray]]:
    """Read `tf.train.Example` records: give of each its lists, float32 and int64 arrays of one axis.

    Every record's checksums are tested. Raises InputError at the first that is damaged or cut off.
    """
    from tfrecords import tf_record_iterator

    count = 0
    try:
        for record in tf_record_iterator(os.fspath(path)):
            message = _message().FromString(record)
            count += 1
            yield {
                entry.key: np.array(entry.value.integers.value, np.int64)
                if entry.value.HasField("integers")
                else np.array(entry.value.floats.value, np.float32)
                for entry in message.features.feature
            }
    except Exception as error:
        if type(error).__name__ not in ("DataLossError", "OutOfRangeError", "DecodeError"):
            raise
        got = f"a damaged one ({error})"
        raise InputError(
            "read_records", f"a whole record {count} in {os.fspath(path)}", got, "write_records"
        ) from error
