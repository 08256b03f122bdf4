"""The page of a store: its map, its failures, what a large one leaves out."""

import numpy as np
import pytest

from mmf.report import Plot, Text
from mmf.report import video_map as maps
from mmf.report.store_page import store_page
from mmf.report.video_map import flat, mapped, vectors, video_map
from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store.track import Outcome


def test_a_store_without_anything_says_so(tmp_path):
    page = store_page(FeatureStore.create(tmp_path / "feats"))
    failed = {s.id: s.failed for s in page.sections if s.failed}
    assert "There is no feature yet" in failed["features"]
    assert "No feature has rows yet" in failed["lengths"]


def test_a_vector_is_the_standardised_mean_and_a_missing_feature_is_its_mean(store, tmp_path):
    other = FeatureStore.create(tmp_path / "feats")
    random = np.random.default_rng(0)
    ids = [f"v{i}" for i in range(6)]
    grids = random.normal(size=(6, 3, 2, 2, 4))
    spec = FeatureSpec(name="grid", modality="rgb", shape=(2, 2, 4), dtype="float32")
    tracks = [Track(video_id=v, values=g, times=[0, 1, 2]) for v, g in zip(ids, grids, strict=True)]
    other.add(spec, tracks[:5])
    codes = FeatureSpec(name="tokens", modality="text", shape=(1,), dtype="int32")
    other.add(codes, [Track(video_id=v, values=[[7]], times=[0]) for v in ids])
    lone = FeatureSpec(name="sound", modality="audio", shape=(2,), dtype="float32")
    sounds = random.normal(size=(6, 2))
    other.add(
        lone, [Track(video_id=v, values=[s], times=[0]) for v, s in zip(ids, sounds, strict=True)]
    )
    found = vectors(other, ids)
    means = np.array([[g[..., d].mean() for d in range(4)] for g in grids[:5]])
    expected = (means - means.mean(0)) / means.std(0) / 2
    np.testing.assert_allclose(found[:5, :4], expected, atol=1e-5)
    assert not found[5, :4].any()
    assert found.shape == (6, 6)
    np.testing.assert_allclose(found[:, 4:].std(0), 1 / np.sqrt(2), atol=1e-5)


def test_few_videos_are_laid_out_by_principal_components():
    places, how = flat(np.random.default_rng(0).normal(size=(5, 1)))
    assert places.shape == (5, 2)
    assert how == "two principal components with 100% of the variance"


def test_groups_lie_apart_on_the_map(store):
    videos = mapped(store)
    places, how = flat(vectors(store, videos))
    assert "t-SNE of 8 principal components" in how
    group = np.array([int(v[-3:]) % 4 for v in videos])
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    same = group[:, None] == group
    assert distance[same].mean() < 0.8 * distance[~same].mean()


def test_of_a_large_store_some_videos_are_drawn_and_that_is_said(store, monkeypatch):
    monkeypatch.setattr(maps, "MOST", 20)
    videos = mapped(store)
    assert len(set(videos)) == 20
    (plot,) = video_map(store, videos, {})
    assert "20 videos, drawn from 60; t-SNE" in plot.alt


def test_what_failed_stands_with_its_reason(make_store):
    store = make_store(videos=12)
    writer = store.writer()
    outcome = Outcome(
        video_id="broken.mp4",
        status="failed",
        reason="truncated",
        stage="decode",
        message="at 3 s",
    )
    writer.mark("b", outcome)
    writer.commit()
    page = store_page(store)
    plot, table = page.sections[-1].parts
    assert isinstance(plot, Plot)
    assert table.rows == [["broken.mp4", "b", "failed", "truncated", "decode", "at 3 s"]]


def test_without_labels_the_map_still_comes(tmp_path):
    store = FeatureStore.create(tmp_path / "feats")
    spec = FeatureSpec(name="a", modality="a", shape=(2,), dtype="float32")
    store.add(spec, [Track(video_id=f"v{i}", values=[[i, 0]], times=[0]) for i in range(4)])
    page = store_page(store)
    assert isinstance(page.sections[3].parts[0], Plot)
    assert isinstance(page.sections[2].parts[0], Text)
    assert [s.id for s in page.sections if s.failed] == []


@pytest.mark.parametrize("videos", [0, 1, 2])
def test_two_videos_are_no_map(tmp_path, videos):
    store = FeatureStore.create(tmp_path / "feats")
    spec = FeatureSpec(name="a", modality="a", shape=(2,), dtype="float32")
    store.add(spec, [Track(video_id=f"v{i}", values=[[i, 0]], times=[0]) for i in range(videos)])
    (text,) = video_map(store, mapped(store), {})
    assert text.text == f"{videos} videos with numeric rows are too few for a map."
