"""What a prediction owes to each modality: against another form, and on labels that are known."""

from itertools import permutations

import numpy as np
import pytest
import torch

from mmf.fuse import TrainConfig, train
from mmf.fuse.explain.ablation import ablate
from mmf.fuse.explain.met import comparable, meet, usual
from mmf.fuse.explain.seeds import spread
from mmf.fuse.explain.shares import shapley
from mmf.fuse.explain.subject import open_subject
from mmf.store import FeatureSpec, FeatureStore, Track


def asked(run, classes=None, **which):
    subject = open_subject(run, device="cpu", **which)
    return shapley(subject, classes or subject.run.classes, usual(subject))


def accuracy_lost(run) -> dict[tuple[str, str], float]:
    found = ablate(run, resamples=20, device="cpu")
    return {(one.modality, one.how): one.lost["accuracy"] for one in found.rows}


@pytest.fixture
def three(tmp_path):
    """A run of three features, hardly trained."""
    rng, store = np.random.default_rng(0), FeatureStore.create(tmp_path / "three")
    videos = [f"v{i}" for i in range(12)]
    for name in "abc":
        spec = FeatureSpec(name=name, modality=name, shape=(3,), dtype="float32", rate=1.0)
        rows = [rng.standard_normal((3, 3)).astype(np.float32) for _ in videos]
        times = np.arange(3.0)
        store.add(
            spec,
            [Track(video_id=v, values=x, times=times) for v, x in zip(videos, rows, strict=True)],
        )
    split = {v: ("train", "val", "test")[i % 3] for i, v in enumerate(videos)}
    store.label({v: [f"c{i % 2}"] for i, v in enumerate(videos)}, split=split)
    options = {"hidden": 8, "blocks": 1}
    config = {"fusion": "mixer", "fusion_options": options, "steps": 3, "device": "cpu"}
    train(TrainConfig(store=store.path, out=tmp_path / "run", **config))
    return tmp_path / "run"


def test_shapleys_value_is_the_mean_over_all_orders(three):
    subject = open_subject(three, device="cpu")
    rests = usual(subject)
    found = shapley(subject, subject.run.classes, rests, others=3)
    at = np.linspace(0, len(rests.items) - 1, 3).astype(int)
    items, others = next(meet(subject)), next(meet(subject, rests.items.take(at)))

    def value(i: int, own: set[int]) -> np.ndarray:
        logits = []
        for k in range(3):
            steps = [
                (items if m in own else others).steps[m][i if m in own else k][None]
                for m in range(3)
            ]
            there = [torch.ones(x.shape[:2], dtype=torch.bool) for x in steps]
            logits.append(comparable(subject.network.of_steps(steps, there), subject.run.loss)[0])
        return torch.stack(logits).mean(0).detach().numpy()

    for i in range(len(items)):
        expected = np.zeros((2, 3))
        for order in permutations(range(3)):
            for place, m in enumerate(order):
                before = set(order[:place])
                expected[:, m] += (value(i, before | {m}) - value(i, before)) / 6
        np.testing.assert_allclose(found.values[i], expected, atol=1e-5)
        whole = value(i, {0, 1, 2}) - value(i, set())
        np.testing.assert_allclose(found.values[i].sum(1), whole, atol=1e-5)


def test_a_label_that_sound_alone_carries_is_owed_to_sound(bits):
    found = asked(bits / "heard")
    audio = found.modalities.index("audio")
    assert [found.of(name)[audio] >= 0.8 for name in ("low", "high")] == [True, True]
    lost = accuracy_lost(bits / "heard")
    assert lost["audio", "zeroed"] > 0.3
    assert lost["audio", "missing"] > 0.3
    assert lost["rgb", "zeroed"] < 0.1


def test_a_label_that_needs_both_is_owed_to_both(bits):
    found = asked(bits / "mixer")
    whole = sum(np.abs(found.values[found.positive[:, c], c]).sum(0) for c in range(4))
    assert (whole / whole.sum() > 0.25).all()
    lost = accuracy_lost(bits / "mixer")
    assert min(lost["audio", "zeroed"], lost["rgb", "zeroed"]) > 0.2
    same = asked(bits / "same")  # of two bits whether they agree: neither says it alone
    of_class = same.positive[:, 0]
    for m in range(2):
        alone, last = (x[of_class, 0, m].mean() for x in (same.alone, same.last))
        assert last > 4 * abs(alone)


def test_a_class_without_items_has_no_share(bits):
    found = asked(bits / "mixer", ["blue-low"], items=["silent", "short", "bare"])
    assert found.of("blue-low") is None
    for row in found.table().to_pylist():
        assert (row["positives"], row["share"], row["alone"]) == (0, None, None)


def test_shares_over_seeds_are_their_mean_and_deviation(bits):
    runs = sorted((bits / "seeds").glob("seed-*"))
    assert len(runs) == 2
    table = spread(runs, device="cpu").to_pylist()
    each = [asked(run).of("high") for run in runs]
    for row in table:
        if row["class"] == "high":
            m = asked(runs[0]).modalities.index(row["modality"])
            two = [share[m] for share in each]
            assert row["share"] == pytest.approx(np.mean(two))
            assert row["deviation"] == pytest.approx(abs(two[0] - two[1]) / np.sqrt(2))
            assert row["runs"] == 2
