"""AdaMML's maths against NumPy, and what must not matter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmf import MmfError, UnknownName
from mmf.fuse import TrainConfig
from mmf.fuse.losses import cross_entropy
from mmf.fuse.network import Network
from mmf.fuse.policy.adamml import PolicyOptions
from mmf.fuse.policy.contract import Decided, Stage
from mmf.fuse.policy.cost import alone_loss, is_right, penalty
from mmf.fuse.policy.decisions import Decisions
from mmf.fuse.policy.noise import noise
from mmf.fuse.policy.usage import Costs, Usage
from mmf.store import FeatureSpec, Item
from mmf.store.stored_feature import Milliseconds

SHAPES = {"rgb": (5,), "audio": (4,), "text": (3,)}
CLASSES = ("a", "b", "c", "d")
SMALL = {"layers": (7, 6), "hidden": 8, "segments": 4}


def network(shapes=SHAPES, **options) -> Network:
    torch.manual_seed(0)
    config = TrainConfig(
        fusion="policy", fusion_options=SMALL | options, normalise="none", dropout=0.0
    )
    made = Network(config, shapes, CLASSES, "ce")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made.double().eval()


def items(lengths: dict[str, list[int]], seed: int = 1):
    torch.manual_seed(seed)
    features, masks = {}, {}
    for name, of in lengths.items():
        masks[name] = torch.arange(max(*of, 1)) < torch.tensor(of)[:, None]
        rows = torch.randn(*masks[name].shape, *SHAPES[name], dtype=torch.float64)
        features[name] = rows * masks[name][..., None]
    return features, masks


LENGTHS = {"rgb": [8, 1, 3, 0, 0, 9], "audio": [8, 1, 0, 2, 0, 11], "text": [2, 1, 7, 1, 0, 0]}


def cut(these, start: int, end: int):
    """Some of the rows of all features."""
    features, masks = these
    return tuple({n: x[:, start:end] for n, x in each.items()} for each in (features, masks))


def by_hand(net: Network, features, lengths, drawn) -> tuple[np.ndarray, np.ndarray]:
    """Logits and decisions of each item: loops, NumPy, and the weights."""
    policy, names = net.policy, list(SHAPES)
    W = {n: p.detach().numpy() for n, p in policy.named_parameters()}
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    w = np.append(W["weights"], 1 - W["weights"].sum())
    logits, used = [], []
    for i in range(len(drawn)):
        n = min(policy.segments, max(lengths[m][i] for m in names))
        h, c, z = np.zeros(8), np.zeros(8), np.zeros(6)
        total, decided = np.zeros(4), np.zeros((policy.segments, 3))
        for s in range(n):
            means, there = [], []
            for m, name in enumerate(names):
                T = lengths[name][i]
                rows = [features[name][i, t].numpy() for t in range(T) if t * n // T == s]
                there.append(bool(rows))
                means.append(np.mean(rows, 0) if rows else W[f"agent.missing.{m}"])
            x = np.concatenate(means)
            for layer in (0, 2):
                x = np.maximum(W[f"agent.mlp.{layer}.weight"] @ x + W[f"agent.mlp.{layer}.bias"], 0)
            gates = W["agent.cell.weight_ih"] @ np.append(x, z) + W["agent.cell.bias_ih"]
            gates += W["agent.cell.weight_hh"] @ h + W["agent.cell.bias_hh"]
            a, f, g, o = np.split(gates, 4)
            c = sigmoid(f) * c + sigmoid(a) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            z = W["agent.heads.weight"] @ h + W["agent.heads.bias"]
            for m in range(3):
                odds = z[2 * m + 1] - z[2 * m]
                decided[s, m] = there[m] and odds + drawn[i, s, m] > 0
                own = W[f"recognise.{m}.head.linear.weight"] @ means[m]
                total += w[m] * decided[s, m] * (own + W[f"recognise.{m}.head.linear.bias"])
        logits.append(total / max(n, 1))
        used.append(decided)
    return np.array(logits), np.array(used)


def test_options_that_mean_nothing_are_refused(no_shape_checks):
    for options, said in (
        ({"segments": 0}, "0 segments"),
        ({"rate": 1.5}, "rate = 1.5: expected 0 to 1"),
        ({"cost": {"rgb": -1.0}}, "0 or more"),
        ({"runs": ("a",)}, "decisions=random"),
        ({"epochs": {"single": -1}}, "whole numbers of 0 or more"),
        ({"decisions": "learnt"}, "unknown decisions 'learnt'"),
        ({"epochs": {"tuning": 3}}, "unknown stage of epochs 'tuning'. Did you mean .*tune"),
        ({"temperature": 0.0}, "temperature 0"),
    ):
        with pytest.raises(MmfError, match=said):
            PolicyOptions(**options)


def test_names_that_are_no_features_are_refused():
    for options in ({"clues": ["sound"]}, {"modalities": ["rbg"]}, {"always": ["audoi"]}):
        with pytest.raises(UnknownName, match=f"unknown feature of {next(iter(options))}"):
            network(**options)
    with pytest.raises(UnknownName, match="unknown feature of cost"):
        network(cost={"rgb": 1.0, "sound": 1.0})
    with pytest.raises(MmfError, match="cost = .*nothing is said of 'audio'"):
        network(cost={"rgb": 1.0})


def test_features_that_are_clues_alone_are_not_recognised_from():
    made = network(clues=["text"]).policy
    assert (made.modalities, made.clues) == (("rgb", "audio"), ("text",))
    both = network().policy
    assert both.modalities == both.clues == tuple(SHAPES)
    first = network(clues=["audio"], modalities=["rgb", "audio"], always=["audio"]).policy
    assert (first.modalities, first.clues) == (("rgb", "audio"), ("audio",))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_logits_and_decisions_are_those_of_the_equations(seed):
    net = network()
    features, masks = items(LENGTHS, seed)
    drawn = torch.distributions.Uniform(0.0, 1.0).sample((6, 4, 3)).double().logit()
    for noise_ in (drawn, torch.zeros_like(drawn)):
        wanted, used = by_hand(net, features, LENGTHS, noise_.numpy())
        found = net.decide(features, masks, noise_)
        np.testing.assert_array_equal(found.used.detach().numpy(), used)
        np.testing.assert_allclose(found.logits.detach().numpy(), wanted, rtol=1e-10, atol=1e-12)
    assert torch.equal(net(features, masks), net.decide(features, masks).logits)
    assert used.sum() > 0


def test_the_gradient_of_a_decision_is_that_of_gumbel_softmax(monkeypatch):
    net, (features, masks) = network(), items(LENGTHS)
    gumbel = -torch.empty(6, 4, 3, 2, dtype=torch.float64).exponential_().log()
    policy, tau = net.policy, 1.7
    found = net.decide(features, masks, gumbel[..., 1] - gumbel[..., 0], tau)
    weight = torch.randn_like(found.used)
    (found.used * weight).sum().backward()
    ours = [p.grad.clone() for p in policy.agent.parameters()]
    policy.zero_grad()
    seen = {}
    real = policy.agent.forward
    monkeypatch.setattr(policy.agent, "forward", lambda x: seen.setdefault("z", real(x)))
    again = net.decide(features, masks)
    # torch's own draws exponentials: made the same
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: self.copy_(torch.exp(-gumbel)))
    theirs = functional.gumbel_softmax(seen["z"], tau, hard=True)[..., 1] * again.there
    assert torch.equal(theirs.detach(), found.used.detach())
    (theirs * weight).sum().backward()
    for one, other in zip(ours, policy.agent.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)


def test_a_modality_that_is_not_there_is_never_used_and_all_off_gives_zeros():
    net, (features, masks) = network(), items(LENGTHS)
    on = net.decide(features, masks, torch.full((6, 4, 3), 1e9, dtype=torch.float64))
    assert torch.equal(on.used.bool(), on.there)
    assert not on.there[3, :, 0].any()
    assert on.valid.sum(1).tolist() == [4, 1, 4, 2, 0, 4]
    assert torch.equal(on.logits[4], torch.zeros(4))  # it has nothing
    off = net.decide(features, masks, torch.full((6, 4, 3), -1e9, dtype=torch.float64))
    assert not off.used.any()
    assert torch.equal(off.logits, torch.zeros_like(off.logits))


def test_an_item_is_the_mean_of_its_segments():
    net, some = network(decisions="all"), items({"rgb": [4], "audio": [4], "text": [4]})
    halves = [net(*cut(some, 0, 2)), net(*cut(some, 2, 4))]
    torch.testing.assert_close(net(*some), (halves[0] + halves[1]) / 2)
    off = torch.full((1, 4, 3), 1e9, dtype=torch.float64)
    off[:, 2:] = -1e9
    policy = network()
    first = policy.decide(*cut(some, 0, 2), off).logits
    torch.testing.assert_close(policy.decide(*some, off).logits, first / 2)


def test_with_everything_on_it_is_the_weighted_sum_of_late_fusion():
    """A policy that uses everything, and one that is told to, equal `--fusion weighted`."""
    on, (features, masks) = network(decisions="all"), items({name: [8] for name in SHAPES})
    policy = network()
    policy.policy.load_state_dict(on.policy.state_dict(), strict=False)
    config = TrainConfig(
        fusion="weighted",
        fusion_options={"sum_to_one": True, "renormalise": False},
        normalise="none",
        dropout=0.0,
    )
    weighted = Network(config, SHAPES, CLASSES, "ce").double().eval()
    for m in range(3):
        weighted.head[m].load_state_dict(on.policy.recognise[m].head.state_dict())
    weighted.fusion.weights.data = on.policy.weights.data.clone()
    wanted = weighted(features, masks)
    torch.testing.assert_close(on(features, masks), wanted, rtol=0, atol=1e-14)
    always = torch.full((1, 4, 3), 1e9, dtype=torch.float64)
    assert torch.equal(policy.decide(features, masks, always).logits, on(features, masks))


def test_always_is_used_wherever_it_is_there():
    net, (features, masks) = network(always=["audio"]), items(LENGTHS)
    off = net.decide(features, masks, torch.full((6, 4, 3), -1e9, dtype=torch.float64))
    assert torch.equal(off.used[..., 1].bool(), off.there[..., 1])
    assert not off.used[..., [0, 2]].any()


def test_a_random_policy_uses_each_modality_at_its_rate_and_needs_chance():
    net = network(decisions="random", rate={"rgb": 0.2, "audio": 1.0, "text": 0.0})
    named = [Item(video_id=f"v{i}") for i in range(500)]
    drawn = noise(net.policy, named, seed=0, epoch=-1, device=torch.device("cpu")).double()
    features, masks = items({n: [8] * 500 for n in SHAPES})
    rates = net.decide(features, masks, drawn).used.mean((0, 1))
    assert rates[0] == pytest.approx(0.2, abs=0.03)
    assert rates[1:].tolist() == [1.0, 0.0]
    with pytest.raises(MmfError, match="decides by noise"):
        net(features, masks)


def test_noise_is_logistic_and_follows_from_seed_epoch_and_item_alone():
    policy, cpu = network().policy, torch.device("cpu")
    named = [Item(video_id=f"v{i}") for i in range(2000)]
    drawn = noise(policy, named, seed=3, epoch=5, device=cpu)
    assert torch.equal(noise(policy, named[7:9], seed=3, epoch=5, device=cpu), drawn[7:9])
    for other in ({"seed": 4, "epoch": 5}, {"seed": 3, "epoch": 6}):
        assert not torch.equal(noise(policy, named, **other, device=cpu), drawn)
    ranks = torch.sigmoid(drawn.flatten().double()).sort().values
    assert (ranks - torch.linspace(0, 1, len(ranks))).abs().max() < 0.012  # Kolmogorov at 1e-3


def decided(seed: int = 0) -> tuple[Decided, torch.Tensor, torch.Tensor]:
    """Six items of up to 4 segments and 2 modalities, with labels of which some are not rated."""
    torch.manual_seed(seed)
    valid = torch.arange(4) < torch.tensor([4, 4, 1, 2, 3, 4])[:, None]
    there = (torch.rand(6, 4, 2) < 0.8) & valid[..., None]
    used = (there & (torch.rand(6, 4, 2) < 0.6)).double().requires_grad_()
    labels, rated = torch.zeros(6, 4).double(), torch.rand(6, 4) < 0.9
    labels[range(6), torch.randint(4, (6,))] = 1
    rated[:3], logits = True, torch.randn(6, 4).double() + 9 * labels
    logits[3:] *= -1  # the first three are right, the others are not
    alone = torch.randn(6, 2, 4).double().requires_grad_()
    return (
        Decided(logits=logits, used=used, there=there, valid=valid, alone=alone),
        labels,
        rated,
    )


def test_the_penalty_is_the_published_one():
    one, labels, rated = decided()
    cost, gamma = torch.tensor([0.7, 0.05]).double(), 10.0
    total, plain = 0.0, 0.0
    rights = []
    for i in range(6):
        best = max((c for c in range(4) if rated[i, c]), key=lambda c: one.logits[i, c])
        right = bool(labels[i, best] > 0 and rated[i, best])
        rights.append(right)
        n = int(one.valid[i].sum())
        for k in range(2):
            share = one.used[i, :, k].detach().sum().item() / n
            total += float(cost[k]) * right * share**2 / 6
            plain += float(cost[k]) * share / 6
        total += gamma * (not right) / 6
    assert 0 < sum(rights) < 6
    assert is_right(one.logits, labels, rated).tolist() == rights
    assert penalty(one, labels, rated, cost, gamma, "correct").item() == pytest.approx(total)
    assert penalty(one, labels, rated, cost, gamma, "mean").item() == pytest.approx(plain)


def test_gamma_moves_the_loss_and_not_its_gradient():
    one, labels, rated = decided()
    cost, found = torch.tensor([0.7, 0.05]).double(), []
    for gamma in (0.0, 10.0):
        loss = penalty(one, labels, rated, cost, gamma, "correct")
        found.append((loss.item(), torch.autograd.grad(loss, one.used)[0]))
    assert found[1][0] > found[0][0] + 1
    assert torch.equal(found[0][1], found[1][1])
    wrong = ~is_right(one.logits, labels, rated)
    assert not found[0][1][wrong].any()
    assert found[0][1][~wrong].any()


def test_of_several_labels_right_is_that_the_best_class_is_one():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    rated = torch.tensor([[True] * 3, [True] * 3, [False, True, True]])
    assert is_right(logits, labels, rated).tolist() == [True, False, True]


def test_at_first_each_modality_learns_from_the_items_that_have_it():
    one, labels, rated = decided()
    there = one.there.clone()
    there[2] = False
    one, rated = replace(one, there=there), torch.ones_like(rated)
    total = 0.0
    for k in range(2):
        for i in range(6):
            if there[i, :, k].any():
                log_p = one.alone[i, k].detach() - one.alone[i, k].detach().exp().sum().log()
                total -= float(log_p[int(labels[i].argmax())]) / 6
    found = alone_loss(one, labels, rated, cross_entropy)
    assert found.item() == pytest.approx(total)
    (gradient,) = torch.autograd.grad(found, one.alone)
    assert not gradient[2].any()


def test_each_stage_has_its_loss():
    policy = network(SHAPES, gamma=3.0).policy
    one, labels, rated = decided()
    three = [0, 1, 0]
    used, there = one.used[..., three], one.there[..., three]
    one = replace(one, used=used, there=there, alone=one.alone[:, three])
    answers = cross_entropy(one.logits, labels, rated).item()
    main = policy.loss(one, labels, rated, cross_entropy, Stage(name="alternate", weight=0.0))
    assert main.item() == answers
    both = policy.loss(one, labels, rated, cross_entropy, Stage(name="alternate", weight=1.0))
    assert both.item() == pytest.approx(
        answers + penalty(one, labels, rated, policy.cost, 3.0, "correct").item()
    )
    first = policy.loss(one, labels, rated, cross_entropy, Stage(name="single"))
    assert first.item() == alone_loss(one, labels, rated, cross_entropy).item()


def specs(**flops: float) -> dict[str, FeatureSpec]:
    return {
        n: FeatureSpec(name=n, modality=n, shape=s, flops_per_row=flops.get(n))
        for n, s in SHAPES.items()
    }


def test_costs_are_those_of_what_is_used_and_of_deciding():
    given = {"rgb": 14.0, "audio": 0.4, "text": 0.1, "policy": 0.8}
    net, (features, masks) = network(gflops=given), items(LENGTHS)
    lengths = {n: np.array(of) for n, of in LENGTHS.items()}
    found = Decisions.of(net.policy, net.decide(features, masks), lengths)
    costs = Costs.of(net.policy, specs())
    wanted = found.used @ [14.0, 0.4, 0.1] + 0.8 * found.valid
    np.testing.assert_allclose(costs.of_items(found), wanted.sum(1))
    usage = Usage(net.policy, specs())
    usage.add(found)
    result = usage.result()
    assert result["gflops"] == pytest.approx(wanted.sum() / 5)  # one has nothing
    assert result["used_rgb"] == pytest.approx(found.shares()[:, 0].sum() / 5)


def test_clues_cost_wherever_they_are_and_once():
    net = network(clues=["audio"], modalities=["rgb", "audio"], gflops={"rgb": 14.0})
    features, masks = items(LENGTHS)
    lengths = {n: np.array(of) for n, of in LENGTHS.items()}
    drawn = torch.full((6, 4, 2), 1e9, dtype=torch.float64)
    found = Decisions.of(net.policy, net.decide(features, masks, drawn), lengths)
    costs = Costs.of(net.policy, specs(audio=2e9))
    own = 2e-9 * sum(p.numel() for p in net.policy.agent.parameters() if p.ndim > 1)
    segments = [min(4, max(LENGTHS[n][i] for n in SHAPES)) for i in range(6)]
    rgb = [14.0 * min(n, s) for n, s in zip(LENGTHS["rgb"], segments, strict=True)]
    wanted = np.array(rgb) + 2.0 * lengths["audio"] + own * np.array(segments)
    np.testing.assert_allclose(costs.of_items(found), wanted)


def test_costs_that_are_not_known_are_no_column():
    net = network()
    assert Costs.of(net.policy, specs(rgb=1.0)) is None
    assert Costs.of(net.policy, specs(rgb=1.0, audio=1.0, text=1.0)) is not None
    assert set(Usage(net.policy, specs()).result()) == {"used_rgb", "used_audio", "used_text"}


def test_milliseconds_are_those_of_the_rows_needed_and_of_the_dearest_pass():
    net = network(clues=["audio"], modalities=["rgb", "audio"], gflops={"policy": 1.0})
    features, masks = items(LENGTHS)
    lengths = {n: np.array(of) for n, of in LENGTHS.items()}
    drawn = torch.linspace(-9, 9, 48, dtype=torch.float64).view(6, 4, 2)
    found = Decisions.of(net.policy, net.decide(features, masks, drawn.flip(0)), lengths)
    measured = {
        "rgb": Milliseconds(compute=30.0, decode=5.0),
        "audio": Milliseconds(compute=2.0, decode=1.0),
    }
    rgb, audio = found.rows["rgb"] * found.used[..., 0], found.rows["audio"] * found.valid
    wanted = 30.0 * rgb + 2.0 * audio + np.maximum(5.0 * rgb, 1.0 * audio)
    costs = Costs.measured(net.policy, measured)
    np.testing.assert_allclose(costs.of_items(found), wanted.sum(1))
    usage = Usage(net.policy, specs(), measured)
    usage.add(found)
    assert usage.result()["milliseconds"] == pytest.approx(wanted.sum() / 5)
    assert 0 < rgb.sum() < found.rows["rgb"].sum()
    alone = {n: replace(one, decode=None) for n, one in measured.items()}
    of_networks = Costs.measured(net.policy, alone).of_items(found)
    np.testing.assert_allclose(of_networks, (30.0 * rgb + 2.0 * audio).sum(1))


def test_milliseconds_that_nobody_measured_are_no_column():
    net = network(clues=["audio"], modalities=["rgb", "audio"])
    for lacking in ("rgb", "audio"):
        measured = dict.fromkeys(("rgb", "audio", "text"), Milliseconds(compute=1.0))
        measured[lacking] = Milliseconds(decode=1.0)
        assert Costs.measured(net.policy, measured) is None


def test_who_decides_by_chance_reads_nothing_to_decide():
    net, (features, masks) = network(decisions="random", rate=0.5), items(LENGTHS)
    lengths = {n: np.array(of) for n, of in LENGTHS.items()}
    drawn = torch.linspace(-9, 9, 72, dtype=torch.float64).view(6, 4, 3)
    found = Decisions.of(net.policy, net.decide(features, masks, drawn), lengths)
    costs = Costs.of(net.policy, specs(rgb=1e9, audio=1e9, text=1e9))
    rows = np.stack([found.rows[n] for n in SHAPES], axis=-1)
    np.testing.assert_allclose(costs.of_items(found), (found.used * rows).sum((1, 2)))
    assert 0 < (found.used * rows).sum() < rows.sum()
