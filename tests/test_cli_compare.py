"""`mmf compare` and the recipes, as a user types them."""

import csv
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest

from mmf import MmfError, cli
from mmf.fuse.recipes import RECIPES
from mmf.store import FeatureSpec, FeatureStore, Track

VARYING = {"seconds per epoch", "milliseconds per item", "bytes on disk"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a store of two features that only together tell the class."""
    random, store = np.random.default_rng(0), FeatureStore.create(tmp_path / "features.mmf")
    videos = {f"v{i:02}": (i % 2, i // 2 % 2) for i in range(40)}
    for which, name in enumerate(("rgb", "audio")):
        spec = FeatureSpec(name=name, modality=name, shape=(3,), dtype="float32")
        rows = {v: bits[which] + 0.1 * random.normal(size=(2, 3)) for v, bits in videos.items()}
        store.add(spec, [Track(video_id=v, values=r, times=[0, 1]) for v, r in rows.items()])
    five = ("train", "train", "train", "val", "test")
    split = {v: five[i // 4 % 5] for i, v in enumerate(videos)}
    store.label({v: ["same" if a == b else "other"] for v, (a, b) in videos.items()}, split=split)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mmf(line: str) -> None:
    assert not cli.cli.main(line.split(), standalone_mode=False, prog_name="mmf")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--fusions mbf", "unknown fusion 'mbf'. Did you mean"),
        ("--grid lr", "--grid 'lr': expected KEY=VALUE"),
        ("--grid lr=fast,slow", "lr = 'fast': expected float"),
        ("--set netvlad.clusters=8", "no row has 'netvlad'"),
        ("--train-videos many", "--train-videos 'many': expected numbers"),
        ("--recipe mixar", "unknown recipe 'mixar'. Did you mean 'mixer'"),
        ("--recipe mfb_mean --fusions mfb", "--recipe has rows of its own: leave --fusions out"),
        ("--recipe gmsa --feature-sets rgb,audio", "--recipe takes one set of features"),
        ("--store nowhere.mmf", "no feature store at 'nowhere.mmf'"),
        ("--recipe gmsa --store nowhere.mmf", "no feature store at 'nowhere.mmf'"),
        ("--seeds 0", "0 seeds: expected at least 1"),
    ],
)
def test_an_error_is_one_sentence_and_leaves_no_folder(folder, line, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mmf", "compare", *line.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert not (folder / "comparison").exists()


def test_compare_prints_a_table_and_writes_it_with_the_curves(folder, capsys):
    line = "compare --fusions single,mfb --seeds 2 --steps 4 --grid mfb.outputs=4,8 --device cpu"
    mmf(line)
    first = capsys.readouterr()
    assert "8 runs in comparison/runs" in first.err
    for word in ("single-rgb", "single-audio", "mfb", "mfb.outputs=", "Chosen by the best mean"):
        assert word in first.out
    assert {p.name for p in (folder / "comparison").iterdir()} >= {
        *("compare.json", "runs", "table.csv", "table.md"),
    }
    asked = json.loads((folder / "comparison" / "compare.json").read_text())
    assert [row["name"] for row in asked["rows"]] == ["single-audio", "single-rgb", "mfb"]
    before = (folder / "comparison" / "table.csv").read_bytes()
    mmf(line)
    assert (folder / "comparison" / "table.csv").read_bytes() == before


def test_values_of_a_grid_are_json_where_they_are_and_words_elsewhere(folder):
    mmf(
        "compare --seeds 1 --steps 1 --device cpu --grid optimiser=adam,sgd "
        '--grid l2={"head":0.1},{} --set dropout=0.0 --out c'
    )
    (row,) = json.loads((folder / "c" / "compare.json").read_text())["rows"]
    found = {(c["config"]["optimiser"], str(c["config"]["l2"])) for c in row["cells"]}
    assert found == {(o, l2) for o in ("adam", "sgd") for l2 in ("{'head': 0.1}", "{}")}


def test_a_recipe_is_listed_compared_and_trained(folder, capsys):
    mmf("list recipes")
    listed = capsys.readouterr().out
    assert all(name in listed for name in RECIPES)
    assert "gate_op-tp30" in listed
    mmf(
        "compare --recipe mfb_mean --steps 2 --seeds 1 --device cpu --set mfb.outputs=4 "
        "--set fc_concat.outputs=4 --set batch_size=8"
    )
    printed = capsys.readouterr().out
    assert "0.833" in printed
    assert "Published: Liu, Yuan and Wang 2018, table 1" in printed
    mmf("train --recipe mfb_mean:audio --features rgb,audio --steps 2 --batch-size 8 --out run")
    config = json.loads((folder / "run" / "config.json").read_text())["config"]
    assert (config["features"], config["head"], config["lr"]) == (["audio"], "moe", 2e-4)
    assert (config["steps"], config["batch_size"]) == (2, 8)


def test_a_row_that_takes_runs_of_others_says_so_when_trained_alone(folder):
    with pytest.raises(MmfError, match="trained runs of the rows rgb, flow: `mmf compare"):
        mmf("train --recipe early_late:late --features rgb,audio --out late")
    assert not (folder / "late").exists()


def test_torchrun_is_refused(folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MmfError, match="one process; torchrun is for `mmf train`"):
        mmf("compare")


def test_what_every_run_warns_of_is_said_once(folder, caplog):
    FeatureStore(folder / "features.mmf").label({"gone": ["same"]}, split={"gone": "train"})
    with caplog.at_level(logging.WARNING):
        mmf("compare --seeds 2 --steps 1 --device cpu")
    said = [r.getMessage() for r in caplog.records if "have no rows" in r.getMessage()]
    assert len(said) == 1


def test_what_rows_owe_to_each_modality_is_told_with_its_spread_over_seeds(folder, capsys):
    mmf("compare --fusions concat,policy --seeds 2 --steps 1 --device cpu")
    mmf("explain comparison shares --device cpu --out owed")
    said = capsys.readouterr()
    assert "policy:" in said.err
    table = pyarrow.csv.read_csv("owed/shares.csv").to_pylist()
    assert {row["row"] for row in table} == {"concat"}
    assert {row["runs"] for row in table} == {2}
    one = table[0]["class"]
    assert sum(row["share"] for row in table if row["class"] == one) == pytest.approx(1)
    assert all(row["deviation"] >= 0 for row in table)
    mmf("explain comparison/runs/concat/seed-0 shares --device cpu --out alone")
    assert {"alone", "last"} <= set(pyarrow.csv.read_csv("alone/shares.csv").column_names)
    assert Path("alone/shares.png").stat().st_size > 1000


def test_a_cluster_gives_the_table_of_one_process(folder):
    line = "compare --fusions single --seeds 1 --steps 4 --device cpu"
    mmf(f"{line} --out here")
    words = f"{line} --out there --scheduler local --workers 2".split()
    command = [sys.executable, "-m", "mmf.cli", *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "0 left, 2 workers" in run.stderr
    tables = [
        [
            {k: v for k, v in row.items() if k.partition(" (")[0] not in VARYING}
            for row in csv.DictReader((folder / out / "table.csv").read_text().splitlines())
        ]
        for out in ("here", "there")
    ]
    assert tables[0] == tables[1]
    assert tables[0][0].keys() > {"row", "accuracy"}
    for run in (folder / "here").glob("runs/*/seed-*"):
        other = folder / "there" / run.relative_to(folder / "here")
        assert (run / "done.json").read_bytes() == (other / "done.json").read_bytes()


@pytest.mark.parametrize("scheduler", ["tcp://127.0.0.1:1", "tcp://10.0.0.1:8786"])
def test_a_scheduler_that_cannot_be_used_is_said(folder, scheduler, monkeypatch):
    monkeypatch.setattr("mmf.cluster.connect.CONNECT_TIMEOUT", 0.5)
    with pytest.raises(MmfError, match=r"no scheduler answers at|over plain TCP"):
        mmf(f"compare --steps 1 --scheduler {scheduler}")
