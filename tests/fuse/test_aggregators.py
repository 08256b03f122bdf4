"""The contract of every aggregator, from the registry."""

import pytest
import torch

from mmf.fuse.aggregators import AGGREGATORS


def build(name: str) -> torch.nn.Module:
    kind = AGGREGATORS.load(name)
    torch.manual_seed(0)
    return kind(4, kind.Options()).eval()


@pytest.mark.parametrize("name", AGGREGATORS)
def test_padding_does_not_change_an_aggregate(name):
    aggregator = build(name)
    x, mask = torch.randn(3, 5, 4), torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    wide = torch.cat([x, torch.full((3, 6, 4), 7.0)], 1)
    more = torch.cat([mask, torch.zeros(3, 6, dtype=torch.bool)], 1)
    assert torch.allclose(aggregator(wide, more), aggregator(x, mask), atol=1e-6)
    alone = aggregator(x[1:2, :3], mask[1:2, :3])
    assert torch.allclose(aggregator(x, mask)[1:2], alone, atol=1e-6)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_an_aggregate_of_no_steps_is_zero(name):
    aggregator = build(name)
    nothing = aggregator(torch.randn(2, 5, 4), torch.zeros(2, 5, dtype=torch.bool))
    assert torch.equal(nothing, torch.zeros(2, aggregator.out_size))


@pytest.mark.parametrize("name", AGGREGATORS)
def test_permuting_the_items_permutes_the_aggregates(name):
    aggregator = build(name)
    x, mask = torch.randn(6, 5, 4), torch.rand(6, 5) < 0.7
    order = torch.randperm(6)
    assert torch.allclose(aggregator(x[order], mask[order]), aggregator(x, mask)[order], atol=1e-6)


def test_the_mean_is_over_the_steps_that_are_there():
    x = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[True, True, False]])
    kind = AGGREGATORS.load("mean")
    assert kind(1, kind.Options())(x, mask).item() == 2
