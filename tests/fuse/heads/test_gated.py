"""Context gating against its formula, in float64."""

import pytest
import torch

from mmf import MmfError
from mmf.fuse.config import build_options
from mmf.fuse.heads.gated import ContextGating, Gated, GatedOptions
from mmf.fuse.heads.logistic import Logistic, LogisticOptions


def build(**options) -> Gated:
    torch.manual_seed(0)
    its = {"head": "logistic", "batch_norm": False} | options
    return Gated(7, 4, GatedOptions(**its)).double().eval()


def gates(gating: ContextGating, x: torch.Tensor) -> torch.Tensor:
    """By a loop over the gates."""
    weight, bias = gating.linear.weight, gating.linear.bias
    columns = []
    for c in range(len(weight)):
        terms = [weight[c, d] * x[:, d] for d in range(x.shape[1])]
        columns.append(sum(t for d, t in enumerate(terms) if not (gating.remove_diag and d == c)))
    logits = torch.stack(columns, 1) + bias
    return 1 / (1 + (-logits).exp())


@pytest.mark.parametrize(
    "options",
    [
        {"gates": "all"},
        {"read_from": "logits"},
        {"head": "gated"},
        {"head": "sequence"},
        {"head": "logisic"},
        {"batch_norm": 1},
    ],
)
def test_bad_options_are_refused(options, no_shape_checks):
    with pytest.raises(MmfError):
        build_options(GatedOptions, options, "gated")


@pytest.mark.parametrize("remove_diag", [True, False])
@pytest.mark.parametrize(
    ("place", "source"), [("input", "input"), ("output", "probabilities"), ("both", "input")]
)
def test_probabilities_are_those_of_the_formula(place, source, remove_diag):
    head = build(gates=place, read_from=source, remove_diag=remove_diag)
    x = torch.randn(5, 7, dtype=torch.float64)
    inner = x * gates(head.before, x) if place != "output" else x
    p = head.head(inner).sigmoid()
    if place != "input":
        p = p * gates(head.behind, inner if source == "input" else p)
    assert torch.allclose(head(x).sigmoid(), p, atol=1e-12)


def test_gated_logits_are_exact_where_the_probability_rounds_to_0_or_1():
    head = build(gates="output")
    torch.nn.init.zeros_(head.behind.linear.weight)
    torch.nn.init.zeros_(head.behind.linear.bias)  # every gate is 1/2
    torch.nn.init.zeros_(head.head.linear.weight)
    for logit in (800.0, -800.0):
        torch.nn.init.constant_(head.head.linear.bias, logit)
        found = head(torch.zeros(1, 7, dtype=torch.float64))
        wanted = 0.0 if logit > 0 else -800 - torch.tensor(2.0).log().item()  # p' = 1/2 and p/2
        assert torch.allclose(found, torch.full_like(found, wanted), atol=1e-6)


def test_with_batch_norm_the_gates_have_no_bias_of_their_own():
    gating = ContextGating(4, 4, batch_norm=True, remove_diag=False)
    assert gating.linear.bias is None
    x = 100 * torch.randn(64, 4) + 7
    logits = gating.train()(x)
    assert torch.allclose(logits.mean(0), torch.zeros(4), atol=1e-4)
    assert torch.allclose(logits.std(0), torch.ones(4), atol=2e-2)


def test_weights_start_with_a_deviation_of_one_over_the_root_of_the_size():
    torch.manual_seed(0)
    weight = ContextGating(400, 400, batch_norm=True, remove_diag=False).linear.weight
    assert weight.std().item() == pytest.approx(0.05, rel=0.02)


def test_the_head_within_is_built_from_its_own_options():
    assert isinstance(build().head, Logistic)
    moe = Gated(7, 4, GatedOptions(head_options={"mixtures": 3}))
    assert moe.head.experts.out_features == 12
    inputs = GatedOptions(head="logistic", read_from="input")
    assert Gated.weights_per_input(4, inputs) == 2 * Logistic.weights_per_input(
        4, LogisticOptions()
    )
