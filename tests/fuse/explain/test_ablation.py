"""What is lost without a modality: as it is evaluated, and on the same items."""

import numpy as np
import pytest

from mmf import MmfError
from mmf.fuse import evaluate
from mmf.fuse.explain.ablation import ALL, ablate, shuffled
from mmf.store import FeatureStore, Item


def by_change(ablation):
    return {(one.modality, one.how): one for one in ablation.rows}


def test_a_store_without_labels_is_refused(bits, bits_store, tmp_path):
    bare = FeatureStore.create(tmp_path / "bare")
    for name, spec in bits_store.features.items():
        bare.add(spec, [bits_store.read(name, "v0000")])
    with pytest.raises(MmfError, match="split 'test' has no item"):
        ablate(bits / "mixer", bare.path)


def test_each_change_is_what_evaluation_measures(bits):
    found = ablate(bits / "mixer", resamples=50, device="cpu")
    changes, run = by_change(found), bits / "mixer"
    assert set(changes) == {
        ("", ""), (ALL, "shuffled"),
        *((m, how) for m in ("rgb", "audio") for how in ("zeroed", "missing", "shuffled")),
    }  # fmt: skip
    for change, options in {
        ("", ""): {},
        ("audio", "zeroed"): {"zero": ("audio",)},
        ("rgb", "missing"): {"without": ("rgb",)},
    }.items():
        measured = evaluate(run, device="cpu", **options)
        one = changes[change]
        assert one.items == measured["items"]
        for name, value in one.metrics.items():
            assert value == pytest.approx(measured[name], nan_ok=True)
    one = changes["audio", "zeroed"]
    assert one.lost["accuracy"] == changes["", ""].metrics["accuracy"] - one.metrics["accuracy"]
    low, high = one.interval
    assert low <= one.lost["accuracy"] <= high
    assert low < high
    again = evaluate(run, device="cpu")  # the network is as it was
    assert again["accuracy"] == changes["", ""].metrics["accuracy"]


def test_a_mean_over_time_loses_nothing_when_rows_are_shuffled(bits):
    found = by_change(ablate(bits / "linear", resamples=20, device="cpu"))
    for modality in ("rgb", "audio", ALL):
        one = found[modality, "shuffled"]
        assert one.lost["accuracy"] == 0
        assert one.interval == (0, 0)
        assert one.lost["loss"] == pytest.approx(0, abs=1e-6)
    mixed = by_change(ablate(bits / "mixer", resamples=20, device="cpu"))
    assert abs(mixed[ALL, "shuffled"].lost["loss"]) > 1e-6  # for it, order is another input


def test_rows_are_shuffled_within_their_item_and_alike_in_any_company(bits_store):
    items = [Item(video_id=v) for v in ("v0003", "v0007", "short", "silent")]
    batch = bits_store.batch(items, ["audio", "rgb"], label_set=None)
    other = shuffled(batch, features=["audio"], seed=3)
    assert other.values["rgb"] is batch.values["rgb"]
    moved = False
    for i in range(len(items)):
        before, after = batch.values["audio"][i], other.values["audio"][i]
        moved |= not np.array_equal(before, after)
        assert sorted(map(tuple, before)) == sorted(map(tuple, after))
        n = batch.lengths["audio"][i]
        assert not after[n:].any()
    assert moved
    alone = bits_store.batch(items[1:2], ["audio"], label_set=None)
    n = alone.lengths["audio"][0]
    again = shuffled(alone, features=["audio"], seed=3).values["audio"][0, :n]
    np.testing.assert_array_equal(again, other.values["audio"][1, :n])


def test_the_classes_that_lose_most_come_first(bits):
    found = ablate(bits / "mixer", resamples=20, device="cpu")
    table = found.by_class().to_pylist()
    lost = [row["ap_lost"] for row in table]
    assert lost == sorted(lost, reverse=True)
    assert {row["class"] for row in table} == set(found.classes)
    whole = found.rows[0].ap
    top = table[0]
    assert top["ap"] + top["ap_lost"] == pytest.approx(whole[found.classes.index(top["class"])])


def test_a_run_that_decides_is_measured_by_its_own_decisions(runs):
    whole = ablate(runs / "policy", resamples=20, device="cpu").rows[0]
    measured = evaluate(runs / "policy", device="cpu")
    assert whole.metrics["loss"] == pytest.approx(measured["loss"])


def test_of_a_single_feature_none_can_be_missing(bits):
    found = by_change(ablate(bits / "alone", resamples=20, device="cpu"))
    assert set(found) == {("", ""), ("audio", "zeroed"), ("audio", "shuffled")}


def test_items_that_have_nothing_else_are_left_out_where_a_modality_is_missing(bits):
    found = ablate(bits / "mixer", split="odd", resamples=20, device="cpu")
    changes = by_change(found)
    assert changes["", ""].items == 2  # silent and short; bare has no label
    assert changes["rgb", "missing"].items == 1
    table = found.table().to_pylist()
    assert [row["items"] for row in table if row["how"] == "missing"] == [2, 1]
