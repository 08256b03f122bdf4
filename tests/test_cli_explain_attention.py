"""`mmf explain RUN attention`, `sensitivity` and `similarity`: what is printed and written."""

from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mmf import MmfError, cli
from mmf.extract.sample_set import make_sample_set

GMSA = ("heads=2", "extent=1", "steps=16")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Clips of 4 seconds, their features, a GMSA, a transformer, a mean and a comparison."""
    folder = tmp_path_factory.mktemp("explain")
    make_sample_set(folder / "clips", clips=12)
    words = ("--store", str(folder / "feats"))
    run("extract", str(folder / "clips"), *words, "--modality", "rgb", "--modality", "audio")
    options = [w for option in GMSA for w in ("--fusion-option", option)]
    given = (*words, "--steps", "1", "--device", "cpu")
    run("train", *given, "--out", str(folder / "gmsa"), "--fusion", "gmsa", *options)
    run("train", *given, "--out", str(folder / "mean"), "--fusion", "concat")
    options = ("hidden=8", "layers=2", "heads=2")
    options = [w for option in options for w in ("--fusion-option", option)]
    run("train", *given, "--out", str(folder / "bert"), "--fusion", "mmf_transformer", *options)
    return folder


def run(*words: str) -> None:
    assert not cli.cli.main(list(words), prog_name="mmf", standalone_mode=False)


@pytest.fixture
def explain(demo, tmp_path, capsys):
    def typed(what: str, part: str, *words: str) -> str:
        capsys.readouterr()
        run("explain", str(demo / what), part, "--out", str(tmp_path / "out"), *words)
        return capsys.readouterr().out

    return typed


def test_what_cannot_be_explained_is_said(explain):
    with pytest.raises(MmfError, match="no attention between an item's steps.*--aggregate gmsa"):
        explain("mean", "attention")
    for name in ("mean", "bert"):
        with pytest.raises(MmfError, match="no layer of GMSA"):
            explain(name, "sensitivity")
    for part in ("attention", "sensitivity", "similarity"):
        with pytest.raises(MmfError, match="--videos 'nowhere' is no folder"):
            explain("gmsa", part, "--videos", "nowhere")
        with pytest.raises(MmfError, match="unknown item 'x'"):
            explain("gmsa", part, "--items", "x")


def test_attention_is_written_and_drawn_below_frames(explain, tmp_path):
    pytest.importorskip("matplotlib")
    said = explain("gmsa", "attention", "--split", "train", "--most", "2")
    assert said.splitlines()[-1].endswith("heads.parquet, profiles.parquet, layers.csv, 2 pictures")
    assert "without frames" not in said
    out = tmp_path / "out"
    assert len(list(out.glob("*.png"))) == 2
    heads = pq.read_table(out / "heads.parquet")
    items = len(set(heads["item"].to_pylist()))
    assert heads.num_rows == items * 2 * 2 * 2  # features, levels, heads
    profiles = pq.read_table(out / "profiles.parquet").group_by(["item", "layer", "level"])
    sums = profiles.aggregate([("profile", "sum")])["profile_sum"].to_pylist()
    assert sums == pytest.approx([1] * len(sums))
    layers = pyarrow.csv.read_csv(out / "layers.csv").to_pylist()
    sparsity = {(row["layer"], row["level"]): row["sparsity"] for row in layers}
    assert sparsity["rgb", "local"] > sparsity["rgb", "global"]


def test_a_transformer_says_which_modality_attends_to_which(explain, tmp_path):
    said = explain("bert", "attention", "--split", "train", "--most", "0")
    assert "modalities.csv, 0 pictures" in said
    rows = pyarrow.csv.read_csv(tmp_path / "out" / "modalities.csv").to_pylist()
    assert {row["layer"] for row in rows} == {"layer 1", "layer 2"}
    of_rgb = [r["share"] for r in rows if (r["layer"], r["from"]) == ("layer 1", "rgb")]
    assert sum(of_rgb) == pytest.approx(1)


def test_sensitivity_and_similarity_are_written(explain, tmp_path, monkeypatch):
    words = ("--split", "train", "--most", "1")
    said = explain("gmsa", "sensitivity", *words, "--first", "2", "--probes", "2")
    assert "2 of " in said
    steps = pq.read_table(tmp_path / "out" / "sensitivity.parquet")
    assert len(set(steps["item"].to_pylist())) == 2
    assert set(steps["probes"].to_pylist()) == {2}
    assert all(0 < S < 1 for S in steps["local"].to_pylist())
    wide = explain("gmsa", "sensitivity", *words, "--first", "1", "--extent", "99")
    assert wide.splitlines()[2].split()[1] == "-"  # near is everything
    monkeypatch.setattr("mmf.commands.explain.items.find_spec", lambda name: None)
    said = explain("gmsa", "similarity", *words)
    assert "For pictures: pip install 'mmf-video[plots]'" in said
    table = pq.read_table(tmp_path / "out" / "similarity.parquet").to_pylist()
    assert {row["feature"] for row in table} == {"rgb", "audio"}
    assert all(-1 <= row["neighbours"] <= 1 for row in table)


def test_a_comparison_has_the_sensitivity_of_its_runs_beside_the_metric(explain, demo, tmp_path):
    words = ["compare", "--store", str(demo / "feats"), "--out", str(demo / "compared")]
    words += ["--fusions", "concat", "--aggregates", "gmsa,mean"]
    for name in GMSA:
        words += ["--set", f"gmsa.{name}"]
    run(*words, "--seeds", "3", "--steps", "1", "--device", "cpu")
    with pytest.raises(MmfError, match="a comparison is asked on its test split"):
        explain("compared", "sensitivity", "--split", "train")
    said = explain("compared", "sensitivity", "--first", "2", "--probes", "1")
    rows = pyarrow.csv.read_csv(tmp_path / "out" / "runs.csv").to_pylist()
    assert len(rows) == 3  # mean has no layer of GMSA
    assert all(0 < row["S"] < 1 for row in rows)
    assert "n = 3 runs" in said
