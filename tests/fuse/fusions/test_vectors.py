"""single, concat, FC-concat and MFB against their formulas; their contract: test_contracts.py."""

import pytest
import torch

from mmf import MmfError
from mmf.fuse.config import build_options
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.fusions.fc_concat import FCConcat, FCConcatOptions
from mmf.fuse.fusions.mfb import MFB, MFBOptions
from mmf.fuse.fusions.products import normalised

SIZES = {"rgb": 5, "audio": 4, "text": 3}


def vectors(items: int = 7) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(items, size) for size in SIZES.values()]


def everything(items: int = 7) -> torch.Tensor:
    return torch.ones(items, 3, dtype=torch.bool)


def test_single_takes_one_feature_only():
    kind = FUSIONS.load("single")
    with pytest.raises(MmfError, match="takes one feature; got rgb, audio, text"):
        kind(SIZES, kind.Options(), 3)


@pytest.mark.parametrize("options", [{"match": "all"}, {"outputs": 0}, {"activation": "gelu"}])
def test_bad_options_of_fc_concat_are_refused(options, no_shape_checks):
    with pytest.raises(MmfError):
        build_options(FCConcatOptions, options, "fc_concat")


def test_concat_puts_vectors_side_by_side_and_a_learned_one_where_one_is_missing():
    kind = FUSIONS.load("concat")
    fusion, given, present = kind(SIZES, kind.Options(), 3), vectors(2), everything(2)
    torch.nn.init.normal_(fusion.missing[1])
    present[1, 1] = False
    found = fusion(given, present)
    assert torch.equal(found[0], torch.cat([x[0] for x in given]))
    assert torch.equal(found[1], torch.cat([given[0][1], fusion.missing[1], given[2][1]]))


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_fc_concat_is_a_linear_layer_of_each_feature_side_by_side(activation):
    fusion = FCConcat(SIZES, FCConcatOptions(factors=2, outputs=3, activation=activation), 3)
    parts = [
        torch.einsum("bd,ud->bu", x.double(), fc.weight.double()) + fc.bias
        for fc, x in zip(fusion.projections, vectors(), strict=True)
    ]
    wanted = torch.cat(parts, 1)
    wanted = wanted.clamp_min(0) if activation == "relu" else wanted
    assert torch.allclose(fusion(vectors(), everything()).double(), wanted, atol=1e-6)


def test_mfb_of_two_features_is_the_bilinear_form_of_the_paper():
    """f_i = l^T (sum_j U_ij V_ij^T) a, then ReLU and L2 (bias 0, dropout off)."""
    fusion = MFB({"l": 5, "a": 4}, MFBOptions(factors=3, outputs=6, l2_inputs=False), 1).eval()
    left, right = torch.randn(7, 5), torch.randn(7, 4)
    u, v = (p.weight.detach().double().reshape(6, 3, -1) for p in fusion.projections)
    bilinear = torch.einsum("ijd,ije->ide", u, v)
    pooled = torch.einsum("bd,ide,be->bi", left.double(), bilinear, right.double()).clamp_min(0)
    wanted = pooled / pooled.norm(dim=1, keepdim=True)
    there = torch.ones(7, 2, dtype=torch.bool)
    assert torch.allclose(fusion([left, right], there).double(), wanted, atol=1e-6)


def test_mfb_of_three_features_is_the_product_of_three_projections():
    fusion = MFB(SIZES, MFBOptions(factors=2, outputs=6), 3).eval()
    unit = [v / v.norm(dim=1, keepdim=True) for v in vectors()]
    weights = [p.weight.reshape(6, 2, -1) for p in fusion.projections]
    pooled = torch.einsum(
        "bd,be,bf,ijd,ije,ijf->bi", *unit, *weights
    ).relu()  # the biases start at 0
    wanted = pooled / pooled.norm(dim=1, keepdim=True).clamp_min(1e-12)
    assert torch.allclose(fusion(vectors(), everything()), wanted, atol=1e-5)


def test_mfb_does_not_depend_on_the_scale_of_its_inputs():
    fusion = MFB(SIZES, MFBOptions(factors=2, outputs=6), 3).eval()
    larger = fusion([1e3 * v for v in vectors()], everything())
    assert torch.allclose(larger, fusion(vectors(), everything()), atol=1e-5)


@pytest.mark.parametrize("power", ["relu", "signed_sqrt", "none"])
def test_an_mfb_row_of_zeros_stays_zero_with_a_finite_gradient(power):
    fusion = MFB({"l": 5, "a": 4}, MFBOptions(factors=3, outputs=6, power=power), 1).eval()
    left = torch.zeros(2, 5, requires_grad=True)
    fused = fusion([left, torch.randn(2, 4)], torch.ones(2, 2, dtype=torch.bool))
    assert torch.equal(fused, torch.zeros(2, 6))
    fused.sum().backward()
    assert left.grad.isfinite().all()


def test_the_signed_square_root_has_a_finite_gradient_near_zero():
    x = torch.tensor([[0.0, 1e-20, -1e-20, 3.0, -4.0]], requires_grad=True)
    y = normalised(x, "signed_sqrt")
    roots = torch.tensor([0, 0, 0, 3**0.5, -2])
    assert torch.allclose(y[0], roots / 7**0.5, atol=1e-3)
    (y * torch.arange(5)).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() <= 4 * 500.1 / 7**0.5


def test_mfb_has_the_papers_number_of_parameters():
    fusion = MFB({"rgb": 1024, "audio": 128}, MFBOptions(), 5 * 3862)
    assert sum(p.numel() for p in fusion.parameters()) == 5_770_000


def test_fc_concat_matches_mfbs_projections_or_its_total():
    sizes, head_weights = {"rgb": 1024, "audio": 128}, 20

    def total(fusion: torch.nn.Module) -> int:
        fusions = sum(p.numel() for p in fusion.parameters())
        missing = sum(p.numel() for p in getattr(fusion, "missing", ()))
        return fusions - missing + head_weights * fusion.out_size

    mfb = MFB(sizes, MFBOptions(), head_weights)
    same_projections = FCConcat(sizes, FCConcatOptions(), head_weights)
    assert same_projections.out_size == 10_000
    assert sum(p.numel() for p in same_projections.projections.parameters()) == 5_770_000
    assert total(same_projections) > total(mfb)
    same_total = FCConcat(sizes, FCConcatOptions(match="total"), head_weights)
    assert total(same_total) == pytest.approx(total(mfb), rel=1e-3)
