"""Runs averaged: by weights, over the classes of all, each by its own features."""

import numpy as np
import pytest

from mmf import MmfError
from mmf.fuse import Predictor
from mmf.fuse.inference.ensemble import Ensemble
from mmf.store import FeatureSpec, FeatureStore, Track


@pytest.fixture
def pair(xor_store, make_run):
    return make_run(xor_store), make_run(xor_store, "single", seed=1)


def scores(store, *runs, **options) -> dict[str, np.ndarray]:
    """Of each item, in the order of the classes; None without a prediction."""
    ensemble = Ensemble(runs, device="cpu", **options)
    found = {}
    for part in ensemble.score(store, store.all_items()):
        each = zip(part.items, part.scores(ensemble.loss), part.there, strict=True)
        found |= {item.id: row if there else None for item, row, there in each}
    return found


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [([1], "1 weights for 2 runs"), ([1, 0], "weight 0 of a run"), ([1, np.nan], "weight nan")],
)
def test_weights_are_a_number_above_0_for_each(pair, weights, sentence):
    with pytest.raises(MmfError, match=sentence):
        Ensemble(pair, weights=weights)


def test_no_runs_are_refused():
    with pytest.raises(MmfError, match="an ensemble of no runs"):
        Ensemble([])


def test_runs_that_mean_other_rows_by_one_name_are_refused(pair, tmp_path, make_run):
    store = FeatureStore.create(tmp_path / "other")
    spec = FeatureSpec(name="a", modality="x", shape=(2,), dtype="float32")
    tracks = [Track(video_id=f"w{i}", values=np.ones((1, 2)), times=[0]) for i in range(9)]
    store.add(spec, tracks)
    store.label({f"w{i}": [str(i % 2)] for i in range(9)})
    other = make_run(store, "single", "other")
    with pytest.raises(MmfError, match=r"different rows of feature 'a': modality \"a\" there"):
        Ensemble([pair[0], other])


def test_the_scores_are_the_weighted_mean(pair, xor_store):
    first, second = (scores(xor_store, run) for run in pair)
    for weights, (p, q) in {(1, 1): (0.5, 0.5), (3, 1): (0.75, 0.25)}.items():
        for item, found in scores(xor_store, *pair, weights=weights).items():
            assert found == pytest.approx(p * first[item] + q * second[item], rel=2e-7)
    for item, found in scores(xor_store, pair[0], pair[0]).items():
        assert found == pytest.approx(first[item], rel=1e-7)


def test_of_what_a_run_has_no_row_the_others_have_the_word(pair, xor_store):
    spec = xor_store.features["b"]
    xor_store.add(spec, [Track(video_id="only b", values=np.ones((2, 4)), times=[0, 1])])
    both = scores(xor_store, *pair)["only b"]
    assert np.allclose(both, scores(xor_store, pair[0])["only b"], rtol=1e-7)
    assert scores(xor_store, pair[1])["only b"] is None


def test_a_class_that_a_run_does_not_know_counts_as_0(xor_store, make_run):
    """Multi-label, by the definition: over the union of classes, divided by all weights."""
    runs = []
    for name, renamed in (("one", {"same": "x"}), ("two", {"other": "z"})):
        classes = xor_store.classes()
        labels = {
            i.video_id: [renamed.get(classes[c], classes[c]) for c in i.labels]
            for i in xor_store.items()
        }
        xor_store.label(labels, name=name)
        runs.append(make_run(xor_store, name=name, label_set=name, split_set="default", loss="bce"))
    ensemble = Ensemble(runs)
    assert sorted(ensemble.classes) == ["other", "same", "x", "z"]
    alone = [(Ensemble([run]).classes, scores(xor_store, run)) for run in runs]
    for item, found in scores(xor_store, *runs).items():
        for c, name in enumerate(ensemble.classes):
            each = [one[item][own.index(name)] if name in own else 0 for own, one in alone]
            assert found[c] == pytest.approx(sum(each) / 2, rel=2e-7)


def test_logits_stay_finite_where_no_run_gives_a_class_anything(pair, xor_store):
    ensemble = Ensemble(pair)
    (part, *_) = ensemble.score(xor_store, xor_store.all_items())
    assert np.isfinite(part.logits).all()


def test_an_item_has_the_same_scores_alone_and_in_company(pair, xor_store):
    ensemble = Ensemble(pair)
    together = scores(xor_store, *pair)
    for item in xor_store.all_items()[::7]:
        (part,) = ensemble.score(xor_store, [item])
        assert np.array_equal(part.scores(ensemble.loss)[0], together[item.id])


def test_a_predictor_of_several_runs_is_their_mean(pair, xor_store):
    rows = {n: xor_store.read(n, "v07").values for n in "ab"}
    found = Predictor(*pair, weights=(3, 1), device="cpu").scores([rows])
    wanted = scores(xor_store, *pair, weights=(3, 1))["v07"]
    assert np.array_equal(found[0], wanted)
