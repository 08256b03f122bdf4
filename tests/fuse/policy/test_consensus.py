"""What segments say together: by attention, against loops, and what a decision changes."""

import numpy as np
import pytest
import torch

from mmf.fuse import TrainConfig
from mmf.fuse.network import Network
from mmf.fuse.policy.consensus import attended

SHAPES = {"rgb": (5,), "audio": (4,)}
LENGTHS = {"rgb": [8, 1, 3, 0, 9], "audio": [8, 1, 0, 2, 11]}


@pytest.fixture
def net() -> Network:
    torch.manual_seed(0)
    config = TrainConfig(
        fusion="policy",
        fusion_options={"layers": (7,), "hidden": 8, "segments": 4, "consensus": "attention"},
        normalise="none",
        dropout=0.0,
    )
    made = Network(config, SHAPES, ("a", "b", "c"), "ce")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return made.double().eval()


def items():
    torch.manual_seed(1)
    masks = {n: torch.arange(max(LENGTHS[n])) < torch.tensor(LENGTHS[n])[:, None] for n in LENGTHS}
    features = {
        n: torch.randn(*masks[n].shape, *SHAPES[n], dtype=torch.float64) * masks[n][..., None]
        for n in LENGTHS
    }
    return features, masks


def by_hand(net: Network, features, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits of each item, with these decisions, and the weight of each segment."""
    W = {n: p.detach().numpy() for n, p in net.policy.named_parameters()}
    w = np.append(W["weights"], 1 - W["weights"].sum())
    found, weights = [], np.zeros(used.shape)
    for i in range(len(used)):
        n = min(4, max(LENGTHS[name][i] for name in SHAPES))
        total = np.zeros(3)
        for m, name in enumerate(SHAPES):
            T, top, bottom = LENGTHS[name][i], np.zeros(3), 1.0
            for s in range(n):
                rows = [features[name][i, t].numpy() for t in range(T) if t * n // T == s]
                if not (rows and used[i, s, m]):
                    continue
                x = np.mean(rows, 0)
                hidden = np.tanh(W[f"attention.each.{m}.project.weight"] @ x)
                hidden /= 1 + np.exp(-W[f"attention.each.{m}.gate.weight"] @ x)
                weight = np.exp(float(W[f"attention.each.{m}.query.weight"][0] @ hidden))
                own = W[f"recognise.{m}.head.linear.weight"] @ x
                weights[i, s, m] = weight
                top += weight * (own + W[f"recognise.{m}.head.linear.bias"])
                bottom += weight
            total += w[m] * top / bottom
            weights[i, :, m] /= bottom
        found.append(total)
    return np.array(found), weights


def test_logits_are_those_of_the_equations(net):
    features, masks = items()
    drawn = torch.distributions.Uniform(0.0, 1.0).sample((5, 4, 2)).double().logit()
    found = net.decide(features, masks, 3 * drawn)
    used = found.used.detach().numpy()
    assert 0 < used.sum() < found.there.sum()
    wanted = by_hand(net, features, used)
    for ours, theirs in zip((found.logits, found.segment_weights), wanted, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-10, atol=1e-12)


def test_nothing_used_says_zeros_and_what_is_not_used_has_no_say(net):
    features, masks = items()
    off = torch.full((5, 4, 2), -1e9, dtype=torch.float64)
    assert not net.decide(features, masks, off).logits.any()
    off[:, 0] = 1e9  # the first segment of four alone: rows 0 and 1 of the first item's 8
    alone = net.decide(features, masks, off).logits[0]
    others = {name: rows.clone() for name, rows in features.items()}
    for rows in others.values():
        rows[0, 2:8] = 50 * torch.randn_like(rows[0, 2:8])
    assert torch.equal(net.decide(others, masks, off).logits[0], alone)
    assert alone.any()


def test_the_gradient_of_a_decision_is_what_it_changes():
    torch.manual_seed(2)
    scores, said = 3 * torch.randn(3, 5, 2).double(), torch.randn(3, 5, 2, 4).double()
    scores[0, 0, 0] = 15.0  # a segment that decides everything
    used = (torch.rand(3, 5, 2) < 0.5).double()
    used[0, 0, 0], used[1] = 1.0, 0.0
    for s in range(5):
        for m in range(2):
            with_it, without = used.clone(), used.clone()
            with_it[:, s, m], without[:, s, m] = 1.0, 0.0
            wanted = attended(scores, with_it, said).said - attended(scores, without, said).said
            for c in range(4):
                given = used.clone().requires_grad_()
                attended(scores, given, said).said[:, m, c].sum().backward()
                torch.testing.assert_close(given.grad[:, s, m], wanted[:, m, c])
    given = used.clone().requires_grad_()
    assert torch.equal(attended(scores, given, said).said, attended(scores, used, said).said)


def test_attention_learns_where_it_is_used_and_wherever_a_modality_is_alone(net):
    features, masks = items()
    found = net.decide(features, masks, torch.full((5, 4, 2), 1e9, dtype=torch.float64))
    for what in (found.logits, found.alone):
        net.zero_grad()
        what.square().sum().backward(retain_graph=True)
        assert all(p.grad.abs().sum() > 0 for p in net.policy.attention.parameters())


def test_scores_beyond_all_measure_stay_finite():
    scores = torch.tensor([300.0, -300.0, 5.0]).view(1, 3, 1)
    said, used = torch.eye(3).view(1, 3, 1, 3), torch.ones(1, 3, 1, requires_grad=True)
    found = attended(scores, used, said).said
    found.sum().backward()
    assert found.isfinite().all()
    assert used.grad.isfinite().all()
    assert found[0, 0].argmax() == 0
