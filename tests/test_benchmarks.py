"""Small forms of the long harnesses, so that they cannot rot."""

import importlib.util
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmf.extract.sample_set import make_sample_set
from mmf.fuse import TrainConfig, evaluate, train

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda p: p.stem)
def test_every_benchmark_says_how_it_is_run(path):
    assert f"python benchmarks/{path.name}" in load(path.stem).__doc__


def test_flow_is_timed_and_compared_with_float64(capsys):
    options = Namespace(official=None, threads=1, repeat=1, frames=1, exact=True)
    load("flow").measure("scale1", 32, 48, options)
    line, theirs, ours = capsys.readouterr().out.splitlines()
    name, size, *numbers = line.split()
    assert (name, size) == ("scale1", "32x48")
    assert all(float(number) > 0 for number in numbers)
    for form in (theirs, ours):
        assert 0 < float(form.split()[1]) < 0.1  # pixels


def test_the_metrics_of_many_items_are_measured(capsys, monkeypatch):
    words = ["metrics.py", "--items", "300", "--classes", "40", "--batch", "128"]
    monkeypatch.setattr("sys.argv", words)
    load("metrics").main()
    found = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines()[:5])
    assert 0 < float(found["map@20"]) < 1
    assert 0 < float(found["map"]) < 1


def test_mosi_goes_in_through_add_and_is_split_by_video(shared_data, tmp_path):
    mosi = load("mosi")
    table = mosi.read(shared_data / "features/mosi_bclstm/mosi.npz")
    store = mosi.store_features(table, tmp_path / "mosi.mmf")
    splits = store.catalog.splits("default")
    for split in ("train", "test"):
        videos = set(table["video_id"][table["split"] == split])
        given = {splits[v] for v in videos}
        assert given == {split}  # val is a part of train, taken when training begins
    assert len(store.items("test")) == 752
    (batch,) = store.batches(("text",), "test", batch_size=752, shuffle=False)
    assert set(batch.lengths["text"]) == {1}
    rows = {i.id: batch.values["text"][n, 0] for n, i in enumerate(batch.items)}
    at = np.flatnonzero(table["split"] == "test")[3]
    segment = float(table["segment"][at])
    item = f"{table['video_id'][at]}@{segment - 0.5:g}-{segment + 0.5:g}"
    np.testing.assert_array_equal(rows[item], table["text"][at])

    config = TrainConfig(
        store=str(store.path), out=str(tmp_path / "run"), fusion="concat", epochs=3
    )
    assert evaluate(train(config))["accuracy"] > 0.70


def test_the_cost_of_an_import_is_measured_without_tensorflow():
    found = load("import_youtube8m").measure(videos=3, repeat=1, tensorflow="")
    assert set(found) == {"read + parse", "raw write + fsync", "import"}
    assert all(ms > 0 for ms in found.values())


def test_the_cost_of_writing_is_measured():
    found = load("write").measure(videos=3, repeat=1)
    assert set(found) == {"raw write + fsync", "store"}
    assert all(value > 0 for row in found.values() for value in row.values())


def test_a_papers_order_is_looked_for_on_made_features(tmp_path):
    synthetic = load("synthetic")
    one = replace(
        synthetic.shortened(synthetic.EXPERIMENTS["both"]),
        rows={name: synthetic.EXPERIMENTS["both"].rows[name] for name in ("rgb", "MFB")},
        claims=[("MFB", "rgb")],
        rates=(1e-2,),
        sizes=(80, 160),
    )
    lines = list(synthetic.run(one, range(2), tmp_path))
    assert lines[0] == "|  | 80 videos | 160 videos | parameters | learning rate |"
    table = {cells[0]: cells[1:] for cells in (line[2:].split(" | ") for line in lines[2:7])}
    assert list(table) == ["rgb", "MFB", *one.rules]
    assert all(0 < float(cell.split(" ± ")[0]) < 1 for r in ("rgb", "MFB") for cell in table[r][:2])
    linear, _, truth = (float(table[rule][1].split(" ± ")[0]) for rule in one.rules)
    assert truth > 0.9 > linear > 0.6  # one label in twenty is wrong; half is said linearly
    assert [line.split(": ")[0] for line in lines[8:]] == [
        f"MFB > rgb of {size} videos" for size in (80, 160)
    ]


