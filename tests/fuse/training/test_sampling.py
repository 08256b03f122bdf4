"""Which rows and features a training sees."""

from collections import Counter

import numpy as np
import pytest
import torch

from mmf.fuse.config import TrainConfig
from mmf.fuse.data import inputs
from mmf.fuse.training.sampling import chosen_rows, dropped, sampled
from mmf.store import FeatureSpec, FeatureStore, Track

CPU = torch.device("cpu")
LENGTHS = {"v0": 7, "v1": 2, "v2": 12}


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """Features a and b whose rows are their own numbers; v1 has no b."""
    store = FeatureStore.create(tmp_path / "feats")
    for name in ("a", "b"):
        spec = FeatureSpec(name=name, modality=name, shape=(1,), dtype="float32")
        store.add(
            spec,
            [
                Track(video_id=v, values=np.arange(n)[:, None] + 1.0, times=np.arange(n))
                for v, n in LENGTHS.items()
                if (name, v) != ("b", "v1")
            ],
        )
    store.label({v: ["x"] for v in LENGTHS})
    return store


def seen(store, epoch: int = 0, **options):
    batch = store.batch(store.items(), ("a", "b"))
    return sampled(inputs(batch, store.features, CPU), batch, TrainConfig(**options), epoch)


def test_frames_are_drawn_as_the_formula_says():
    draws = np.array([[0.0, 0.5, 0.999], [0.2, 0.4, 0.99]])
    found = chosen_rows(draws, np.array([10, 2]), "frames", 3)
    assert found.tolist() == [[0, 5, 9], [0, 0, 1]]


def test_a_sequence_begins_anywhere_it_fits_and_repeats_its_last_row():
    draws = np.array([[0.0], [0.999], [0.5], [0.9]])
    found = chosen_rows(draws, np.array([6, 6, 2, 0]), "sequence", 4)
    assert found.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [0, 1, 1, 1], [0, 0, 0, 0]]


def test_all_starts_of_a_sequence_are_equally_likely():
    draws = np.random.default_rng(0).random((6000, 1))
    first = chosen_rows(draws, np.full(6000, 6), "sequence", 4)[:, 0]
    assert all(abs(n - 2000) < 200 for n in Counter(first.tolist()).values())


@pytest.mark.parametrize("how", ["frames", "sequence"])
def test_every_item_with_rows_has_as_many_and_features_stay_side_by_side(store, how):
    found = seen(store, sample=how, max_steps=5)
    assert {x.shape for x in found.features.values()} == {(3, 5, 1)}
    assert found.masks["a"].all()
    assert found.masks["b"].all(1).tolist() == [True, False, True]
    assert torch.equal(found.features["a"][[0, 2]], found.features["b"][[0, 2]])
    assert not found.features["b"][1].any()
    rows = found.features["a"][2, :, 0].tolist()
    assert set(rows) <= {*range(1, 13)}
    if how == "sequence":
        assert rows == list(range(int(rows[0]), int(rows[0]) + 5))


def test_another_epoch_sees_other_rows_and_the_same_epoch_the_same(store):
    first = seen(store, sample="frames", max_steps=9).features["a"]
    assert torch.equal(seen(store, sample="frames", max_steps=9).features["a"], first)
    assert not torch.equal(seen(store, epoch=1, sample="frames", max_steps=9).features["a"], first)
    assert not torch.equal(seen(store, sample="frames", max_steps=9, seed=1).features["a"], first)


def test_even_sampling_changes_nothing(store):
    batch = store.batch(store.items(), ("a", "b"))
    one = inputs(batch, store.features, CPU)
    assert sampled(one, batch, TrainConfig(), 0) is one


def test_features_go_by_their_chance_and_one_always_stays():
    random = np.random.default_rng(0)
    draws, present = random.random((20_000, 3)), random.random((20_000, 3)) < 0.7
    gone = dropped(draws, present, 0.4)
    assert not (gone & ~present).any()
    assert ((present & ~gone).any(1) == present.any(1)).all()
    three = present.all(1)
    share = gone[three].mean()
    assert share == pytest.approx(0.4 - 0.4**3 / 3, abs=0.01)
    assert not gone[present.sum(1) == 1].any()


def test_a_dropped_feature_is_masked_and_zero(store):
    masks = [seen(store, epoch, modality_dropout=0.5).masks for epoch in range(20)]
    gone = [(m["a"].any(1), m["b"].any(1)) for m in masks]
    assert all((a | b).all() for a, b in gone)
    assert all(a[1] for a, _ in gone)  # the only one of v1
    assert any(not a[0] for a, _ in gone)
    assert any(not b[0] for _, b in gone)
    found = seen(store, 3, modality_dropout=0.5)
    for name, x in found.features.items():
        assert not x[~found.masks[name]].any()
