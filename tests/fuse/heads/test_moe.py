"""The mixture of experts against its formula; the contract of heads is in test_contracts.py."""

import pytest
import torch

from mmf import MmfError
from mmf.fuse.heads.moe import MixtureOfExperts, MixtureOfExpertsOptions
from mmf.fuse.losses import binary_cross_entropy


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


@pytest.mark.parametrize("dummy", [True, False])
def test_the_loss_of_moe_is_that_of_its_probabilities(dummy):
    """From logits by logsumexp, against products and sums of probabilities in float64."""
    torch.manual_seed(0)
    head = MixtureOfExperts(7, 3, MixtureOfExpertsOptions(mixtures=3, dummy_expert=dummy)).double()
    x, labels = torch.randn(5, 7, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64)
    gates = (x @ head.gates.weight.T).reshape(5, 3, 3 + dummy).exp()
    gates = gates / gates.sum(2, keepdim=True)
    experts = 1 / (1 + (-(x @ head.experts.weight.T + head.experts.bias)).exp())
    p = (gates[..., :3] * experts.reshape(5, 3, 3)).sum(2)
    wanted = -(labels * p.log() + (1 - labels) * (1 - p).log()).sum() / 5
    found = binary_cross_entropy(head(x), labels, torch.ones(5, 3, dtype=torch.bool))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)


def test_moe_has_the_sources_number_of_parameters():
    head = MixtureOfExperts(1000, 3862, MixtureOfExpertsOptions())
    assert sum(p.numel() for p in head.parameters()) == 5 * 1000 * 3862 + 7724
