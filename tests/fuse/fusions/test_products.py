"""The fusions that multiply, each against its formula in an independent form, in float64."""

from functools import reduce
from math import copysign, sqrt

import pytest
import torch

from mmf import MmfError
from mmf.fuse.config import build_options
from mmf.fuse.fusions import FUSIONS, mcb
from mmf.fuse.fusions.mcb import MCB, MCBOptions
from mmf.fuse.fusions.mfb import MFB, MFBOptions
from mmf.fuse.fusions.mfh import MFH, MFHOptions
from mmf.fuse.fusions.mlb import MLB, MLBOptions
from mmf.fuse.fusions.mutan import Mutan, MutanOptions

SIZES = {"rgb": 5, "audio": 4, "text": 3}
PRODUCTS = ("mfb", "mfh", "mlb", "mutan", "mcb")


def vectors(items: int = 7) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(items, size, dtype=torch.float64) for size in SIZES.values()]


def everything(items: int = 7, features: int = 3) -> torch.Tensor:
    return torch.ones(items, features, dtype=torch.bool)


def shaken(fusion: torch.nn.Module) -> torch.nn.Module:
    """In float64 and eval mode, with biases that are not 0."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return fusion.double().eval()


def projected(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bd,ud->bu", x, layer.weight) + layer.bias


def squared_off(x: torch.Tensor, epsilon: float = 1e-6) -> torch.Tensor:
    """The signed square root of every number, by a loop of Python, then L2."""
    rows = [
        [copysign(sqrt(abs(v) + epsilon) - sqrt(epsilon), v) for v in row] for row in x.tolist()
    ]
    roots = torch.tensor(rows, dtype=torch.float64)
    return roots / roots.norm(dim=1, keepdim=True).clamp_min(1e-12)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize(("only", "first"), [("rgb", "audio"), ("audio", "rgb")])
def test_a_product_of_one_feature_names_the_command_to_run_first(name, only, first, small):
    kind = FUSIONS.load(name)
    options = build_options(kind.Options, small(FUSIONS, name), name)
    with pytest.raises(
        MmfError, match=f"'{name}' .*got {only}. Run `mmf extract --modality {first}` first"
    ):
        kind({only: 5}, options, 3)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MFBOptions, {"factors": 0}),
        (MFBOptions, {"power": "sqrt"}),
        (MFBOptions, {"factors": "5"}),
        (MFBOptions, {"dropout": 1.0}),
        (MFHOptions, {"blocks": 0}),
        (MLBOptions, {"outputs": 0}),
        (MLBOptions, {"activation": "gelu"}),
        (MutanOptions, {"rank": 0}),
        (MCBOptions, {"outputs": 0}),
        (MCBOptions, {"power": "sqrt"}),
    ],
)
def test_bad_options_are_refused(kind, options, no_shape_checks):
    with pytest.raises(MmfError):
        build_options(kind, options, "it")


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_missing_feature_is_the_factor_1(name, small):
    """Three features without the last are the first two alone, with the same weights."""
    kind = FUSIONS.load(name)
    options = build_options(kind.Options, small(FUSIONS, name), name)
    three, two = kind(SIZES, options, 3), kind({"rgb": 5, "audio": 4}, options, 3)
    three, two = shaken(three), two.double().eval()
    if name == "mcb":
        two.places.copy_(three.places[:9])
        two.signs.copy_(three.signs[:9])
    else:
        blocks = getattr(options, "blocks", 1)
        for block in range(blocks):
            for m in range(2):
                mine = two.projections[2 * block + m]
                mine.load_state_dict(three.projections[3 * block + m].state_dict())
    present = everything()
    present[:, 2] = False
    wanted = two(vectors()[:2], everything(features=2))
    assert torch.allclose(three(vectors(), present), wanted, atol=1e-12)


def test_mfh_is_a_cascade_of_products_pooled_after_each_block():
    options = MFHOptions(factors=2, outputs=4, blocks=3, l2_inputs=False)
    fusion, given = shaken(MFH(SIZES, options, 3)), vectors()
    wanted, z = [], torch.ones(7, 8, dtype=torch.float64)
    for block in range(3):
        for m, x in enumerate(given):
            z = z * projected(fusion.projections[3 * block + m], x)
        pooled = torch.stack([z[:, 2 * i] + z[:, 2 * i + 1] for i in range(4)], 1)
        wanted.append(squared_off(pooled))
    found = fusion(given, everything())
    assert found.shape == (7, fusion.out_size) == (7, 12)
    assert torch.allclose(found, torch.cat(wanted, 1), atol=1e-12)


def test_the_first_block_of_mfh_is_mfb():
    options = {"factors": 3, "outputs": 4, "power": "relu"}
    both, one = MFH(SIZES, MFHOptions(**options), 3), MFB(SIZES, MFBOptions(**options), 3)
    shaken(both), one.double().eval()
    for mine, theirs in zip(one.projections, both.projections[:3], strict=True):
        mine.load_state_dict(theirs.state_dict())
    wanted = one(vectors(), everything())
    assert torch.allclose(both(vectors(), everything())[:, :4], wanted, atol=1e-12)


def test_the_dropout_of_mfhs_first_block_drops_from_the_second_too():
    fusion = MFH({"a": 3, "b": 3}, MFHOptions(factors=1, outputs=500, dropout=0.5), 3)
    given = [torch.randn(1, 3) for _ in range(2)]
    first, second = fusion.train()(given, everything(1, 2)).chunk(2, 1)
    assert 150 < (first == 0).sum() < 350
    assert (second[first == 0] == 0).all()


@pytest.mark.parametrize(("activation", "f"), [("relu", "relu"), ("tanh", "tanh"), ("none", None)])
def test_mlb_is_the_product_of_one_activated_projection_of_each(activation, f):
    fusion = shaken(MLB(SIZES, MLBOptions(outputs=6, activation=activation), 3))
    parts = [projected(fc, x) for fc, x in zip(fusion.projections, vectors(), strict=True)]
    wanted = torch.einsum("bo,bo,bo->bo", *(getattr(torch, f)(p) if f else p for p in parts))
    assert torch.allclose(fusion(vectors(), everything()), wanted, atol=1e-12)


def test_mutan_is_the_full_bilinear_form_of_its_tucker_decomposition():
    """f_o = x^T T_o y with T = sum_r W0^T N0_ro N1_ro^T W1, the biases 0."""
    options = MutanOptions(size=6, rank=3, outputs=4)
    fusion = Mutan({"rgb": 5, "audio": 4}, options, 3).double().eval()
    (w0, n0), (w1, n1) = ([layer.weight for layer in one] for one in fusion.projections)
    n0, n1 = n0.reshape(3, 4, 6), n1.reshape(3, 4, 6)  # rank, outputs, t
    form = torch.einsum("rot,td,rou,ue->ode", n0, w0, n1, w1)
    left, right, _ = vectors()
    wanted = torch.einsum("bd,ode,be->bo", left, form, right)
    assert torch.allclose(fusion([left, right], everything(features=2)), wanted, atol=1e-12)


def test_mutan_of_three_features_sums_over_the_rank():
    fusion = shaken(Mutan(SIZES, MutanOptions(size=6, rank=3, outputs=4), 3))
    pairs = zip(fusion.projections, vectors(), strict=True)
    product = reduce(torch.mul, (projected(b, projected(a, x)) for (a, b), x in pairs))
    wanted = product[:, 0:4] + product[:, 4:8] + product[:, 8:12]
    assert torch.allclose(fusion(vectors(), everything()), wanted, atol=1e-12)


@pytest.mark.parametrize("outputs", [8, 11])
def test_mcb_is_the_circular_convolution_of_count_sketches(outputs):
    fusion = MCB(SIZES, MCBOptions(outputs=outputs, seed=4), 3).double().eval()
    wanted, start = None, 0
    for x in vectors():
        sketch = torch.zeros(7, outputs, dtype=torch.float64)
        for i in range(x.shape[1]):
            sketch[:, fusion.places[start + i]] += fusion.signs[start + i] * x[:, i]
        start += x.shape[1]
        if wanted is None:
            wanted = sketch
            continue
        both = torch.zeros_like(wanted)
        for i in range(outputs):
            for j in range(outputs):
                both[:, (i + j) % outputs] += wanted[:, i] * sketch[:, j]
        wanted = both
    assert torch.allclose(fusion(vectors(), everything()), squared_off(wanted), atol=1e-9)


def test_mcbs_inner_products_are_those_of_the_outer_products_on_average():
    """What compact bilinear pooling is for: E <f(x, y), f(u, v)> = <x, u> <y, v>."""
    (x, y, _), (u, v, _) = ([p[i : i + 1] for p in vectors(2)] for i in (0, 1))
    x, y = x + u, y + v  # so that the products are not near 0
    sizes, there = {"rgb": 5, "audio": 4}, everything(1, 2)
    found = []
    for seed in range(300):
        drawn = MCB(sizes, MCBOptions(outputs=16, power="none", seed=seed), 3).double()
        plain = pytest.MonkeyPatch()
        plain.setattr(mcb, "normalised", lambda z, power: z)
        found.append((drawn([x, y], there) * drawn([u, v], there)).sum().item())
        plain.undo()
    wanted = ((x * u).sum() * (y * v).sum()).item()
    error = torch.tensor(found).std().item() / len(found) ** 0.5
    assert abs(sum(found) / len(found) - wanted) < 4 * error < abs(wanted)


def test_mcbs_hashes_follow_from_the_seed_alone():
    torch.manual_seed(1)
    one = MCB(SIZES, MCBOptions(outputs=50, seed=7), 3)
    torch.manual_seed(2)
    same = MCB(SIZES, MCBOptions(outputs=50, seed=7), 3)
    other = MCB(SIZES, MCBOptions(outputs=50, seed=8), 3)
    assert torch.equal(one.places, same.places)
    assert torch.equal(one.signs, same.signs)
    assert not torch.equal(one.places, other.places)
    assert set(one.state_dict()) == {"places", "signs"}
    assert set(one.signs.tolist()) == {-1.0, 1.0}
