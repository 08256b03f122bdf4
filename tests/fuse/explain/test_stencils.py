"""Stencils: of a linear network its weights, of any network the inputs it answers most."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse.explain import met as met_module
from mmf.fuse.explain.association import rank_correlation
from mmf.fuse.explain.met import choose_classes, comparable, meet, usual
from mmf.fuse.explain.stencils.ascent import ascend
from mmf.fuse.explain.stencils.over_time import over_time
from mmf.fuse.explain.stencils.scores import fidelity, what_they_say
from mmf.fuse.explain.stencils.search import StencilOptions, find_stencils, shares_of_rows
from mmf.fuse.explain.subject import open_subject
from mmf.store import FeatureStore

FEW = StencilOptions(restarts=6, clusters=2, steps=40)


def opened(run, **which):
    subject = open_subject(run, device="cpu", **which)
    return subject, usual(subject)


def test_a_run_that_decides_says_what_explains_it(runs):
    with pytest.raises(MmfError, match=r"what it skips has no gradient.*selection.*ablation"):
        opened(runs / "policy")


def test_options_that_ask_for_nothing_and_unknown_classes_are_refused(bits):
    with pytest.raises(MmfError, match="0 restarts"):
        StencilOptions(restarts=0)
    subject, _ = opened(bits / "linear")
    with pytest.raises(MmfError, match="unknown class 'blue-hgh'. Did you mean 'blue-high'"):
        choose_classes(subject, ["blue-hgh"])


def test_of_many_classes_those_with_the_most_positives_are_chosen(bits, monkeypatch):
    subject, _ = opened(bits / "linear")
    monkeypatch.setattr(met_module, "CLASSES", 2)
    _, numbers = subject.items.label_pairs()
    counts = dict(zip(subject.store.classes("both"), np.bincount(numbers).tolist(), strict=True))
    chosen = choose_classes(subject)
    rest = [n for name, n in counts.items() if name not in chosen]
    assert len(chosen) == 2
    assert min(counts[name] for name in chosen) >= max(rest)
    assert choose_classes(subject, ["red-low"]) == ["red-low"]


def test_the_ascent_finds_the_largest_eigenvalue():
    a = np.random.default_rng(0).standard_normal((12, 12))
    a = torch.from_numpy(a + a.T)
    start = torch.from_numpy(np.random.default_rng(1).standard_normal((5, 12)))
    x, value = ascend(lambda x: torch.einsum("ni,ij,nj->n", x, a, x), start, 3.0, 400)
    assert torch.linalg.vector_norm(x, dim=1) == pytest.approx([3.0] * 5)
    assert value.max() == pytest.approx(9 * np.linalg.eigvalsh(a)[-1], rel=1e-4)


def test_values_never_fall_on_the_way(bits):
    values = []

    def bumpy(x):
        value = torch.sin(9 * x).sum(1) + x[:, 0]
        values.append(value.detach())
        return value

    start = torch.from_numpy(np.random.default_rng(1).standard_normal((50, 4)))
    _, last = ascend(bumpy, start, 2.0, 30)
    assert (last >= values[0] - 1e-12).all()
    assert (last > values[0] + 0.1).any()


@pytest.mark.parametrize(("rows", "steps"), [(5, 5), (5, 3), (4, 9), (1, 6), (7, 1)])
def test_a_stretched_row_keeps_its_share_of_time(rows, steps):
    shares = shares_of_rows(rows, steps).numpy()
    fine = (np.arange(rows * steps * 8) + 0.5) / (rows * steps * 8)  # each instant, by counting
    counted = np.zeros((steps, rows))
    np.add.at(counted, ((fine * steps).astype(int), (fine * rows).astype(int)), 1 / (steps * 8))
    np.testing.assert_allclose(shares, counted, atol=1e-5)


def test_of_a_linear_network_a_stencil_is_its_weights_and_ranks_without_a_fault(bits):
    subject, rests = opened(bits / "linear")
    found = find_stencils(subject, subject.run.classes, rests, FEW)
    weights = subject.network.head[0].linear.weight.detach()  # (C, D_audio + D_rgb)
    weights = weights - weights.mean(0)
    sizes = [len(mean) for mean in rests.mean]
    for one, w in zip(found, weights, strict=True):
        parts = zip(w.split(sizes), rests.lengths, strict=True)
        expected = [part.repeat(length, 1) / length for part, length in parts]  # of a mean
        length = sum(part.square().sum() for part in expected) ** 0.5
        for values, part in zip(one.values, expected, strict=True):
            for value in values:
                torch.testing.assert_close(value, part * rests.norm / length, atol=1e-3, rtol=1e-3)
        assert one.sizes.tolist() == [FEW.restarts]  # they are all one
    said = what_they_say(subject, found)
    assert {len(x) for met in meet(subject) for i in range(len(met)) for x in met.item(i)} > {1, 4}
    assert [one.fidelity for one in said] == pytest.approx([1.0] * 4, abs=1e-4)
    assert fidelity(said) == pytest.approx(1.0, abs=1e-4)


def test_nothing_at_hand_is_answered_more_than_a_stencil_of_a_mixer(bits):
    subject, rests = opened(bits / "mixer")
    (found,) = find_stencils(subject, ["red-high"], rests, FEW)
    c = subject.run.classes.index("red-high")
    real = np.concatenate([met.logits[:, c].numpy() for met in meet(subject)])
    assert found.logits[0] > real.max()
    sizes = [values[0].numel() for values in found.values]
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((2000, sum(sizes)))).float()
    noise = torch.nn.functional.normalize(noise, dim=1) * rests.norm
    steps = [
        mean + x.reshape(-1, *values.shape[1:])
        for x, mean, values in zip(noise.split(sizes, 1), rests.mean, found.values, strict=True)
    ]
    there = [torch.ones(x.shape[:2], dtype=torch.bool) for x in steps]
    with torch.no_grad():
        logits = comparable(subject.network.of_steps(steps, there), subject.run.loss)[:, c]
    assert found.logits[0] > logits.max()
    for value in torch.cat([x.flatten(1) for x in found.values], 1):
        assert float(value.norm()) == pytest.approx(rests.norm, rel=1e-4)
    assert found.sizes.sum() == FEW.restarts


def test_a_class_has_the_same_stencils_whatever_others_are_asked_for(bits):
    subject, rests = opened(bits / "linear")
    (alone,) = find_stencils(subject, ["red-high"], rests, FEW)
    among = find_stencils(subject, subject.run.classes, rests, FEW)
    same = next(one for one in among if one.name == "red-high")
    for a, b in zip(alone.values, same.values, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_of_a_feature_that_is_made_zeros_nothing_is_said(bits):
    subject, _ = opened(bits / "mixer")
    subject.network.zero(["audio"])
    rests = usual(subject)
    said = what_they_say(subject, find_stencils(subject, ["red-high"], rests, FEW))
    audio = subject.network.features.index("audio")
    assert said[0].stencils.values[audio].abs().max() == 0
    assert said[0].shares[audio] == 0


def test_items_that_lack_a_modality_or_have_one_row_or_no_label_are_told_as_such(bits):
    subject, rests = opened(bits / "mixer", items=["silent", "short", "bare"])
    said = what_they_say(subject, find_stencils(subject, ["red-high", "blue-low"], rests, FEW))
    audio = subject.network.features.index("audio")
    told = {one.item.id: one for one in over_time(subject, said, 9)}
    assert set(told) == {"silent", "short", "bare"}
    assert len(told["silent"].contributions[audio]) == 0
    assert told["silent"].shares[audio] == 0
    assert [len(x) for x in told["short"].contributions] == [1, 1]
    assert told["short"].shares.sum() == pytest.approx(1)
    assert not told["bare"].positive
    nobody = next(one for one in said if one.stencils.name == "blue-low")
    assert (nobody.positives, nobody.shares) == (0, None)


def test_items_without_a_row_have_nothing_to_explain(bits, bits_store, tmp_path):
    place = FeatureStore.create(tmp_path / "empty")
    for name, spec in bits_store.features.items():
        place.add(spec, [bits_store.read(name, "v0000")])
    place.label({"empty": ["red-low"], "v0000": ["red-low"]}, name="both")
    subject = open_subject(bits / "linear", place.path, items=["empty"], device="cpu")
    rests = usual(open_subject(bits / "linear", device="cpu"))
    found = find_stencils(subject, ["red-low"], rests, StencilOptions(restarts=1, steps=1))
    rests = replace(found[0].usual, items=subject.items)
    with pytest.raises(MmfError, match="none of 1 items has a row of"):
        what_they_say(subject, [replace(found[0], usual=rests)])
    with pytest.raises(MmfError, match="none of 1 items has a row of"):
        usual(subject)


def test_what_an_item_is_told_sums_to_its_score(bits):
    subject, rests = opened(bits / "linear", split="test")
    said = what_they_say(subject, find_stencils(subject, ["red-high"], rests, FEW))
    told = list(over_time(subject, said, 100))
    sums = np.array([sum(x.sum() for x in one.contributions) for one in told])
    logits = np.array([one.logit for one in told])
    assert rank_correlation(sums, logits) == pytest.approx(said[0].fidelity, abs=1e-6)
    for one in told:
        for x, edges in zip(one.contributions, one.edges, strict=True):
            assert len(edges) == len(x) + 1
            assert (np.diff(edges) > 0).all()


def test_too_few_items_or_equal_ones_have_no_rank():
    assert rank_correlation(np.arange(2.0), np.arange(2.0)) is None
    assert rank_correlation(np.zeros(5), np.arange(5.0)) is None
    assert rank_correlation(np.arange(5.0), -(np.arange(5.0) ** 3)) == pytest.approx(-1)


def test_sub_words_have_stencils_behind_their_encoder(make_bert, token_run):
    run = token_run(make_bert())
    subject, rests = opened(run)
    (found,) = find_stencils(subject, subject.run.classes[:1], rests, replace(FEW, steps=3))
    text = subject.network.features.index("text")
    assert found.values[text].shape[2] == 8  # the encoder's hidden size
    assert float(found.values[text].abs().max()) > 0
