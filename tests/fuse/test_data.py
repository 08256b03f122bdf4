"""Store batches as tensors: dequantised on the device, masked, never zeros that count."""

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse.data import choose_device, feature_rows, inputs
from mmf.store import FeatureSpec, FeatureStore, Item, Track

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """v1 has 3 rows of codes and 2 of half; v2 has 1 row of codes and no half."""
    store = FeatureStore.create(tmp_path / "feats")
    codes = FeatureSpec(name="codes", modality="rgb", shape=(2,), dtype="uint8")
    half = FeatureSpec(name="half", modality="audio", shape=(2, 3))
    tracks = [
        Track(video_id=v, values=np.arange(2 * n, dtype=np.uint8).reshape(n, 2), times=range(n))
        for v, n in (("v1", 3), ("v2", 1))
    ]
    store.add(codes, tracks)
    store.add(half, [Track(video_id="v1", values=np.ones((2, 2, 3)), times=[0, 1])])
    return store


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(MmfError, match="device"):
        choose_device(name)


def test_codes_become_numbers_and_padding_becomes_zero(store):
    batch = store.batch(
        [Item(video_id="v1"), Item(video_id="v2")], ("codes", "half"), label_set=None
    )
    found = inputs(batch, store.features, CPU)
    assert found.features["codes"].dtype == torch.float32
    wanted = torch.from_numpy(store.read("codes", "v1").values)
    assert torch.equal(found.features["codes"][0], wanted)
    assert wanted.min() < -1.9  # code 0 is not the number 0
    assert torch.equal(found.features["codes"][1, 1:], torch.zeros(2, 2))
    assert found.masks["codes"].tolist() == [[True] * 3, [True, False, False]]


def test_a_missing_feature_is_masked_for_all_steps(store):
    batch = store.batch(
        [Item(video_id="v1"), Item(video_id="v2")], ("codes", "half"), label_set=None
    )
    found = inputs(batch, store.features, CPU)
    assert found.masks["half"].tolist() == [[True, True], [False, False]]
    assert found.features["half"].shape == (2, 2, 2, 3)


def test_an_item_without_a_row_is_unrated(store):
    store.label({"v1": ["x"], "v2": ["y"], "v3": ["x"]})
    batch = store.batch(store.items(), ("codes", "half"))
    assert inputs(batch, store.features, CPU).rated.any(1).tolist() == [True, True, False]


def test_the_rows_of_a_feature_are_those_that_are_there(store):
    items = [Item(video_id="v1", labels=(0,)), Item(video_id="v2")]
    (rows,) = feature_rows(store, items, store.features["half"], 300)
    assert torch.equal(rows, torch.ones(4, 3))  # two steps of two cells
    (rows,) = feature_rows(store, items, store.features["codes"], 300)
    assert rows.shape == (4, 2)


def test_items_are_numbered_by_their_videos_as_these_first_appear(store):
    items = [
        Item(video_id=v, start=float(i), end=i + 1.0) for i, v in enumerate(["v2", "v1", "v2"])
    ]
    batch = store.batch(items, ("codes",), label_set=None)
    assert inputs(batch, {"codes": store.features["codes"]}, CPU).videos.tolist() == [0, 1, 0]