def test_a_difference_shows_where_its_interval_leaves_out_zero():
    synthetic = load("synthetic")
    one = replace(synthetic.EXPERIMENTS["product"], claims=[("a", "b"), ("b", "a"), ("a", "c")])
    found = {"a": [0.5, 0.6, 0.7], "b": [0.4, 0.5, 0.59], "c": [0.4, 0.7, 0.7]}
    lines = list(synthetic.said(one, {(row, None): values for row, values in found.items()}))
    assert lines == [
        "a > b: +0.103 ± 0.014 (3 of 3 seeds), shows.",
        "b > a: -0.103 ± 0.014 (0 of 3 seeds), does not show: the reverse does.",
        "a > c: +0.000 ± 0.248 (1 of 3 seeds), does not show.",
    ]


def test_a_policy_is_asked_what_it_finds_and_saves(capsys, tmp_path, monkeypatch):
    policy = load("policy")
    kept = ("all", "all_attention", "adamml", "with_noise", "attention")
    monkeypatch.setattr(policy, "ROWS", {name: policy.ROWS[name] for name in kept})
    found = policy.of_seed(0, quick=True)
    assert list(found) == ["all", "all_attention", "adamml", "drawn", "with_noise", "attention"]
    assert 0 < found["attention"]["gflops"] < found["all"]["gflops"]
    for name in ("all", "all_attention"):
        assert found[name]["gflops"] == pytest.approx(2 * 145.2)  # of multiply-adds, as published
        assert found[name]["used_rgb"] == found[name]["used_audio"] == 1
    assert set(found["with_noise"]) >= {"used_noise", "precision rgb", "recall audio"}
    low, high = policy._interval(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)


def test_a_policy_is_held_against_the_best_with_everything_on(capsys):
    policy = load("policy")
    names = [*policy.ROWS, "drawn"]
    gflops = {name: 100.0 if name in policy.EVERYTHING else 40.0 for name in names}
    right = dict.fromkeys(names, 0.5) | {"all_attention": 0.9, "adamml": 0.88}
    rows = {n: {"accuracy": right[n], "gflops": gflops[n]} for n in names}
    for name in ("with_noise", "attention_noise"):
        rows[name]["used_noise"] = 0.01
    policy.show([rows])
    said = capsys.readouterr().out
    assert "adamml: -2.0 points, 60% fewer GFLOPs than all_attention, the best with" in said
    assert "adamml: +38.0 points, 60% fewer GFLOPs than all\n" in said
    policy.show([rows, {n: row | {"accuracy": row["accuracy"] - 0.1} for n, row in rows.items()}])
    assert "adamml: -2.0 points (-2.0 to -2.0), 60% fewer" in capsys.readouterr().out


def test_asking_a_policy_gives_the_scores_of_everything(tmp_path, capsys, monkeypatch):
    clips = make_sample_set(tmp_path / "clips", clips=4)
    words = ["adaptive.py", str(clips), "--rates", "0.5", "--repeat", "1", "--backbone", "hog"]
    monkeypatch.setattr("sys.argv", words)
    load("adaptive").main()
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")]
    computed, every = map(int, cells[2].split(" of "))
    assert 0 < computed < every == 32
    assert float(cells[-2]) < 1e-5


def test_the_time_of_stencils_is_measured():
    found = load("stencils").measure(classes=2, restarts=2, steps=2)
    assert all(found[part] > 0 for part in ("stencils, s", "ranking items, s", "Shapley, s"))
    assert -1 <= found["Spearman"] <= 1


def test_the_time_of_pages_is_measured():
    found = load("report").measure(videos=24, classes=5)
    assert list(found)[1:] == ["a run, 12 items x 5 classes", "a store of 24 videos"]
    assert all(seconds > 0 for seconds, _ in found.values())
    assert all(1e6 < size < 10e6 for _, size in list(found.values())[1:])


def test_the_cost_of_a_cluster_is_measured():
    found = load("cluster").measure(videos=40, workers=1)
    assert found["ms of a video"] > 0
    assert 0 < found["bytes of a bucket's end"] < 1000


def test_local_sensitivity_is_held_against_the_same_network_before_it_learned(capsys):
    sensitivity = load("sensitivity")
    found = sensitivity.of_seed(0, quick=True)
    assert list(found) == ["baseline", "gate_op"]
    for one in found.values():
        assert 0 < one["S before"] < 1
        assert one["S learned"] == one["S after"] - one["S before"] != 0
    lower = {v: one | {"S after": one["S after"] - 0.9} for v, one in found.items()}
    sensitivity.show([found, lower])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| mean ± 95 % interval, n = 2 seeds | gap@20 | S before")
    assert lines[-3] == "S before of gate_op against the baseline's: higher."
