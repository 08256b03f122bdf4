"""Predictions: the same alone and in company, none where there is nothing to predict from."""

import csv
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mmf import MmfError
from mmf.fuse import TrainConfig, load, predict, train, write_predictions
from mmf.fuse.evaluation.thresholds import choose_thresholds
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.heads import HEADS
from mmf.fuse.inference.ensemble import Ensemble
from mmf.fuse.inference.prediction import predictions, thresholds_of
from mmf.fuse.inference.scoring import score
from mmf.fuse.losses import probabilities
from mmf.fuse.network import Network
from mmf.fuse.run import Run
from mmf.store import FeatureSpec, FeatureStore, Track


@pytest.fixture
def run(xor_store, tmp_path):
    return make_run(xor_store, tmp_path / "run")


def make_run(store, out, fusion="mfb", **options):
    features = ("a",) if fusion == "single" else ("a", "b")
    return train(
        TrainConfig(
            store=store.path,
            out=out,
            features=features,
            fusion=fusion,
            epochs=1,
            batch_size=16,
            device="cpu",
            **({"fusion_options": {"outputs": 8}} | options),
        )
    )


def test_predictions_of_nothing_are_refused(run, xor_store):
    with pytest.raises(MmfError, match="top = 0"):
        predict(run, xor_store.path, top=0)
    with pytest.raises(MmfError, match="split 'tset' has no item; splits: test, train, val"):
        predict(run, xor_store.path, "tset")


@pytest.mark.parametrize("name", ["out.txt", "out", "out.json"])
def test_an_unknown_kind_of_file_is_refused(run, xor_store, tmp_path, name):
    with pytest.raises(MmfError, match=r"expected a name in .csv or .parquet"):
        write_predictions(predict(run, xor_store.path, "test"), tmp_path / name)


def test_kaggles_format_refuses_classes_that_are_no_numbers(run, xor_store, tmp_path):
    with pytest.raises(MmfError, match="class '(other|same)' is no number"):
        write_predictions(predict(run, xor_store.path, "test"), tmp_path / "a.csv", kaggle=True)


def test_a_prediction_is_the_networks_probability_best_first(run, xor_store):
    table = predict(run, xor_store.path, "test", device="cpu")
    assert table["item"].to_pylist() == [i.id for i in xor_store.items("test")]
    network = load(run)
    for row in table.to_pylist():
        rows = {n: torch.from_numpy(xor_store.read(n, row["item"]).values)[None] for n in "ab"}
        wanted = network(rows).softmax(1)[0].detach().numpy()
        assert row["scores"] == pytest.approx(np.sort(wanted)[::-1].tolist(), abs=1e-6)
        assert row["classes"][0] == network.classes[wanted.argmax()]
        assert row["reason"] is None
    assert predict(run, xor_store.path, "test", top=1)["scores"].to_pylist()[0] == pytest.approx(
        table["scores"].to_pylist()[0][:1]
    )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_clip_alone_has_exactly_the_scores_it_has_in_its_store(
    xor_store, tmp_path, fusion, small
):
    run = make_run(xor_store, tmp_path / "run", fusion, fusion_options=small(FUSIONS, fusion))
    together = {r["item"]: r for r in predict(run, xor_store.path, device="cpu").to_pylist()}
    for video in ("v00", "v08", "v33"):
        alone = FeatureStore.create(tmp_path / video)
        for name, spec in xor_store.features.items():
            alone.add(spec, [xor_store.read(name, video)])
        (row,) = predict(run, alone.path, device="cpu").to_pylist()
        assert row == together[video]


@pytest.mark.parametrize("loss", ["ce", "bce"])
@pytest.mark.parametrize("head", HEADS)
def test_an_item_scores_the_same_bits_alone_and_in_company(tmp_path, loss, head):
    store = FeatureStore.create(tmp_path / "wide")
    spec = FeatureSpec(name="a", modality="a", shape=(273,))
    generator = np.random.default_rng(0)
    lengths = [1 + i % 11 for i in range(40)]
    store.add(
        spec,
        [
            Track(video_id=f"v{i:02}", values=generator.normal(size=(n, 273)), times=range(n))
            for i, n in enumerate(lengths)
        ],
    )
    config = TrainConfig(features=("a",), head=head)
    network = Network(config, {"a": (273,)}, ("x", "y", "z"), loss)
    items = store.all_items()

    def scores(some):
        parts = score(network, store, some, {"a": spec}, config, label_set=None)
        found = [probabilities(torch.from_numpy(p.logits), loss).float().numpy() for p in parts]
        return np.concatenate(found)

    together = scores(items)
    assert np.array_equal(np.concatenate([scores([item]) for item in items]), together)
    assert np.array_equal(scores(items[::-1])[::-1], together)


def test_a_video_without_rows_has_a_reason_and_no_scores(run, xor_store, tmp_path):
    writer = xor_store.writer()
    spec = xor_store.create_feature(FeatureSpec(name="other", modality="x", shape=(1,)))
    writer.put(spec.name, Track(video_id="w1", values=np.ones((1, 1)), times=[0]))
    writer.commit()
    xor_store.label({"w2": ["same"], ("v00", 500.0, 501.0): ["same"]})
    rows = {r["item"]: r for r in predict(run, xor_store.path).to_pylist()}
    for item in ("w1", "w2", "v00@500-501"):
        assert rows[item]["reason"] == "no rows of a, b"
        assert rows[item]["scores"] is None
    assert len(rows) == 60 + 3


