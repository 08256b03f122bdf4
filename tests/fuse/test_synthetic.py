"""Made features have the asked shape, repeat from their seed, and hold what was planted."""

import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mmf import MmfError, UnknownName
from mmf.fuse import synthetic
from mmf.fuse.planted import MODALITIES
from mmf.fuse.synthetic import YOUTUBE8M, Synthetic, SyntheticOptions, make

FEW = {"train": 12, "val": 4, "test": 6, "rgb": 24, "audio": 16}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train": -1}, "train = -1"),
        ({"noise": -0.5}, "noise = -0.5"),
        ({"flips": 1.2}, "flips = 1.2: expected a share between 0 and 1"),
        ({"classes": 1}, "classes = 1: expected at least 2"),
        ({"fewest": 61}, "fewest = 61: expected 1 to 60"),
        ({"latent": 33}, "latent = 33: expected 1 to 32"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(MmfError, match=said):
        SyntheticOptions(**options)


def test_unknown_names_suggest_near_ones():
    with pytest.raises(UnknownName, match="Did you mean 'product'"):
        SyntheticOptions(structure="products")
    with pytest.raises(UnknownName, match="Did you mean 'rank'"):
        Synthetic(SyntheticOptions(options={"ranks": 2}))
    with pytest.raises(UnknownName, match="int32"):
        SyntheticOptions(dtype="int32")


@pytest.mark.parametrize(
    ("structure", "options", "needed"),
    [("local", {"times": 2, "far": 8}, 32), ("segments", {"segments": 10}, 10)],
)
def test_videos_that_are_too_short_for_what_is_planted_are_refused(structure, options, needed):
    def made(fewest: int) -> Synthetic:
        return Synthetic(
            SyntheticOptions(structure=structure, options=options, fewest=fewest, rows=needed)
        )

    with pytest.raises(MmfError, match=f"fewest = {needed - 1}: expected at least {needed} rows"):
        made(needed - 1)
    assert all(len(made(needed)[i].rows["rgb"]) == needed for i in range(30))


def test_a_store_that_has_features_is_left_as_it_is(tmp_path):
    store = make(SyntheticOptions(**FEW), tmp_path / "a.mmf")
    before = store.content_hash()
    with pytest.raises(MmfError, match="has features already"):
        make(SyntheticOptions(**FEW, seed=1), tmp_path / "a.mmf")
    store.refresh()
    assert store.content_hash() == before


@pytest.mark.parametrize("structure", ["product", "local", "segments"])
def test_the_store_has_the_asked_sizes(structure, tmp_path):
    options = SyntheticOptions(structure=structure, rows=50, classes=5, **FEW)
    store = make(options, tmp_path / "a.mmf")
    assert [len(store.items(split)) for split in ("train", "val", "test")] == [12, 4, 6]
    assert len(store.classes()) == 5
    assert {n: s.shape for n, s in store.features.items()} == {"rgb": (24,), "audio": (16,)}
    (batch,) = store.batches(("rgb", "audio"), batch_size=22, shuffle=False)
    assert batch.values["rgb"].dtype == np.uint8
    np.testing.assert_array_equal(batch.lengths["rgb"], batch.lengths["audio"])
    assert 40 <= batch.lengths["rgb"].min() < batch.lengths["rgb"].max() <= 50
    if structure == "segments":
        np.testing.assert_array_equal(batch.labels.sum(1), 1)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_store_holds_the_videos_rows_and_labels(dtype, tmp_path):
    options = SyntheticOptions(**FEW, dtype=dtype)
    store = make(options, tmp_path / "a.mmf")
    labels = {item.video_id: item.labels for item in store.items()}
    for video in Synthetic(options):
        for modality, rows in video.rows.items():
            track = store.read(modality, video.video_id)
            near = 4 / 255 if dtype == "uint8" else 0
            np.testing.assert_allclose(track.values, rows.clip(-2, 2) if near else rows, atol=near)
            np.testing.assert_array_equal(track.times, np.arange(len(rows)))
        assert labels[video.video_id] == tuple(np.flatnonzero(video.labels))


def test_one_video_in_youtube8ms_shape():
    video = Synthetic(SyntheticOptions(**YOUTUBE8M, train=10**8))[10**8 - 1]
    steps = len(video.rows["rgb"])
    assert 120 <= steps <= 300
    assert video.rows["rgb"].shape == (steps, 1024)
    assert video.rows["audio"].shape == (steps, 128)
    assert video.labels.shape == (3862,)
    assert 0.7 < video.rows["rgb"].std() < 1
    assert (np.abs(video.rows["rgb"]) > 2).mean() < 0.05


def test_a_video_follows_from_the_seed_and_its_number(tmp_path):
    stores = [make(SyntheticOptions(**FEW, seed=s), tmp_path / f"{n}.mmf") for n, s in
              enumerate((3, 3, 4))]  # fmt: skip
    first, again, other = (store.content_hash() for store in stores)
    assert first == again != other
    small, large = (Synthetic(SyntheticOptions(train=n, seed=3)) for n in (5, 500))
    assert (small[7].split, large[7].split) == ("val", "train")
    for modality in MODALITIES:
        np.testing.assert_array_equal(small[7].rows[modality], large[7].rows[modality])
    assert not np.array_equal(small[7].rows["rgb"][:40], small[8].rows["rgb"][:40])
    with pytest.raises(IndexError, match="video 755"):
        small[755]


def test_the_rows_of_one_bucket_are_held_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "_BUCKET_BYTES", 200_000)
    options = SyntheticOptions(**FEW | {"train": 150, "rgb": 512})

    def peak(made: SyntheticOptions, name: str) -> int:
        tracemalloc.start()
        make(made, tmp_path / name)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(options, "warm.mmf")
    assert peak(options, "a.mmf") < 2.5e6 < 160 * 40 * 528  # bytes of all the rows


