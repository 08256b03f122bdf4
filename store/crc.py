"""The crc32c of a whole from those of its parts, so that no byte is summed twice.

crc(AB) = shift(crc(A), len(B)) xor crc(B), where to shift by n bytes is to multiply by x^8n modulo
the polynomial: a linear map on 32 bits, whose squares give every n. (zlib's `crc32_combine`.)
"""

import functools
from collections.abc import Sequence

import numpy as np

_POLYNOMIAL = np.uint32(0x82F63B78)  # of crc32c, reflected


def combine(crcs: Sequence[int], sizes: Sequence[int]) -> int:
    """The crc32c of parts one after another: theirs, and how many bytes each has."""
    if not len(crcs):
        return 0
    ends = np.cumsum(np.array(sizes, np.int64))
    shifted, after = np.array(crcs, np.uint32), ends[-1] - ends
    for power in range(int(after[0]).bit_length()):
        far = np.flatnonzero(after >> power & 1)
        shifted[far] = _apply(_shift(power), shifted[far])
    return int(np.bitwise_xor.reduce(shifted))


@functools.cache
def _shift(power: int) -> np.ndarray:
    """Shifting by 2^power bytes: what becomes of each of the 256 values of each of the 4 bytes."""
    if power:
        half = _shift(power - 1)
        return _apply(half, half)
    places = np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    table = np.arange(256, dtype=np.uint32) << places
    for _ in range(8):
        table = table >> np.uint32(1) ^ (table & np.uint32(1)) * _POLYNOMIAL
    return table


def _apply(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    parts = [table[i][values >> np.uint32(8 * i) & np.uint32(255)] for i in range(4)]
    return parts[0] ^ parts[1] ^ parts[2] ^ parts[3]
