"""The contract of every aggregator, from the registry."""

import copy
import itertools

import pytest
import torch

from mmf import UnknownName
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.config import build_options

MASKS = ("block_diagonal", "toeplitz", "toeplitz_dilated")
LOCAL = {"extent": 2, "heads": 2, "steps": 11}
SMALL = {
    "attention": [{"hidden": 5}, {"hidden": 5, "gated": True}],
    "dbof": [
        {"clusters": 6},
        {"clusters": 6, "pooling": "mean", "activation": "relu6"},
        {"clusters": 6, "activation": "sigmoid", "input_norm": True, "hidden": 5},
    ],
    "netvlad": [{"clusters": 3, "hidden": 5}, {"clusters": 3, "hidden": 0, "batch_norm": False}],
    "netrvlad": [{"clusters": 3, "hidden": 5}],
    "nextvlad": [
        {"clusters": 3, "groups": 2, "hidden": 5, "dropout": 0.0},
        {"clusters": 3, "groups": 4, "hidden": 0},
    ],
    "lstm": [{"hidden": 5}, {"hidden": 5, "layers": 1}],
    "gru": [{"hidden": 5}],
    "gmsa": [
        LOCAL | {"variant": "baseline", "feed_forward": 0},
        *(LOCAL | {"variant": v, "mask": m} for v, m in itertools.product(("gate_op",), MASKS)),
        LOCAL | {"variant": "share_att", "mask": "block_diagonal", "blocks": "number"},
        LOCAL | {"variant": "gate_att", "mask": "toeplitz", "width": "total"},
        LOCAL | {"variant": "gate_att", "mask": "toeplitz_dilated", "renormalise": True},
    ],
}
CASES = [(name, options) for name in AGGREGATORS for options in SMALL.get(name, [{}])]
every_aggregator = pytest.mark.parametrize(
    ("name", "options"),
    CASES,
    ids=lambda x: x if isinstance(x, str) else "-".join(map(str, x.values())),
)


def build(name: str, options: dict) -> torch.nn.Module:
    kind = AGGREGATORS.load(name)
    torch.manual_seed(0)
    return kind(4, build_options(kind.Options, options, name)).eval()


def batch(items: int = 6, steps: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Items with 1 to all of the steps, and the last with none."""
    torch.manual_seed(1)
    mask = torch.arange(steps) < (torch.arange(items) % steps + 1).unsqueeze(1)
    mask[-1] = False
    return torch.randn(items, steps, 4), mask


def padded(x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    filled = torch.where(mask.unsqueeze(2), x, torch.tensor(-3.0))
    more = torch.full((len(x), 6, x.shape[2]), 7.0)
    return torch.cat([filled, more], 1), torch.cat([mask, torch.zeros(len(x), 6).bool()], 1)


@every_aggregator
def test_an_unknown_option_of_an_aggregator_is_refused(name, options):
    with pytest.raises(UnknownName, match="unknown key"):
        build_options(AGGREGATORS.load(name).Options, {"clustres": 3}, "the options")


@every_aggregator
def test_an_aggregate_is_finite_and_of_its_size_and_the_same_again(name, options):
    aggregator, (x, mask) = build(name, options), batch()
    found = aggregator(x, mask)
    assert found.shape == (6, aggregator.out_size)
    assert found.isfinite().all()
    assert torch.equal(aggregator(x, mask), found)


@every_aggregator
def test_padding_does_not_change_an_aggregate(name, options):
    aggregator, (x, mask) = build(name, options), batch()
    found = aggregator(x, mask)
    assert torch.allclose(aggregator(*padded(x, mask)), found, atol=1e-5)
    alone = aggregator(x[2:3, :3], mask[2:3, :3])
    assert torch.allclose(found[2:3], alone, atol=1e-5)


@every_aggregator
def test_padding_does_not_change_what_an_aggregator_learns(name, options):
    """Statistics of batch norm, too, are of the steps that are there."""
    learned = []
    x, mask = batch()
    for given in ((x, mask), padded(x, mask)):
        aggregator = build(name, options).train()
        for module in aggregator.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        found = aggregator(*given)
        weights = torch.linspace(-1, 1, found.numel()).reshape(found.shape)
        if found.requires_grad:
            (found * weights).sum().backward()
        gradients = [p.grad for p in aggregator.parameters()]
        learned.append([found, *gradients, *(b.double() for b in aggregator.buffers())])
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*learned, strict=True))


@every_aggregator
def test_an_aggregate_of_no_steps_is_zero(name, options):
    aggregator, (x, mask) = build(name, options), batch()
    assert torch.equal(aggregator(x, mask)[-1], torch.zeros(aggregator.out_size))
    for mode in (True, False):
        nothing = aggregator.train(mode)(x, torch.zeros_like(mask))
        assert torch.equal(nothing, torch.zeros(6, aggregator.out_size))


@every_aggregator
def test_permuting_the_items_permutes_the_aggregates(name, options):
    aggregator, (x, mask) = build(name, options), batch()
    order = torch.randperm(6)
    assert torch.allclose(aggregator(x[order], mask[order]), aggregator(x, mask)[order], atol=1e-5)


@every_aggregator
def test_gradients_reach_every_parameter_and_the_steps_that_are_there(name, options):
    aggregator, (x, mask) = build(name, options).train(), batch()
    x.requires_grad = True
    found = aggregator(x, mask)
    (found * torch.randn_like(found)).sum().backward()
    for key, parameter in aggregator.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().sum() > 0, key
    assert x.grad.isfinite().all()
    assert x.grad[~mask].abs().sum() == 0
    assert x.grad[0].abs().sum() + x.grad[1].abs().sum() > 0


@every_aggregator
def test_a_single_step_can_be_learned_from(name, options):
    aggregator = build(name, options).train()
    before = copy.deepcopy(aggregator)
    found = aggregator(torch.randn(1, 1, 4), torch.ones(1, 1, dtype=torch.bool))
    assert found.isfinite().all()
    if found.requires_grad:
        found.sum().backward()
    assert all(p.grad.isfinite().all() for p in aggregator.parameters())
    for one, was in zip(aggregator.buffers(), before.buffers(), strict=True):
        assert torch.equal(one, was)  # one row has no statistics


@every_aggregator
def test_an_aggregate_in_float64_agrees_and_stays_float64(name, options):
    aggregator, (x, mask) = build(name, options), batch()
    wanted = aggregator(x, mask)
    found = aggregator.double()(x.double(), mask)
    assert found.dtype == torch.float64
    assert torch.allclose(found.float(), wanted, atol=1e-4)


@every_aggregator
def test_an_aggregate_is_finite_and_near_in_bfloat16(name, options):
    aggregator, (x, mask) = build(name, options), batch()
    wanted = aggregator(x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        found = aggregator(x, mask).float()
    assert (found - wanted).norm() < 0.1 * wanted.norm()


@pytest.mark.parametrize("name", [n for n in AGGREGATORS if n not in ("lstm", "gru")])
def test_an_aggregator_can_be_exported_as_a_graph(name):
    """Not those that read a packed sequence."""
    aggregator, (x, mask) = build(name, SMALL.get(name, [{}])[0]), batch()
    graph = torch.export.export(aggregator, (x, mask), strict=False).module()
    other = mask.roll(1, 0)
    assert torch.allclose(graph(x, other), aggregator(x, other), atol=1e-5)
