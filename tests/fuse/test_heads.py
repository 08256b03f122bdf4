"""The contract of every head, and the mixture of experts against its formula."""

import pytest
import torch

from mmf import MmfError
from mmf.fuse import HEADS
from mmf.fuse.heads import MixtureOfExperts, MixtureOfExpertsOptions
from mmf.fuse.losses import binary_cross_entropy


def build(name: str, size: int = 7, classes: int = 3) -> torch.nn.Module:
    kind = HEADS.load(name)
    return kind(size, classes, kind.Options())


@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_a_finite_logit_per_class(name):
    logits = build(name)(torch.randn(5, 7))
    assert logits.shape == (5, 3)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_says_what_one_more_input_costs(name):
    def count(size: int) -> int:
        return sum(p.numel() for p in build(name, size).parameters())

    kind = HEADS.load(name)
    assert count(8) - count(7) == kind.weights_per_input(3, kind.Options())


@pytest.mark.parametrize("name", HEADS)
def test_gradients_reach_every_parameter_of_a_head(name):
    head = build(name)
    head(torch.randn(5, 7)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_no_expert_is_refused():
    with pytest.raises(MmfError, match="mixtures = 0"):
        MixtureOfExpertsOptions(mixtures=0)


@pytest.mark.parametrize("dummy", [True, False])
def test_moe_is_the_gated_mean_of_its_experts(dummy):
    torch.manual_seed(0)
    head = MixtureOfExperts(7, 3, MixtureOfExpertsOptions(mixtures=2, dummy_expert=dummy))
    x = torch.randn(5, 7)
    gates = (x @ head.gates.weight.T).double().reshape(5, 3, 2 + dummy).softmax(2)
    experts = (x @ head.experts.weight.T + head.experts.bias).double().reshape(5, 3, 2).sigmoid()
    wanted = torch.einsum("bcj,bcj->bc", gates[..., :2], experts)
    assert torch.allclose(head(x).double().sigmoid(), wanted, atol=1e-6)
    assert head.gates.bias is None


def test_moe_starts_at_a_third_where_all_weights_are_zero():
    head = MixtureOfExperts(7, 3, MixtureOfExpertsOptions())
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.allclose(head(torch.randn(2, 7)).sigmoid(), torch.tensor(1 / 3))


def test_the_loss_of_a_sure_moe_is_exact_where_the_probability_rounds_to_one():
    head = MixtureOfExperts(1, 1, MixtureOfExpertsOptions(mixtures=1, dummy_expert=False))
    torch.nn.init.zeros_(head.gates.weight)
    torch.nn.init.constant_(head.experts.weight, 50.0)
    torch.nn.init.zeros_(head.experts.bias)
    logits = head(torch.ones(1, 1))
    assert logits.sigmoid().item() == 1.0
    wrong = binary_cross_entropy(logits, torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert wrong.item() == pytest.approx(50.0)


def test_moe_has_the_sources_number_of_parameters():
    head = MixtureOfExperts(1000, 3862, MixtureOfExpertsOptions())
    assert sum(p.numel() for p in head.parameters()) == 5 * 1000 * 3862 + 7724
