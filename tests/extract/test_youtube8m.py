"""The preset youtube8m: a user's own videos become rows in the data set's format."""

import numpy as np
import pytest

from mmf import MmfError
from mmf.extract import extract
from mmf.extract.shorthand import requests_of
from mmf.store import FeatureSpec, FeatureStore
from mmf.store.exchange.youtube8m_export import export_youtube8m
from mmf.store.exchange.youtube8m_import import import_youtube8m

CLIP = "meta-pytorch+torchcodec/test/resources/nasa_13013.mp4"  # 13.013 s


def asked(**changed):
    options = {
        "modality": ("rgb", "audio"),
        "backbone": (),
        "weights": ("rgb=random:0", "audio=random:0"),
        "name": (),
        "preset": "youtube8m",
        "batch_size": "auto",
        "precision": "fp32",
        "dtype": "float16",
        "feature": (),
    }
    return requests_of({**options, **changed})


@pytest.fixture
def matrices(tmp_path, monkeypatch):
    """Matrices of the published shapes, in the working folder."""
    rng = np.random.default_rng(0)
    (tmp_path / "yt8m_pca").mkdir()
    vectors = rng.normal(0, 2048**-0.5, (2048, 2048)).astype(np.float32)
    for name, array in (
        ("mean", np.full((2048, 1), 0.02)),
        ("eigenvals", np.full((2048, 1), 1e-4)),
        ("eigenvecs", vectors),
    ):
        np.save(tmp_path / "yt8m_pca" / f"{name}.npy", array.astype(np.float32))
    axes = 50 * np.eye(128, dtype=np.float32)
    np.savez(
        tmp_path / "vggish_pca_params.npz",
        pca_means=np.zeros(128, np.float32),
        pca_eigen_vectors=axes,
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_the_matrices_the_preset_says_what_to_bring(tmp_path, monkeypatch, clip):
    monkeypatch.chdir(tmp_path)
    one = clip("one.mp4", frames=3)
    with pytest.raises(MmfError, match=r"pca='yt8m_pca' cannot be read.*mean\.npy"):
        extract(one, "own.mmf", asked(modality=("rgb",), weights=("rgb=random:0",)))


def test_a_users_video_becomes_a_record_of_youtube_8m(matrices, shared_data):
    result = extract(shared_data / "videos" / CLIP, "own.mmf", asked())
    assert result.failed == 0
    store = FeatureStore("own.mmf")
    (video,) = store.videos()["video_id"].to_pylist()
    rgb, audio = store.read("rgb", video), store.read("audio", video)
    assert len(rgb) == len(audio) == 14  # one row a second of either: else readers see corruption
    assert (store.features["rgb"].shape, store.features["audio"].shape) == ((1024,), (128,))
    assert [len(np.unique(track.values)) > 20 for track in (rgb, audio)] == [True, True]
    export_youtube8m(store, "tfrecords")
    again = FeatureStore.create("again.mmf")
    import_youtube8m(again, ["tfrecords"])
    again.refresh()
    for name, track in (("rgb", rgb), ("audio", audio)):
        np.testing.assert_array_equal(again.read(name, video).values, track.values)


def test_no_more_rows_than_the_limit(matrices, shared_data):
    backbones = ("rgb=hog,limit=3", "audio=logmel,limit=3")
    requests = asked(preset=None, backbone=backbones, weights=())
    extract(shared_data / "videos" / CLIP, "own.mmf", requests)
    store = FeatureStore("own.mmf")
    (video,) = store.videos()["video_id"].to_pylist()
    assert [len(store.read(name, video)) for name in ("rgb", "audio")] == [3, 3]


def test_its_codes_of_a_real_row_lose_half_a_step_at_most(shared_data):
    with np.load(shared_data / "yt8m" / "sports1m_frame.npz") as arrays:
        whitened = arrays["pca"].astype(np.float32)
    made = FeatureSpec(
        name="rgb", modality="rgb", shape=(1024,), dtype="uint8", rate=1.0, recipe={}
    )
    codes = made.encode(whitened[None])
    expected = [min(max(int((x + 2) * 255 / 4), 0), 255) for x in whitened.astype(float)]
    assert codes[0].tolist() == expected  # int() truncates, as MediaPipe does
    inside = np.abs(whitened) < 2
    lost = (made.decode(codes)[0] - whitened)[inside]
    assert np.abs(lost).max() <= 4 / 255 / 2 + 1e-4
    assert abs(lost.mean()) < 5e-4  # rounding instead would add 0.008
