"""TFRecord files as records of bytes: a length, its checksum, the data, their checksum."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from fnn.errors import InputError
from fnn.export.crc32c import crc32c, masked

Compression = Literal["gzip", "zlib"] | None

_PIECE = 1 << 24  # bytes asked of a file at once: a length that lies must not reserve memory


def framed(data: bytes) -> bytes:
    """Return a record's data with the sixteen bytes of framing around them."""
    length = len(data).to_bytes(8, "little")
    return length + _checksum(length) + data + _checksum(data)


def records(path: str | os.PathLike[str], compression: Compression) -> Iterator[bytes]:
    """Read the data of each record, and check its checksums.

    Args:
        path: a TFRecord file.
        compression: "gzip", "zlib" or None, by which the whole file is compressed.

    Raises:
        InputError: at the first record that is damaged or cut off, and for a file that is compressed in
            another way.
    """
    count = 0
    with open(path, "rb") as file, _unpacked(file, compression) as unpacked:
        while True:
            try:
                data = _record(unpacked)
            except (_Damage, EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise _refused(path, compression, count, str(error)) from error
            if data is None:
                return
            yield data
            count += 1


class _Damage(Exception):
    pass


def _record(file: Any) -> bytes | None:
    """Read the data of the next record; None where the file ends before it."""
    header = _read(file, 12)
    if not header:
        return None
    if len(header) < 12:
        raise _Damage(f"the file ends in its header, after {len(header)} bytes of 12")
    if _checksum(header[:8]) != header[8:]:
        raise _Damage("the checksum of its length is wrong")
    length = int.from_bytes(header[:8], "little")
    data = _read(file, length)
    checksum = _read(file, 4)
    if len(data) < length or len(checksum) < 4:
        got = len(data) + len(checksum)
        raise _Damage(f"the file ends in its data, after {got} bytes of {length + 4}")
    if _checksum(data) != checksum:
        raise _Damage("the checksum of its data is wrong")
    return data


def _read(file: Any, length: int) -> bytes:
    """Read `length` bytes, or as many as there are."""
    pieces = []
    while length and (piece := file.read(min(length, _PIECE))):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _checksum(data: bytes) -> bytes:
    return masked(crc32c(data)).to_bytes(4, "little")


@contextmanager
def _unpacked(file: Any, compression: Compression) -> Iterator[Any]:
    if compression == "gzip":
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked
    elif compression == "zlib":
        yield io.BufferedReader(_Inflated(file))
    else:
        yield file


class _Inflated(io.RawIOBase):
    """What a zlib stream unpacks to. EOFError where it is cut off, zlib.error where it is damaged."""

    def __init__(self, file: Any) -> None:
        self._file, self._zlib = file, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data and not self._zlib.eof:
            packed = self._zlib.unconsumed_tail or self._file.read(1 << 16)
            if not packed:
                raise EOFError("the file ends in its zlib stream")
            data = self._zlib.decompress(packed, len(buffer))
        if not data and (self._zlib.unused_data or self._file.read(1)):
            raise zlib.error("there are bytes behind the zlib stream")
        buffer[: len(data)] = data
        return len(data)


def _refused(path: str | os.PathLike[str], compression: Compression, count: int, damage: str) -> InputError:
    """Say what is wrong with record `count`, or that the file is compressed in another way."""
    found = compression_of(path)
    if count == 0 and found != compression:
        got = "a file that is not compressed" if found is None else f"a file compressed by {found}"
        wanted = (
            "a file that is not compressed" if compression is None else f"one compressed by {compression}"
        )
        return InputError("read_records", f"{os.fspath(path)} to be {wanted}", got, reading(found))
    wanted = f"a whole record {count} in {os.fspath(path)}"
    return InputError("read_records", wanted, f"a damaged one: {damage}", reading(compression, count))


def reading(compression: Compression, count: int | None = None) -> str:
    """Return the call that reads a file, for an error message.

    Args:
        compression: the file's.
        count: how many records are read, where it is less than all; for none of them, how to write others.
    """
    if count == 0:
        return "fnn.export.write_records(path, examples)"
    told = f', compression="{compression}"' if compression else ""
    call = f"fnn.export.read_records(path{told})"
    return call if count is None else f"itertools.islice({call}, {count})"


def compression_of(path: str | os.PathLike[str]) -> Compression:
    """Tell a file's compression by its first two bytes (RFC 1952, 2.3.1; RFC 1950, 2.2), if it unpacks."""
    with open(path, "rb") as file:
        start = file.read(4096)
    try:
        zlib.decompressobj(wbits=47).decompress(start, 1)  # 47: either of the two
    except zlib.error:
        return None
    if len(start) < 2:
        return None
    return "gzip" if start[:2] == b"\x1f\x8b" else "zlib"
