"""Rows → segments: as planted, whatever the lengths, and padding counts nowhere."""

import pytest
import torch

from mmf.fuse.planted import Segments, SegmentsOptions
from mmf.fuse.policy.segments import means, row_counts, segmented


def rows(lengths: list[int], size: int = 2, cells: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Step t of item b holds (b, t), padded with zeros."""
    T = max(*lengths, 1) * cells
    mask = torch.arange(T) < torch.tensor(lengths)[:, None] * cells
    x = torch.stack(
        [torch.arange(len(lengths))[:, None].expand(-1, T), torch.arange(T).expand_as(mask)], 2
    )
    return (x * mask[..., None]).float(), mask


def by_hand(lengths: list[list[int]], S: int) -> list[list[list[list[int]]]]:
    """Of each feature, item and segment the numbers of its rows: a loop over rows."""
    items = range(len(lengths[0]))
    number = [min(S, max(of[i] for of in lengths)) for i in items]
    found = [[[[] for _ in range(S)] for _ in items] for _ in lengths]
    for m, of in enumerate(lengths):
        for i in items:
            for t in range(of[i]):
                found[m][i][t * number[i] // of[i]].append(t)
    return found


@pytest.mark.parametrize("S", [1, 3, 10])
def test_every_row_is_in_the_segment_of_its_share_of_the_time(S):
    lengths = [[0, 1, 2, 3, 10, 11, 29, 0], [0, 0, 7, 3, 1, 11, 30, 4]]
    each = [rows(of) for of in lengths]
    cut = segmented([x for x, _ in each], [m for _, m in each], S, [1, 1])
    wanted = by_hand(lengths, S)
    for m in range(2):
        x, mask = cut.steps[m], cut.masks[m]
        found = [x[s, mask[s], 1].int().tolist() for s in range(len(x))]
        assert found == [segment for item in wanted[m] for segment in item]
        assert (x[~mask] == 0).all()
        numbers = torch.arange(8).repeat_interleave(S)[:, None].expand_as(mask)
        assert (x[..., 0][mask] == numbers[mask]).all()
    most = [max(a, b) for a, b in zip(*lengths, strict=True)]
    assert cut.valid.sum(1).tolist() == [min(S, n) for n in most]
    assert not (cut.valid[:, :-1] < cut.valid[:, 1:]).any()  # padding stands behind


def test_a_valid_segment_has_a_row_of_some_feature_and_a_padded_one_none():
    lengths = [[0, 1, 5, 3], [2, 0, 12, 9]]
    each = [rows(of) for of in lengths]
    cut = segmented([x for x, _ in each], [m for _, m in each], 4, [1, 1])
    assert torch.equal(cut.there(0) | cut.there(1), cut.valid)


def test_the_cells_of_a_row_stay_together():
    x, mask = rows([3, 5], cells=4)
    cut = segmented([x], [mask], 2, [4])
    steps = [x_[m, 1].int().tolist() for x_, m in zip(cut.steps[0], cut.masks[0], strict=True)]
    assert steps == [[*range(8)], [*range(8, 12)], [*range(12)], [*range(12, 20)]]
    assert row_counts(mask, 4).tolist() == [3, 5]


def test_more_padding_changes_nothing():
    x, mask = rows([3, 7])
    longer = torch.cat([x, torch.full((2, 30, 2), 9.0)], 1), torch.nn.functional.pad(mask, (0, 30))
    short, long = segmented([x], [mask], 3, [1]), segmented([longer[0]], [longer[1]], 3, [1])
    assert torch.equal(short.valid, long.valid)
    assert torch.equal(means(short.steps[0], short.masks[0]), means(long.steps[0], long.masks[0]))


def test_segments_are_those_that_the_synthetic_labels_are_planted_in():
    import numpy as np

    structure = Segments(np.random.default_rng(0), 2, 3, SegmentsOptions(segments=10))
    for steps in (10, 37, 60):
        truth = structure.plant(np.random.default_rng(1), steps).truth["segment"]
        x, mask = rows([steps])
        cut = segmented([x], [mask], 10, [1])
        for s in range(10):
            assert (
                cut.steps[0][s, cut.masks[0][s], 1].int().tolist()
                == np.flatnonzero(truth == s).tolist()
            )
