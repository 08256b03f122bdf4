"""Mean, max, attention and DBoF against their formulas, step by step in float64."""

import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse.aggregators.attention import Attention, AttentionOptions
from mmf.fuse.aggregators.dbof import DBoF, DBoFOptions
from mmf.fuse.aggregators.max import Max, MaxOptions
from mmf.fuse.aggregators.mean import Mean, MeanOptions


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"clusters": 0}, "0 clusters and 0 hidden units: expected at least 1"),
        ({"hidden": -1}, "-1 hidden units"),
        ({"activation": "rely"}, "unknown activation 'rely'. Did you mean 'relu'"),
        ({"pooling": "maximum"}, "unknown pooling 'maximum'"),
    ],
)
def test_bad_options_of_dbof_are_refused(options, match, no_shape_checks):
    with pytest.raises((MmfError, UnknownName), match=match):
        DBoFOptions(**options)


def test_attention_of_no_hidden_units_is_refused():
    with pytest.raises(MmfError, match="hidden = 0: expected at least 1"):
        AttentionOptions(hidden=0)


def batch(items: int = 5, steps: int = 6, size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(items, steps, size).double(), torch.rand(items, steps) < 0.7


def test_the_mean_is_over_the_steps_that_are_there():
    x = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert Mean(1, MeanOptions())(x, mask).item() == 2


def test_the_maximum_is_over_the_steps_that_are_there_even_below_zero():
    x = torch.tensor([[[-1.0], [-3.0], [100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert Max(1, MaxOptions())(x, mask).item() == -1


@pytest.mark.parametrize("gated", [False, True])
def test_attention_is_the_mean_weighted_by_the_softmax_of_the_queries_scores(gated):
    x, mask = batch()
    attention = Attention(4, AttentionOptions(hidden=3, gated=gated)).double()
    found, weights = attention(x, mask), attention.weights(x, mask)
    V, w = attention.project.weight, attention.query.weight[0]
    for i in range(len(x)):
        there = [t for t in range(6) if mask[i, t]]
        hidden = [torch.tanh(V @ x[i, t]) for t in there]
        if gated:
            U = attention.gate.weight
            hidden = [h / (1 + (-U @ x[i, t]).exp()) for h, t in zip(hidden, there, strict=True)]
        scores = torch.stack([(w @ h).exp() for h in hidden])
        wanted = sum(s * x[i, t] for s, t in zip(scores / scores.sum(), there, strict=True))
        assert torch.allclose(found[i], wanted, atol=1e-12)
        assert torch.allclose(weights[i, there], scores / scores.sum(), atol=1e-12)
        assert weights[i].sum().item() == pytest.approx(1)


def test_a_step_that_the_query_asks_for_takes_all_of_the_attention():
    attention = Attention(2, AttentionOptions(hidden=1))
    with torch.no_grad():
        attention.project.weight.copy_(torch.tensor([[5.0, 0.0]]))
        attention.query.weight.fill_(50)
    x = torch.tensor([[[-1.0, 3.0], [1.0, 4.0], [9.0, 9.0]]])
    found = attention(x, torch.tensor([[True, True, False]]))
    assert torch.allclose(found, torch.tensor([[1.0, 4.0]]), atol=1e-5)


def plain_norm(rows: list, norm) -> list:
    """Batch norm of rows by definition, with the population's variance."""
    table = torch.stack(rows)
    mean = table.sum(0) / len(rows)
    var = ((table - mean) ** 2).sum(0) / len(rows)
    scale, shift = norm.weight, norm.bias
    return [(row - mean) / (var + 1e-3).sqrt() * scale + shift for row in rows]


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_dbof_is_the_max_or_mean_of_the_normalised_words_of_each_step(pooling):
    x, mask = batch()
    mask[1] = False
    dbof = DBoF(4, DBoFOptions(clusters=3, pooling=pooling)).double().train()
    linear, norm = dbof.words
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.3, 0.5, -0.2]))
    found = dbof(x, mask)
    places = [(i, t) for i in range(5) for t in range(6) if mask[i, t]]
    rows = plain_norm([linear.weight @ x[i, t] for i, t in places], norm)
    for i in range(5):
        mine = [row.clamp_min(0) for row, (j, _) in zip(rows, places, strict=True) if j == i]
        if not mine:
            assert torch.equal(found[i], torch.zeros(3).double())
            continue
        several = torch.stack(mine)
        wanted = several.amax(0) if pooling == "max" else several.mean(0)
        assert torch.allclose(found[i], wanted, atol=1e-10)


def test_the_starter_codes_dbof_has_norms_before_and_behind_and_a_hidden_layer():
    x, mask = batch(items=4)
    mask[2] = False
    options = DBoFOptions(clusters=3, activation="sigmoid", input_norm=True, hidden=5)
    dbof = DBoF(4, options).double().train()
    found = dbof(x, mask)
    places = [(i, t) for i in range(4) for t in range(6) if mask[i, t]]
    rows = plain_norm([x[i, t] for i, t in places], dbof.input_norm)
    rows = plain_norm([dbof.words[0].weight @ row for row in rows], dbof.words[1])
    items = [i for i in range(4) if i != 2]
    pooled = [
        torch.stack([r for r, (j, _) in zip(rows, places, strict=True) if j == i]).sigmoid().amax(0)
        for i in items
    ]
    wanted = plain_norm([dbof.hidden[0].weight @ row for row in pooled], dbof.hidden[1])
    assert torch.allclose(found[items], torch.stack(wanted).sigmoid(), atol=1e-10)
    assert torch.equal(found[2], torch.zeros(5).double())


def test_the_words_start_as_the_source_has_them():
    torch.manual_seed(0)
    linear, _ = DBoF(400, DBoFOptions()).words
    assert linear.weight.shape == (2000, 400)
    assert linear.bias is None
    assert linear.weight.std().item() == pytest.approx(1 / 20, rel=0.01)
