"""Fusions of logits against loops in float64, and what a missing feature makes of them."""

import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse.config import build_options
from mmf.fuse.fusions.late import Late, LateOptions
from mmf.fuse.fusions.weighted import Weighted, WeightedOptions

FEATURES = ("rgb", "audio", "text")
PRESENT = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])


def logits(classes: int = 4) -> torch.Tensor:
    torch.manual_seed(1)
    return 3 * torch.randn(3, 3, classes, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (WeightedOptions, {"weights": "each"}),
        (WeightedOptions, {"sum_to_one": 1}),
        (WeightedOptions, {"runs": "runs/rgb"}),
        (LateOptions, {"hidden": 0}),
        (LateOptions, {"dropout": 1.0}),
        (LateOptions, {"runs": [1]}),
    ],
)
def test_bad_options_are_refused(kind, options, no_shape_checks):
    with pytest.raises(MmfError):
        build_options(kind, options, "it")


def test_an_unknown_kind_of_weights_suggests_the_nearest(no_shape_checks):
    with pytest.raises(UnknownName, match="Did you mean 'class'"):
        WeightedOptions(weights="clas")


@pytest.mark.parametrize("renormalise", [True, False])
@pytest.mark.parametrize("weights", ["scalar", "class"])
@pytest.mark.parametrize("sum_to_one", [True, False])
def test_the_weighted_sum_is_that_of_what_is_there(weights, sum_to_one, renormalise):
    options = WeightedOptions(weights=weights, sum_to_one=sum_to_one, renormalise=renormalise)
    fusion = Weighted(FEATURES, 4, options).double()
    torch.nn.init.normal_(fusion.weights)
    learned = fusion.weights.tolist()
    found, given = fusion(logits(), PRESENT), logits()
    for i in range(3):
        for c in range(4):
            each = [learned[m * 4 + c] if weights == "class" else learned[m] for m in range(2)]
            last = learned[8 + c if weights == "class" else 2] if not sum_to_one else 1 - sum(each)
            there = [m for m in range(3) if PRESENT[i, m]]
            total = sum([*each, last][m] * given[i, m, c].item() for m in there)
            total *= 3 / len(there) if renormalise else 1
            assert found[i, c].item() == pytest.approx(total, rel=1e-9)


def test_the_weighted_sum_begins_as_the_mean_of_what_is_there():
    """AdaMML's form begins as the mean over all features, those that are missing as 0."""
    given = logits()
    kept = given * PRESENT.unsqueeze(2)
    for weights in ("scalar", "class"):
        fusion = Weighted(FEATURES, 4, WeightedOptions(weights=weights)).double()
        assert torch.allclose(fusion(given, PRESENT), kept.sum(1) / PRESENT.sum(1, keepdim=True))
    options = WeightedOptions(sum_to_one=True, renormalise=False)
    assert torch.allclose(Weighted(FEATURES, 4, options).double()(given, PRESENT), kept.mean(1))


def test_the_weights_are_vectors_which_do_not_decay():
    for weights, number in (("scalar", 3), ("class", 12)):
        fusion = Weighted(FEATURES, 4, WeightedOptions(weights=weights))
        assert [tuple(p.shape) for p in fusion.parameters()] == [(number,)]


def test_late_fusion_is_an_mlp_on_normalised_logits():
    fusion, given = Late(FEATURES, 4, LateOptions(hidden=5)).double().eval(), logits()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    parts = []
    for m, (norm, instead) in enumerate(zip(fusion.norms, fusion.missing, strict=True)):
        x = given[:, m]
        centred = x - x.mean(1, keepdim=True)
        x = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        parts.append(torch.where(PRESENT[:, m : m + 1], x * norm.weight + norm.bias, instead))
    first, last = fusion.mlp[0], fusion.mlp[3]
    hidden = (torch.cat(parts, 1) @ first.weight.T + first.bias).clamp_min(0)
    wanted = hidden @ last.weight.T + last.bias
    assert torch.allclose(fusion(given, PRESENT), wanted, atol=1e-12)


def test_late_fusion_does_not_depend_on_the_scale_of_a_features_logits():
    fusion = Late(FEATURES, 4, LateOptions(hidden=5)).double().eval()
    scales = torch.tensor([1.0, 1e3, 1e6], dtype=torch.float64)[:, None]
    everything = torch.ones_like(PRESENT)
    assert torch.allclose(
        fusion(1e3 * logits() * scales, everything), fusion(1e3 * logits(), everything), atol=1e-6
    )


@pytest.mark.parametrize("classes", [1, 2])
def test_late_fusion_of_one_or_two_classes_keeps_how_sure_a_feature_is(classes):
    fusion = Late(FEATURES, classes, LateOptions(hidden=5)).double().eval()
    everything = torch.ones_like(PRESENT)
    given = logits(classes)
    assert not torch.allclose(fusion(2 * given, everything), fusion(given, everything), atol=1e-3)
