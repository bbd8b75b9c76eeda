"""Records of bytes: every cut, every false length and every compression is told, and nothing else is read."""

import gzip
import zlib
from typing import Any

import numpy as np
import pytest

import fnn
import fnn.export as export
from fnn.export.framing import framed, records

pytest.importorskip("google.protobuf")
EXAMPLES = [{"x": np.arange(3) + i} for i in range(3)]


@pytest.fixture
def path(tmp_path):
    export.write_records(tmp_path / "data.tfrecord", EXAMPLES)
    return tmp_path / "data.tfrecord"


def read(path, compression=None):
    return [example["x"].tolist() for example in export.read_records(path, compression)]


def test_the_reference_reads_what_is_written_and_writes_what_is_read(tmp_path, path):
    reference = pytest.importorskip("tfrecords")
    data = [b"", b"a", np.random.default_rng(0).bytes(5_000)]
    writer = reference.TFRecordWriter(str(tmp_path / "theirs"))
    for record in data:
        writer.write(record)
    writer.close()
    (tmp_path / "ours").write_bytes(b"".join(map(framed, data)))
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert list(records(tmp_path / "theirs", None)) == data
    assert len(list(reference.tf_record_iterator(str(path)))) == 3


def test_every_cut_is_told(path):
    whole = path.read_bytes()
    ends = len(whole) // 3 * np.arange(4)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length in ends:
            assert len(read(path)) == length // ends[1]
            continue
        with pytest.raises(
            fnn.InputError, match=f"a whole record {length // ends[1]} in .*the file ends in its"
        ):
            read(path)


@pytest.mark.parametrize("length", range(1, 12))
def test_garbage_shorter_than_a_header_is_told(length, path):
    for garbage in (bytes(length), b"\xff" * length, b"no such thing"[:length]):
        path.write_bytes(garbage)
        with pytest.raises(fnn.InputError, match=f"after {length} bytes of 12"):
            read(path)


@pytest.mark.parametrize("length", [2**24, 2**40, 2**63, 2**64 - 1])
def test_a_false_length_with_a_right_checksum_is_told(length, path):
    header = framed(length.to_bytes(8, "little"))[12:]  # data and checksum of a record that is a length
    path.write_bytes(path.read_bytes() + header + b"four")
    found = export.read_records(path)
    assert len([next(found) for _ in range(3)]) == 3
    with pytest.raises(
        fnn.InputError, match=f"record 3 .*after 4 bytes of {length + 4}: try `itertools.islice"
    ):
        next(found)


@pytest.mark.parametrize(("compression", "pack"), [("gzip", gzip.compress), ("zlib", zlib.compress)])
def test_compressed_files(compression, pack, path):
    plain = path.read_bytes()
    expected, other = read(path), {"gzip": "zlib", "zlib": "gzip"}[compression]
    for data in (plain, b"", framed(np.random.default_rng(0).bytes(100_000)) * 3):
        packed = pack(data)
        path.write_bytes(packed)
        assert b"".join(map(framed, records(path, compression))) == data
        tries: Any = (None, other)
        for told in tries:
            with pytest.raises(
                fnn.InputError, match=f'compressed by {compression}: .*compression="{compression}"'
            ):
                list(records(path, told))
    for spoiled in (packed[:-1], packed[:500], packed[:1000] + bytes(9) + packed[1009:], packed + b"more"):
        path.write_bytes(spoiled)
        with pytest.raises(fnn.InputError, match="a damaged one: "):
            list(records(path, compression))
    path.write_bytes(plain)
    with pytest.raises(fnn.InputError, match=r"not compressed: try `fnn.export.read_records\(path\)`"):
        read(path, compression)
    assert read(path) == expected


def test_gzip_files_of_several_members_are_one(path):
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(whole[:50]) + gzip.compress(whole[50:]))
    assert len(read(path, "gzip")) == 3


def test_wrong_arguments_are_told_at_once(path):
    compression: Any = "GZIP"
    examples: Any = EXAMPLES
    with pytest.raises(fnn.InputError, match='expected compression "gzip", "zlib" or None, got \'GZIP\''):
        export.read_records(path, compression)
    with pytest.raises(fnn.InputError, match="expected a path"):
        export.read_records(examples)
    with pytest.raises(FileNotFoundError):
        export.read_records(path.parent / "nowhere")