def test_intervals_are_predicted_from_their_own_rows(xor_store, tmp_path):
    xor_store.label({("v05", 0.0, 2.5): ["same"], ("v05", 2.5, 5.5): ["other"]}, name="parts")
    run = make_run(xor_store, tmp_path / "run")
    opened = load(run)
    track = xor_store.read("a", "v05")
    assert len(track) > 3
    items = xor_store.items(label_set="parts")
    (part,) = score(
        opened, xor_store, items, xor_store.features, Run.open(run).config, label_set="parts"
    )
    for logits, low, high in zip(part.logits, (0, 2.5), (2.5, 5.5), strict=True):
        rows = {}
        for name in "ab":
            track = xor_store.read(name, "v05")
            inside = (track.times >= low) & (track.times < high)
            rows[name] = torch.from_numpy(track.values[inside])[None]
        assert np.allclose(opened(rows)[0].detach().numpy(), logits, atol=1e-6)


def test_csv_and_parquet_hold_the_table(run, xor_store, tmp_path):
    xor_store.label({"w2": ["same"]}, split={"w2": "test"})
    table = predict(run, xor_store.path, "test")
    write_predictions(table, tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(table)
    write_predictions(table, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12 * 2 + 1
    for item, group in itertools.groupby(lines, lambda line: line["item"]):
        of_item = list(group)
        row = next(r for r in table.to_pylist() if r["item"] == item)
        if item == "w2":
            assert of_item[0]["reason"] == "no rows of a, b"
            assert of_item[0]["score"] == ""
            continue
        assert [line["class"] for line in of_item] == row["classes"]
        assert [np.float32(line["score"]) for line in of_item] == row["scores"]
        assert [line["rank"] for line in of_item] == ["1", "2"]


def test_kaggles_format_is_written_as_the_challenge_reads_it(xor_store, tmp_path):
    numbers = {"same": "12", "other": "3"}
    classes = xor_store.classes()
    items = xor_store.items()
    xor_store.label(
        {i.video_id: [numbers[classes[i.labels[0]]]] for i in items},
        split={i.video_id: i.split for i in items},
        name="numbers",
    )
    run = make_run(xor_store, tmp_path / "run", label_set="numbers")
    table = predict(run, xor_store.path, "test")
    write_predictions(table, tmp_path / "a.csv", kaggle=True)
    header, *lines = (tmp_path / "a.csv").read_text().splitlines()
    assert header == "VideoId,LabelConfidencePairs"
    assert len(lines) == 12
    for line, row in zip(lines, table.to_pylist(), strict=True):
        video, pairs = line.split(",")
        assert video == row["item"]
        fields = pairs.split(" ")
        assert fields[::2] == row["classes"]
        assert [float(f) for f in fields[1::2]] == pytest.approx(row["scores"], rel=1e-5)


def test_with_thresholds_a_column_says_which_classes_reach_theirs(run, xor_store, tmp_path):
    assert "above" not in predict(run, xor_store.path, "test").column_names
    chosen = choose_thresholds(run, device="cpu")
    xor_store.label({"w2": ["same"]}, split={"w2": "test"})
    table = predict(run, xor_store.path, "test", device="cpu")
    rows = table.to_pylist()
    for row in rows[:-1]:
        pairs = zip(row["classes"], row["scores"], strict=True)
        wanted = [chosen[c] is not None and s >= np.float32(chosen[c]) for c, s in pairs]
        assert row["above"] == wanted
    assert {above for row in rows[:-1] for above in row["above"]} == {True, False}
    assert rows[-1]["above"] is None
    write_predictions(table, tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(table)
    write_predictions([table[:5], table[5:]], tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    flat = [int(above) for row in rows[:-1] for above in row["above"]]
    assert [line["above"] for line in lines] == [*map(str, flat), ""]
    assert lines[-1]["reason"] == "no rows of a, b"


def test_the_mean_of_several_runs_has_no_thresholds(run, xor_store):
    choose_thresholds(run, device="cpu")
    assert thresholds_of(Ensemble([run], device="cpu")) is not None
    assert thresholds_of(Ensemble([run, run], device="cpu")) is None


def test_many_items_come_in_parts(run, xor_store, monkeypatch):
    monkeypatch.setattr("mmf.fuse.inference.prediction._ROWS", 32)
    ensemble = Ensemble([run], device="cpu")
    parts = list(predictions(ensemble, xor_store, [xor_store.all_items()]))
    assert [len(part) for part in parts] == [32, 28]
    monkeypatch.undo()
    assert pa.concat_tables(parts).equals(predict(run, xor_store.path, device="cpu"))


def test_without_a_split_every_video_that_the_store_knows_is_an_item(run, xor_store):
    xor_store.label({"only labelled": ["same"]}, name="default")
    xor_store.label({"elsewhere": ["same"]}, name="other", split={"only split": "test"})
    xor_store.label({}, split={"in a split": "test"})
    found = predict(run, xor_store.path)["video_id"].to_pylist()
    assert sorted(found) == xor_store.videos()["video_id"].to_pylist()
