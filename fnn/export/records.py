"""Training data in TFRecord files, without TensorFlow."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from fnn.errors import InputError
from fnn.export.features import check_name, feature_of, listed, shown
from fnn.export.files import check_path, whole
from fnn.export.framing import Compression, compression_of, framed, reading, records
from fnn.export.messages import record_message

Example = Mapping[str, Any]


def write_records(path: str | os.PathLike[str], examples: Iterable[Example]) -> int:
    """Write examples as `tf.train.Example` records to a TFRecord file, and return their number.

    The file is written whole or not at all, without compression.

    Args:
        path: the file to write.
        examples: dicts of values by name. Floating arrays become lists of float32, integers and booleans of
            int64; bytes (`bytes`, `bytearray` or `memoryview`) and text (in UTF-8), or a list or an array of
            them, become lists of bytes. Shapes are not stored.

    Raises:
        InputError: for any other value, for rows of several lengths, and for a number that float32 or int64
            cannot hold.

    >>> import fnn.export, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fnn.export.write_records(f"{folder}/x.tfrecord", [{"label": 1}, {"label": 2}])
    2
    """
    check_path("write_records", path, "fnn.export.write_records(path, examples)")
    if isinstance(examples, Mapping):
        fix = "fnn.export.write_records(path, [example])"
        raise InputError("write_records", "examples, each a dict", "one dict", fix)
    count = 0
    with whole(path) as new, open(new, "wb") as file:
        for example in examples:
            if not isinstance(example, Mapping):
                fix = 'fnn.export.write_records(path, [{"x": example} for example in examples])'
                if count:
                    fix = "fnn.export.write_records(path, [one for one in examples if isinstance(one, dict)])"
                raise InputError("write_records", "examples, each a dict", shown(example, count), fix)
            message = record_message()()
            for name in example:
                check_name(name, count)
            for name, value in sorted(example.items()):
                kind, flat = feature_of(name, value, count)
                entry = message.features.feature.add(key=name)
                feature = getattr(entry.value, kind)
                feature.SetInParent()  # an empty list has its kind, too
                feature.value.extend(flat)
            file.write(framed(message.SerializeToString()))
            count += 1
    return count


def read_records(path: str | os.PathLike[str], compression: Compression = None) -> Iterator[dict[str, Any]]:
    """Read the records of a TFRecord file: `tf.train.Example` and `tf.train.SequenceExample`.

    Every record's checksums are checked.

    Args:
        path: the file.
        compression: "gzip" or "zlib", where the file is compressed as a whole, or None.

    Returns:
        an iterator over dicts of lists by name: arrays of one axis, float32 or int64; lists of bytes as
            Python's.
        A list of features, which only a SequenceExample has, is a list with one such entry for each step,
            beside
        the features of its context.

    Raises:
        InputError: at the first record that is damaged or cut off, is another message, or has one name in its
            context and in its steps; and for a file that is compressed in another way.

    >>> import fnn.export, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fnn.export.write_records(f"{folder}/x.tfrecord", [{"label": [1, 2]}])
    ...     [example["label"].tolist() for example in fnn.export.read_records(f"{folder}/x.tfrecord")]
    [[1, 2]]
    """
    check_path("read_records", path, "fnn.export.read_records(path)")
    found = compression_of(path)  # where there is no file, Python's own error says so, now
    if compression not in (None, *get_args(get_args(Compression)[0])):
        fix = reading(found)
        raise InputError("read_records", 'compression "gzip", "zlib" or None', repr(compression), fix)
    return _examples(path, compression)


def _examples(path: str | os.PathLike[str], compression: Compression) -> Iterator[dict[str, Any]]:
    from google.protobuf.message import DecodeError
    from google.protobuf.unknown_fields import UnknownFieldSet

    for count, data in enumerate(records(path, compression)):
        try:
            message, got = record_message().FromString(data), "other fields"
        except DecodeError as error:
            message, got = None, str(error)
        if message is None or any(map(len, map(UnknownFieldSet, (message, message.features)))):
            raise _other(
                path, compression, count, "a tf.train.Example or SequenceExample", f"another message ({got})"
            )
        context = {entry.key: listed(entry.value) for entry in message.features.feature}
        steps = {
            entry.key: [listed(step) for step in entry.value.feature] for entry in message.sequences.sequence
        }
        if context.keys() & steps.keys():
            both = ", ".join(sorted(context.keys() & steps.keys()))
            raise _other(path, compression, count, "a name in its context or in its steps", f"{both} in both")
        yield context | steps


def _other(
    path: str | os.PathLike[str], compression: Compression, count: int, expected: str, got: str
) -> InputError:
    wanted = f"record {count} in {os.fspath(path)} to be {expected}"
    return InputError("read_records", wanted, got, reading(compression, count))
