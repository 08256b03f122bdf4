"""The Predictor says of rows what `mmf predict` says of the items that have them."""

import numpy as np
import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse import Predictor, predict
from mmf.store import FeatureSpec, FeatureStore, Track


def clip(store: FeatureStore, video: str) -> dict[str, np.ndarray]:
    there = {n for n in store.features if store.state(n).get(video) == "done"}
    return {name: store.read(name, video).values for name in there}


@pytest.fixture
def run(xor_store, make_run):
    return make_run(xor_store)


def test_rows_that_no_store_would_take_are_refused(run):
    predictor = Predictor(run, device="cpu")
    with pytest.raises(UnknownName, match="unknown feature 'c'. Known: a, b"):
        predictor({"c": np.zeros((2, 3))})
    with pytest.raises(MmfError, match=r"'a' has rows of shape \(3,\); got \(4,\)"):
        predictor({"a": np.zeros((2, 4))})
    with pytest.raises(MmfError, match="'a': the rows hold NaN or infinity"):
        predictor([{"a": np.full((2, 3), np.nan)}])


@pytest.mark.parametrize("nothing", [{}, {"a": np.zeros((0, 3))}])
def test_a_clip_without_any_row_is_refused_by_its_number(run, nothing):
    with pytest.raises(MmfError, match="clip 1 has no row of any feature; expected a, b"):
        Predictor(run, device="cpu")([{"b": np.zeros((1, 4))}, nothing])


def test_a_video_for_each_clip_is_expected(run):
    with pytest.raises(MmfError, match="1 videos for 2 clips"):
        Predictor(run, device="cpu").scores([{"a": np.zeros((1, 3))}] * 2, videos=["v"])


def test_no_clips_have_no_scores(run):
    predictor = Predictor(run, device="cpu")
    assert predictor([]) == []
    assert predictor.scores([]).shape == (0, 2)


def test_it_says_what_predict_says_of_the_same_rows(run, xor_store):
    predictor = Predictor(run, device="cpu")
    rows = predict(run, xor_store.path, device="cpu").to_pylist()
    found = predictor([clip(xor_store, row["item"]) for row in rows])
    for row, one in zip(rows, found, strict=True):
        assert list(one) == row["classes"]
        assert list(one.values()) == row["scores"]
        assert predictor(clip(xor_store, row["item"])) == one
    table = predictor.scores([clip(xor_store, row["item"]) for row in rows])
    assert table.dtype == np.float32
    assert table[:, predictor.classes.index("same")].tolist() == [one["same"] for one in found]


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_rows_are_brought_to_the_stores_type_and_thinned_out_as_it_does(tmp_path, make_run, dtype):
    store = FeatureStore.create(tmp_path / "stored")
    generator = np.random.default_rng(0)
    fresh = {f"v{i:02}": generator.normal(size=(3 + i, 5)) for i in range(24)}
    spec = FeatureSpec(name="a", modality="x", shape=(5,), dtype=dtype)
    store.add(spec, [Track(video_id=v, values=x, times=range(len(x))) for v, x in fresh.items()])
    store.label({v: ["even" if i % 2 else "odd"] for i, v in enumerate(fresh)})
    run = make_run(store, "single", max_steps=7)
    predictor = Predictor(run, device="cpu")
    for row in predict(run, store.path, device="cpu").to_pylist():
        for rows in (fresh[row["item"]], store.read("a", row["item"]).values):
            assert list(predictor({"a": rows}).values()) == row["scores"]


def test_a_modality_may_be_left_out(run, xor_store, tmp_path):
    alone = FeatureStore.create(tmp_path / "alone")
    alone.add(xor_store.features["a"], [xor_store.read("a", "v03")])
    (row,) = predict(run, alone.path, device="cpu").to_pylist()
    rows = torch.from_numpy(xor_store.read("a", "v03").values)
    assert list(Predictor(run, device="cpu")({"a": rows}).values()) == row["scores"]


def test_clips_of_a_video_are_read_in_their_order_where_the_run_does_so(xor_store, make_run):
    labels = {
        (f"v{i:02}", float(t), t + 1.0): ["x", "y"][t % 2 :][:1] for i in range(40) for t in (0, 1)
    }
    xor_store.label(
        labels, name="parts", split={f"v{i:02}": "train" if i < 30 else "val" for i in range(40)}
    )
    run = make_run(xor_store, "concat", head="sequence", label_set="parts")
    predictor = Predictor(run, device="cpu")
    rows = {r["item"]: r for r in predict(run, xor_store.path, device="cpu").to_pylist()}
    items = [i for i in xor_store.items(label_set="parts") if i.video_id in ("v05", "v15")]
    clips = []
    for item in items:
        batch = xor_store.batch([item], ("a", "b"), label_set=None)
        clips.append({n: batch.values[n][0, : batch.lengths[n][0]] for n in "ab"})
    together = predictor.scores(clips, videos=[item.video_id for item in items])
    for item, scores in zip(items, together, strict=True):
        assert sorted(scores.tolist(), reverse=True) == rows[item.id]["scores"]
    assert not np.array_equal(predictor.scores(clips), together)


def test_the_networks_are_loaded_once(run, xor_store, monkeypatch):
    predictor = Predictor(run, device="cpu")
    monkeypatch.setattr("copy.deepcopy", None)
    monkeypatch.setattr("mmf.fuse.run.Run.trained", None)
    assert predictor(clip(xor_store, "v00")) == predictor(clip(xor_store, "v00"))
