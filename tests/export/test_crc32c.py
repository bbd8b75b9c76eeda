"""Checksums are those of the standard, at every length and in both ways of computing them."""

import numpy as np
import pytest

from fnn.export import crc32c as checksums


def test_checksums_of_the_standard():
    # RFC 3720, B.4, and the check value of the catalogue of parametrised CRC algorithms
    for data, value in [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"", 0),
    ]:
        assert checksums.crc32c(data) == value


@pytest.mark.parametrize("length", [511, 512, 513, 515, 1023, 1024, 4097, 70_001])
def test_lanes_and_single_bytes_agree(length):
    data = np.random.default_rng(length).bytes(length)
    assert checksums.crc32c(data) == checksums._byte_by_byte(data)
    assert checksums.crc32c(bytes(length)) == checksums._byte_by_byte(bytes(length))
