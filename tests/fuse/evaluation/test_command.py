"""`mmf evaluate` as it is typed: what it prints, what it writes, and what it refuses."""

import csv
import json

import pytest
from click.testing import CliRunner

from mmf import MmfError
from mmf.commands.evaluation import evaluate as command
from mmf.fuse import Ensemble, evaluate, evaluate_classes, thresholds


@pytest.fixture
def run(xor_store, make_run):
    return make_run(xor_store, "concat")


def typed(run, *words):
    found = CliRunner().invoke(command, [str(run), *words], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--views", "1,x"], "--views 1,x: expected numbers from 0"),
        (["--out", "a.csv"], "--out is for a table: add --by"),
        (["--sampled", "--by", "class"], "--sampled is not for a table by class"),
        (["--sampled"], "is of fusion 'concat', which decides nothing that could be drawn"),
        (["--by", "class", "--out", "a.txt"], "cannot write the table to 'a.txt'"),
        (["--label-set", "nope"], "has no label set 'nope'; it has 'default'. `mmf label` adds"),
        (
            ["--with", "runs/b", "--choose-thresholds"],
            "kept with it; --with measures",
        ),
        (["--weights", "2;1"], "--weights '2;1': expected numbers between commas"),
        (["--weights", "2,1"], "2 weights for 1 runs; expected one for each"),
        (["--level", "frame"], "unknown level 'frame'. Known: item, row, video, view"),
    ],
)
def test_what_cannot_be_meant_is_one_kind_sentence(run, words, says):
    with pytest.raises(MmfError, match=says):
        typed(run, *words)


def test_a_level_and_a_label_set_are_those_of_the_library(run, xor_store):
    xor_store.label({"v16": ["same"], "v17": ["other"]}, name="few", split={"v16": "test"})
    assert json.loads(typed(run, "--level", "row", "--json").stdout) == evaluate(run, level="row")
    few = json.loads(typed(run, "--label-set", "few", "--json").stdout)
    assert few == evaluate(run, label_set="few")
    assert few["items"] == 1


def test_runs_are_averaged_by_their_weights(run, xor_store, make_run):
    other = str(make_run(xor_store, "concat", "other", seed=1))
    both = Ensemble([run, other], weights=[2, 1])
    words = ["--with", other, "--weights", "2,1"]
    assert json.loads(typed(run, *words, "--json").stdout) == evaluate(both)
    assert f"{evaluate(both)['gap@20']:.4f}" in typed(run, *words).stdout
    rows = json.loads(typed(run, *words, "--by", "class", "--json").stdout)["class"]
    assert rows == evaluate_classes(both).to_pylist()


def test_thresholds_are_chosen_first_and_said_beside_the_json(run):
    found = typed(run, "--choose-thresholds", "--by", "class", "--json")
    assert "thresholds of 2 classes, on validation\n" in found.stderr
    rows = json.loads(found.stdout)["class"]
    assert {row["class"]: row["threshold"] for row in rows} == thresholds(run)


def test_a_table_is_shown_or_written(run, tmp_path):
    table = evaluate_classes(run)
    shown = typed(run, "--by", "class").stdout
    assert "training_positives" in shown
    assert f"{table['ap'][0].as_py():.4f}" in shown
    place = tmp_path / "classes.csv"
    assert f"{place}: 2 rows" in typed(run, "--by", "class", "--out", str(place)).stdout
    with place.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["ap"]) for r in rows] == table["ap"].to_pylist()
    assert [r["threshold"] for r in rows] == ["", ""]
    assert "10-99" in typed(run, "--by", "frequency").stdout
