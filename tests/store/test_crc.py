"""The crc32c of a whole is that of its bytes, however they are parted."""

import google_crc32c
import numpy as np
import pytest

from mmf.store.crc import combine


@pytest.mark.parametrize("sizes", [[], [0], [5], [0, 0, 3], [1, 2, 3], [70_000, 0, 1, 1 << 20]])
def test_parts_give_the_sum_of_the_whole(sizes):
    rng = np.random.default_rng(0)
    parts = [rng.bytes(n) for n in sizes]
    whole = google_crc32c.value(b"".join(parts))
    assert combine([google_crc32c.value(p) for p in parts], sizes) == whole


def test_parts_in_another_order_are_another_whole():
    sums = [google_crc32c.value(p) for p in (b"ab", b"cd")]
    assert combine(sums, [2, 2]) != combine(sums[::-1], [2, 2])
