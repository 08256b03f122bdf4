"""Fuse, then aggregate: which rows meet, and that they are fused where they meet."""

import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse.fusions.contract import Stream
from mmf.fuse.fusions.framewise import Framewise, FramewiseOptions, stretched
from mmf.fuse.fusions.mfb import MFB, MFBOptions

STREAMS = {"a": Stream(size=3, most=9), "b": Stream(size=2, most=9)}


def build(**options) -> Framewise:
    torch.manual_seed(0)
    its = {"fusion_options": {"outputs": 4, "factors": 2}} | options
    return Framewise(STREAMS, FramewiseOptions(**its), 3).eval()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fusion": "framewise"}, "fuses each step with a fusion of vectors; 'framewise'"),
        ({"fusion": "late"}, "'late' takes something else"),
        ({"fusion": "fc_conct"}, "Did you mean 'fc_concat'"),
        ({"aggregate": "men"}, "Did you mean 'mean'"),
    ],
)
def test_what_cannot_fuse_a_step_or_aggregate_steps_is_refused(options, sentence):
    with pytest.raises(MmfError) as caught:
        FramewiseOptions(**options)
    assert sentence in str(caught.value)


def test_unknown_options_of_its_parts_are_refused():
    with pytest.raises(UnknownName, match="fusion_options 'outptus'"):
        build(fusion_options={"outptus": 4})
    with pytest.raises(UnknownName, match="aggregate_options 'size'"):
        build(aggregate_options={"size": 4})


@pytest.mark.parametrize(
    ("rows", "total", "wanted"),
    [
        (4, 4, [0, 1, 2, 3]),
        (1, 4, [0, 0, 0, 0]),
        (2, 4, [0, 0, 1, 1]),
        (3, 4, [0, 1, 1, 2]),
        (2, 5, [0, 0, 1, 1, 1]),
        (299, 300, None),
        (49, 49 * 49, None),
    ],
)
def test_each_step_takes_the_row_in_the_middle_of_its_share(rows, total, wanted):
    x = torch.arange(rows + 2.0)[None, :, None]
    mask = torch.arange(rows + 2)[None] < rows
    found = stretched(x, mask, torch.tensor([total]), total)[0, :, 0].int().tolist()
    assert found == [int((t + 0.5) * rows / total) for t in range(total)]
    assert wanted is None or found == wanted


def test_rows_that_are_there_are_found_wherever_they_stand():
    x = torch.arange(6.0)[None, :, None]
    mask = torch.tensor([[False, True, False, True, True, False]])
    found = stretched(x, mask, torch.tensor([3]), 4)
    assert found[0, :3, 0].tolist() == [1, 3, 4]


def test_features_on_one_grid_are_fused_row_by_row_and_averaged():
    fusion = build()
    a, b = torch.randn(2, 5, 3), torch.randn(2, 5, 2)
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    single = MFB({"a": 3, "b": 2}, MFBOptions(outputs=4, factors=2), 3).eval()
    single.load_state_dict(fusion.fusion.state_dict())
    both = torch.ones(1, 2, dtype=torch.bool)
    for item, steps in enumerate([5, 2]):
        rows = [single([a[item, t : t + 1], b[item, t : t + 1]], both) for t in range(steps)]
        found = fusion([a, b], [mask, mask])[item]
        assert torch.allclose(found, torch.cat(rows).mean(0), atol=1e-6)


def test_a_feature_that_an_item_lacks_is_missing_at_every_step():
    fusion = build()
    a, mask = torch.randn(1, 4, 3), torch.ones(1, 4, dtype=torch.bool)
    none = torch.zeros(1, 4, dtype=torch.bool)
    alone = torch.tensor([[True, False]]).expand(4, -1)
    wanted = fusion.fusion([a[0], torch.zeros(4, 2)], alone).mean(0)
    assert torch.allclose(fusion([a, torch.zeros(1, 4, 2)], [mask, none])[0], wanted, atol=1e-6)


def test_fusing_frames_sees_what_fusing_means_cannot():
    """Both features' means are 0, and every step has a sign that only their product shows."""
    fusion = build(fusion_options={"outputs": 64, "factors": 1, "power": "none"})
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])[None, :, None]
    a, b = signs.expand(-1, -1, 3), signs.expand(-1, -1, 2)
    mask = [torch.ones(1, 4, dtype=torch.bool)] * 2
    same, opposite = fusion([a, b], mask), fusion([a, -b], mask)
    assert torch.allclose(same, -opposite, atol=1e-6)
    assert same.norm() > 0.9
