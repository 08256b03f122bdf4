"""Rows on their way through batches; a GPU has one under way while the next is gathered."""

import numpy as np
import pytest

from mmf.extract.backbones import Backbone
from mmf.extract.backbones.contract import Setup
from mmf.extract.rows import RowBatch, Rows
from mmf.extract.signals import Waves


class Late(Backbone):
    """Reads its payloads only when the rows are asked for, as late as a GPU may."""

    modality, default_signal, row_shape = "audio", Waves(sample_rate=4, samples=2), (2,)

    def rows(self, payloads):
        return payloads * 10

    def begin(self, payloads):
        return lambda: self.rows(payloads).copy()


def late(in_flight: int) -> Late:
    made = Late(Setup(name="late", signal=Late.default_signal))
    made.batch, made.in_flight = 3, in_flight
    return made


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_every_row_comes_to_its_video_however_many_batches_are_under_way(in_flight):
    batch = RowBatch(late(in_flight))
    videos = [Rows() for _ in range(4)]
    for n in range(23):
        batch.add(videos[n % 4], np.array([n, -n], np.float32))
    there = sum(len(video.values) for video in videos)
    assert there == 3 * (7 - (in_flight - 1))
    batch.finish()
    for v, video in enumerate(videos):
        assert [list(row) for row in video.values] == [[n * 10, -n * 10] for n in range(v, 23, 4)]
    assert batch.spent.rows == 23


def test_a_batch_that_is_finished_takes_further_rows():
    batch, video = RowBatch(late(2)), Rows()
    batch.finish()
    for n in range(5):
        batch.add(video, np.array([n, n], np.float32))
        batch.finish()
    assert [row[0] for row in video.values] == [0, 10, 20, 30, 40]


def test_only_the_video_with_a_row_that_is_not_finite_is_marked():
    batch, good, bad = RowBatch(late(2)), Rows(), Rows()
    batch.add(good, np.array([1, 2], np.float32))
    batch.add(bad, np.array([1, np.nan], np.float32))
    batch.finish()
    assert good.finite
    assert not bad.finite