@pytest.mark.parametrize("structure", ["product", "local", "segments"])
def test_so_many_labels_are_wrong_and_no_more(structure):
    options = SyntheticOptions(structure=structure, train=300, val=0, test=0, flips=0.2, rgb=16,
                               audio=16, latent=4)  # fmt: skip
    made = list(Synthetic(options))
    labels, true = (np.array(x) for x in zip(*((v.labels, v.planted.labels) for v in made),
                                             strict=True))  # fmt: skip
    if structure == "segments":
        assert (labels.sum(1) == 1).all()
        assert (labels.argmax(1) != true.argmax(1)).mean() == pytest.approx(0.2, abs=0.07)
    else:
        assert (labels != true).mean() == pytest.approx(0.2, abs=0.02)


def test_without_flips_the_truth_says_every_label():
    made = Synthetic(SyntheticOptions(train=50, val=0, test=0, flips=0.0))
    assert all((v.labels == (v.planted.truth["z"] > 0)).all() for v in made)


def test_a_modality_alone_and_a_linear_rule_on_both_are_at_chance_on_products():
    options = SyntheticOptions(train=1500, val=0, test=750, rows=60, fewest=60, rgb=16, audio=16,
                               latent=4, classes=4)  # fmt: skip
    made = list(Synthetic(options))
    rgb, audio = (np.array([v.rows[m].mean(0) for v in made]) for m in MODALITIES)
    labels = np.array([v.labels for v in made])
    pairs = np.einsum("ni,nj->nij", rgb, audio).reshape(len(made), -1)
    both = np.concatenate([rgb, audio], 1)
    for x, low, high in [(x, 0.46, 0.54) for x in (rgb, audio, both)] + [(pairs, 0.64, 0.96)]:
        found = [
            LogisticRegression(C=0.1, max_iter=500)
            .fit(x[:1500], y[:1500])
            .score(x[1500:], y[1500:])
            for y in labels.T
        ]
        assert low < np.mean(found) < high


def test_carriers_are_intervals_of_the_store(tmp_path):
    options = SyntheticOptions(structure="segments", options={"segments": 7}, **FEW)
    store = make(options, tmp_path / "a.mmf")
    assert store.classes("carriers") == MODALITIES
    found = {(i.video_id, i.start, i.end): i.labels for i in store.items(label_set="carriers")}
    assert len(found) == 7 * len(Synthetic(options))
    assert {i.split for i in store.items(label_set="carriers")} == {"train", "val", "test"}
    for video in Synthetic(options):
        truth = video.planted.truth
        said = np.full(len(truth["segment"]), -2)
        for (video_id, start, end), labels in found.items():
            if video_id == video.video_id:
                said[int(start) : int(end)] = labels[0] if labels else -1
        np.testing.assert_array_equal(said, truth["carrier"][truth["segment"]])
