"""The contract of every fusion, from the registry, and each one's own formula."""

import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse.config import build_options
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.fusions.fc_concat import FCConcat, FCConcatOptions
from mmf.fuse.fusions.mfb import MFB, MFBOptions

SMALL = {"factors": 2, "outputs": 6}
SIZES = {"rgb": 5, "audio": 4, "text": 3}


def build(name: str) -> torch.nn.Module:
    kind = FUSIONS.load(name)
    options = build_options(kind.Options, SMALL if name in ("mfb", "fc_concat") else {}, name)
    sizes = {"rgb": 5} if name == "single" else SIZES
    torch.manual_seed(0)
    return kind(sizes, options, 3).eval()


def batch(name: str, items: int = 8) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Vectors, and a presence with something missing, and something there, for every item."""
    sizes = [5] if name == "single" else list(SIZES.values())
    torch.manual_seed(1)
    vectors = [torch.randn(items, size) for size in sizes]
    present = torch.ones(items, len(sizes), dtype=torch.bool)
    for i in range(items if len(sizes) > 1 else 0):
        present[i, i % len(sizes)] = i < 2
    return vectors, present


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_gives_a_finite_vector_of_its_size(name):
    fusion = build(name)
    fused = fusion(*batch(name))
    assert fused.shape == (8, fusion.out_size)
    assert fused.isfinite().all()


@pytest.mark.parametrize("name", FUSIONS)
def test_permuting_the_items_permutes_the_fused_vectors(name):
    fusion, (vectors, present) = build(name), batch(name)
    order = torch.randperm(8)
    fused = fusion(vectors, present)
    permuted = fusion([v[order] for v in vectors], present[order])
    assert torch.allclose(permuted, fused[order], atol=1e-6)


@pytest.mark.parametrize("name", [n for n in FUSIONS if n != "single"])
def test_what_stands_in_a_missing_feature_does_not_count(name):
    fusion, (vectors, present) = build(name), batch(name)
    others = [
        torch.where(present[:, m : m + 1], v, torch.full_like(v, 1e3))
        for m, v in enumerate(vectors)
    ]
    assert torch.equal(fusion(others, present), fusion(vectors, present))
    zeros = [v * present[:, m : m + 1] for m, v in enumerate(vectors)]
    all_there = torch.ones_like(present)
    if name == "mfb":  # a factor of 1 is not the product with a projected zero
        assert not torch.allclose(fusion(zeros, all_there), fusion(zeros, present))


@pytest.mark.parametrize("name", [n for n in FUSIONS if n != "single"])
def test_gradients_reach_every_parameter_of_a_fusion(name):
    fusion = build(name)
    fused = fusion(*batch(name))
    (fused * torch.randn_like(fused)).sum().backward()
    for parameter in fusion.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("name", FUSIONS)
def test_an_unknown_option_of_a_fusion_is_refused(name):
    with pytest.raises(UnknownName, match="unknown key"):
        build_options(FUSIONS.load(name).Options, {"outptus": 3}, "the options")


def test_single_takes_one_feature_only():
    kind = FUSIONS.load("single")
    with pytest.raises(MmfError, match="takes one feature; got rgb, audio, text"):
        kind(SIZES, kind.Options(), 3)


@pytest.mark.parametrize(("only", "first"), [("rgb", "audio"), ("audio", "rgb")])
def test_mfb_of_one_feature_names_the_command_to_run_first(only, first):
    with pytest.raises(MmfError, match=f"got {only}. Run `mmf extract --modality {first}` first"):
        MFB({only: 5}, MFBOptions(), 3)


@pytest.mark.parametrize("options", [{"factors": 0}, {"power": "sqrt"}, {"factors": "5"}])
def test_bad_options_of_mfb_are_refused(options, no_shape_checks):
    with pytest.raises(MmfError):
        build_options(MFBOptions, options, "mfb")


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
    fusion = build("mfb")
    vectors, present = batch("mfb")
    present[:] = True
    unit = [v / v.norm(dim=1, keepdim=True) for v in vectors]
    weights = [p.weight.reshape(6, 2, -1) for p in fusion.projections]
    pooled = torch.einsum(
        "bd,be,bf,ijd,ije,ijf->bi", *unit, *weights
    ).relu()  # the biases start at 0
    wanted = pooled / pooled.norm(dim=1, keepdim=True).clamp_min(1e-12)
    assert torch.allclose(fusion(vectors, present), wanted, atol=1e-5)


def test_mfb_without_l2_of_its_inputs_is_homogeneous_before_the_norm_and_with_it_scale_free():
    vectors, present = batch("mfb")
    present[:] = True
    fusion = build("mfb")
    assert torch.allclose(
        fusion([1e3 * v for v in vectors], present), fusion(vectors, present), atol=1e-5
    )


@pytest.mark.parametrize("power", ["relu", "signed_sqrt", "none"])
def test_an_mfb_row_of_zeros_stays_zero_with_a_finite_gradient(power):
    fusion = MFB({"l": 5, "a": 4}, MFBOptions(factors=3, outputs=6, power=power), 1).eval()
    left = torch.zeros(2, 5, requires_grad=True)
    fused = fusion([left, torch.randn(2, 4)], torch.ones(2, 2, dtype=torch.bool))
    assert torch.equal(fused, torch.zeros(2, 6))
    fused.sum().backward()
    assert left.grad.isfinite().all()


def test_the_signed_square_root_has_a_finite_gradient_near_zero():
    from mmf.fuse.fusions.mfb import _power

    x = torch.tensor([0.0, 1e-20, -1e-20, 4.0, -4.0], requires_grad=True)
    y = _power(x, "signed_sqrt")
    y.sum().backward()
    assert y[3].item() == pytest.approx(2, abs=2e-3)
    assert y[4].item() == pytest.approx(-2, abs=2e-3)
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() <= 500.1


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
