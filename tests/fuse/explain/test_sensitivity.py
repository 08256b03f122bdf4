"""Local sensitivity: the Jacobian against finite differences, S of layers whose S is known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mmf import MmfError
from mmf.fuse import TrainConfig, train
from mmf.fuse.explain.association import spearman
from mmf.fuse.explain.maps.pictures import sensitivity_alt
from mmf.fuse.explain.maps.sensitivity import (
    jacobian_norms,
    local_sensitivity,
    of_layer,
    sensitivities,
    used_probes,
)
from mmf.fuse.explain.subject import open_subject
from mmf.fuse.layers.batch_norm import pack, unpack
from mmf.fuse.layers.neighbourhood import Neighbourhood
from mmf.fuse.layers.self_attention import VARIANTS, SelfAttention, SelfAttentionOptions

T, D = 7, 4
EVERY = torch.ones(T, dtype=torch.bool)


def layer_of(variant: str, **options) -> SelfAttention:
    torch.manual_seed(0)
    chosen = {"heads": 2, "extent": 1, "steps": T, "variant": variant} | options
    layer = SelfAttention(D, SelfAttentionOptions(**chosen)).double()
    with torch.no_grad():
        layer.queries_keys_values.weight.mul_(2)  # far from even
    return layer


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("there", [EVERY, torch.tensor([1, 1, 0, 1, 1, 0, 0], dtype=torch.bool)])
def test_the_exact_norms_are_those_of_finite_differences(variant, there):
    layer, x = layer_of(variant), torch.randn(T, D).double()
    places, step = there.unsqueeze(0), 1e-5

    def forward(x):
        return unpack(layer(pack(x.unsqueeze(0), places), places), places)[0]

    squares = torch.zeros(T, T).double()
    for j in range(T):
        for d in range(D):
            moved = torch.zeros(T, D).double()
            moved[j, d] = step
            squares[:, j] += (
                ((forward(x + moved) - forward(x - moved)) / (2 * step)).square().sum(1)
            )
    wanted = squares.sqrt()[there][:, there]
    found = of_layer(layer, x, there, 0)
    torch.testing.assert_close(found, wanted.detach(), atol=1e-7, rtol=1e-6)
    assert not found.requires_grad


def test_probes_come_near_the_exact_norms_and_are_the_same_each_time():
    layer, x = layer_of("gate_op"), torch.randn(T, D).double()
    exact = of_layer(layer, x, EVERY, 0)
    many = of_layer(layer, x, EVERY, 4000)
    torch.testing.assert_close(many, exact, rtol=0.05, atol=1e-3)
    torch.testing.assert_close(of_layer(layer, x, EVERY, 3), of_layer(layer, x, EVERY, 3))
    assert (used_probes(32, 32, None), used_probes(32, 33, None), used_probes(9, 9, 5)) == (0, 8, 5)
    with pytest.raises(MmfError, match="-1 probes: expected 0, which is exact, or more"):
        jacobian_norms(lambda x: x, x, -1)


def test_a_layer_that_looks_near_alone_has_one_and_one_that_looks_evenly_a_half():
    local = layer_of("share_att")
    near, x = local.options.pairs(T), torch.randn(T, D).double()
    with torch.no_grad():
        local.out.weight[:, : D // 2] = 0  # the head that looks everywhere is not heard
    S, ratios = local_sensitivity(of_layer(local, x, EVERY, 0), near)
    torch.testing.assert_close(S, torch.ones(T).double())
    torch.testing.assert_close((ratios * near).sum(1) / near.sum(1), S)
    even = layer_of("baseline")
    with torch.no_grad():
        even.queries_keys_values.weight[: 2 * D] = 0
    S, _ = local_sensitivity(of_layer(even, x, EVERY, 0), near)
    torch.testing.assert_close(S, torch.full((T,), 0.5).double())


def test_near_that_holds_every_step_and_what_nothing_moves_have_no_sensitivity():
    norms, near = torch.ones(3, 3), torch.eye(3, dtype=torch.bool)
    near[0] = True
    norms[1] = 0
    S, ratios = local_sensitivity(norms, near)
    assert S.isnan().tolist() == [True, True, False]
    assert ratios.isnan().any(1).tolist() == [True, True, False]


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    options = {"heads": 2, "extent": 2, "steps": 15}
    out = tmp_path_factory.mktemp("sensitive") / "run"
    return train(
        TrainConfig(
            store=store.path, out=out, fusion="gmsa", fusion_options=options, steps=1, device="cpu"
        )
    )


def test_items_of_one_row_and_without_a_feature_are_asked_too(run, odd, runs):
    subject = open_subject(run, odd.path, device="cpu")
    found = {of[0].item.id: of for of in sensitivities(subject)}
    assert [one.layer for one in found["silent"]] == ["rgb"]
    short = found["short"][1]
    assert np.isnan(short.mean)
    assert short.norms.shape == (1, 1)
    assert "rgb undefined, as near holds every step, of 1 steps" in sensitivity_alt(found["short"])
    whole = found["whole"][1]
    assert 0.5 < whole.mean <= 1
    assert whole.probes == 0
    wider = {of[0].item.id: of for of in sensitivities(subject, Neighbourhood(extent=20))}
    assert np.isnan(wider["whole"][1].mean)
    for name, why in (("mean", "aggregator 'mean'"), ("policy", "which sees each segment alone")):
        with pytest.raises(MmfError, match=f"{why}.* has no layer of GMSA"):
            sensitivities(open_subject(runs / name, device="cpu"))


@pytest.mark.parametrize("n", [5, 8, 30])
def test_the_rank_correlation_is_that_of_scipy(n):
    rng = np.random.default_rng(n)
    x = rng.integers(4, size=n).astype(float)
    y = x + 2 * rng.normal(size=n)
    found, theirs = spearman([*x, math.nan], [*y, 1.0]), spearmanr(x, y)
    assert (found.rho, found.n) == (pytest.approx(theirs.statistic), n)
    if n == 30:
        assert found.p == pytest.approx(theirs.pvalue, abs=0.02)


def test_few_runs_have_no_small_p():
    assert spearman([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]).p == pytest.approx(2 / 24)
    assert math.isnan(spearman([1.0, 2.0], [1.0, 2.0]).rho)
    assert math.isnan(spearman([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]).p)
    assert spearman([], []).n == 0
