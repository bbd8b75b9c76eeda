"""CRC-32C (Castagnoli), the checksum of TFRecord files, over many bytes at once by numpy."""

from functools import cache

import numpy as np

Words = np.ndarray  # uint32

_POLYNOMIAL = 0x82F63B78  # x^32 is left out, and the bits are in reverse
_SHORT = 512  # below this, a byte after the other is faster


def crc32c(data: bytes) -> int:
    """Compute the CRC-32C of `data` (RFC 3720, B.4): 0xE3069283 for b"123456789".

    The bytes are laid out in lanes, and a step takes four bytes of every lane; then neighbours are joined
    until one is left. Zeros before the data change nothing, for the register starts at zero: the usual
    start with all bits set is the same as inverting the first four bytes.
    """
    if len(data) < _SHORT:
        return _byte_by_byte(data)
    words = 1 << min(7, (len(data) // 64).bit_length() // 2)  # of a lane: a power of two
    size = -(-len(data) // (4 * words)) * 4 * words
    padded = np.zeros(size, np.uint8)
    padded[size - len(data) :] = np.frombuffer(data, np.uint8)
    padded[size - len(data) :][:4] ^= 0xFF
    lanes = np.ascontiguousarray(padded.view("<u4").astype(np.uint32, copy=False).reshape(-1, words).T)
    crc = np.zeros(lanes.shape[1], np.uint32)
    for column in lanes:
        crc = _advance(crc ^ column, 2)
    power = words.bit_length() + 1
    while crc.size > 1:
        crc = np.concatenate([np.zeros(crc.size % 2, np.uint32), crc])
        crc = _advance(crc[::2], power) ^ crc[1::2]
        power += 1
    return int(crc[0]) ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """Mask a checksum that is stored beside the data it is of, as TFRecord files do."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _byte_by_byte(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> tuple[int, ...]:
    """Tabulate what a register that holds one byte becomes after eight steps."""
    found = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ _POLYNOMIAL * (crc & 1)
        found.append(crc)
    return tuple(found)


def _advance(crc: Words, power: int) -> Words:
    """Take registers over 2^power bytes of zeros."""
    low, high = _halves(power)
    return low[crc & 0xFFFF] ^ high[crc >> 16]


@cache
def _halves(power: int) -> tuple[Words, Words]:
    """Tabulate `_advance` of the low 16 bits and of the high ones: it is linear over exclusive or."""
    images = _images(power)
    halves = []
    for bits in (images[:16], images[16:]):
        table = np.zeros(1, np.uint32)
        for image in bits:
            table = np.concatenate([table, table ^ image])
        halves.append(table)
    return halves[0], halves[1]


@cache
def _images(power: int) -> Words:
    """Compute `_advance` of each bit."""
    if power == 0:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        return np.array(_table(), np.uint32)[bits & 0xFF] ^ bits >> 8
    return _advance(_images(power - 1), power - 1)
