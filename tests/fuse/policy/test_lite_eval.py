"""LiteEval's equations against NumPy."""

import math

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import TrainConfig, evaluate, train
from mmf.fuse.losses import cross_entropy
from mmf.fuse.network import Network
from mmf.fuse.policy.contract import Stage
from mmf.fuse.policy.lite_eval import LiteEvalOptions

SHAPES = {"rgb": (5,), "audio": (4,), "small": (3,)}
SIZES = {"coarse": 6, "fine": 9, "segments": 3, "clues": ["small"]}
LENGTHS = {"rgb": [6, 1, 2, 0, 0], "audio": [6, 0, 2, 3, 0], "small": [3, 1, 0, 3, 0]}


def network() -> Network:
    torch.manual_seed(0)
    config = TrainConfig(fusion="lite_eval", fusion_options=SIZES, normalise="none")
    made = Network(config, SHAPES, ("a", "b", "c"), "ce")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made.double().eval()


def given():
    torch.manual_seed(1)
    features, masks = {}, {}
    for name, of in LENGTHS.items():
        masks[name] = torch.arange(max(of)) < torch.tensor(of)[:, None]
        rows = torch.randn(*masks[name].shape, *SHAPES[name], dtype=torch.float64)
        features[name] = rows * masks[name][..., None]
    return features, masks


def cell(W, name, x, h, c):
    gates = W[f"{name}.weight_ih"] @ x + W[f"{name}.bias_ih"]
    gates += W[f"{name}.weight_hh"] @ h + W[f"{name}.bias_hh"]
    a, f, g, o = np.split(gates, 4)
    c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-a))
    return np.tanh(c) / (1 + np.exp(-o)), c


def by_hand(net: Network, features, drawn) -> tuple[np.ndarray, np.ndarray]:
    W = {n: p.detach().numpy() for n, p in net.fusion.named_parameters()}
    logits, used = np.zeros((5, 3)), np.zeros((5, 3))
    for i in range(5):
        n = min(3, max(of[i] for of in LENGTHS.values()))
        s, e, h, c = np.zeros(6), np.zeros(6), np.zeros(9), np.zeros(9)
        for t in range(n):
            pooled = {}
            for name, missing in (("small", "small.0"), ("rgb", "large.0"), ("audio", "large.1")):
                T = LENGTHS[name][i]
                rows = [features[name][i, r].numpy() for r in range(T) if r * n // T == t]
                pooled[name] = np.mean(rows, 0) if rows else W[f"missing_{missing}"]
            x = W["project.weight"] @ pooled["small"] + W["project.bias"]
            s, e = cell(W, "coarse", x, s, e)
            z = W["gate.weight"] @ np.concatenate([x, h, c]) + W["gate.bias"]
            used[i, t] = z[0] - z[1] + drawn[i, t, 0] > 0
            if used[i, t]:
                h, c = cell(W, "fine", np.concatenate([pooled["rgb"], pooled["audio"], x]), h, c)
            else:
                h, c = np.append(s, h[6:]), np.append(e, c[6:])
        if n:
            logits[i] = W["classify.weight"] @ h + W["classify.bias"]
    return logits, used


def test_sizes_that_do_not_fit_are_refused():
    for options in ({"segments": 0}, {"coarse": 600, "fine": 300}, {"skip": 1.5}):
        with pytest.raises(MmfError, match="expected"):
            LiteEvalOptions(**options)


def test_logits_and_decisions_are_those_of_the_equations():
    net, (features, masks) = network(), given()
    for drawn in (torch.zeros(5, 3, 2), torch.rand(5, 3, 2).logit()):
        wanted, used = by_hand(net, features, drawn.numpy())
        found = net.decide(features, masks, drawn.double())
        np.testing.assert_allclose(found.logits.detach().numpy(), wanted, rtol=1e-10, atol=1e-12)
        there = found.there.numpy()
        np.testing.assert_array_equal(found.used.detach().numpy(), used[..., None] * there)
        assert 0 < used.sum() < 12
    assert not found.valid[4].any()


def test_the_loss_holds_the_share_that_is_skipped_to_what_is_wanted():
    net, (features, masks) = network(), given()
    found = net.decide(features, masks, torch.rand(5, 3, 2).double().logit(), 0.7)
    labels = torch.eye(3).double()[[0, 1, 2, 0, 1]]
    rated = torch.ones(5, 3, dtype=torch.bool)
    stage = Stage(name="whole", weight=1.5)
    loss = net.policy.loss(found, labels, rated, cross_entropy, stage)
    used = int(found.used.detach().amax(2).sum())
    skipped = 1 - used / int(found.valid.sum())
    answers = cross_entropy(found.logits, labels, rated).item()
    assert loss.item() == pytest.approx(answers + 1.5 * (skipped - 0.9) ** 2)
    loss.backward()
    assert all(p.grad is not None for p in net.fusion.parameters())


def test_temperature_and_weight_are_those_of_the_authors():
    policy = network().policy
    for step, temperature, weight in ((0, 1.0, 1.0), (5000, math.exp(-0.5), 2 - math.exp(-50))):
        stage = policy.stage(step, 10_000, 100)
        assert (stage.temperature, stage.weight) == pytest.approx((temperature, weight))
    assert policy.stage(9999, 10_000, 100).temperature == 0.5
    assert policy.stage(7, 10_000, 100).learns == {"main", "policy"}


def test_it_trains_on_a_store(xor_store, tmp_path):
    options = {"coarse": 8, "fine": 16, "gflops": {"a": 3.0, "b": 1.0, "policy": 0.5}}
    config = TrainConfig(
        store=xor_store.path,
        out=tmp_path / "run",
        fusion="lite_eval",
        fusion_options=options,
        epochs=2,
        batch_size=12,
        device="cpu",
    )
    found = evaluate(train(config), device="cpu")
    assert 0 <= found["used_a"] <= 1
    assert found["gflops"] > 0
