"""The page of a comparison shows what its folder holds, finished or not."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from mmf import MmfError, cli
from mmf.report import Page, Plot, Section, Table, Text
from mmf.report.comparison_page import comparison_page, is_finished


@pytest.fixture(scope="module")
def folder(store, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("compared") / "comparison"
    line = ["compare", "--store", str(store.path), "--out", str(out), "--device", "cpu"]
    line += ["--fusions", "concat,mixer", "--seeds", "2", "--steps", "4", "--eval-every", "2"]
    line += ["--set", "batch_size=16", "--grid", "mixer.blocks=1,2", "--resamples", "50"]
    assert not cli.cli.main(line, standalone_mode=False, prog_name="mmf")
    return out


def section(page: Page, id: str) -> Section:
    return next(s for s in page.sections if s.id == id)


def table(page: Page, id: str) -> Table:
    return next(p for p in section(page, id).parts if isinstance(p, Table))


def test_what_is_no_comparison_is_refused(tmp_path):
    (tmp_path / "compare.json").write_text("{}")
    with pytest.raises(MmfError, match="holds no comparison"):
        comparison_page(tmp_path)


def test_the_table_and_its_notes_are_those_that_compare_wrote(folder):
    page = comparison_page(folder)
    assert [s.id for s in page.sections if s.failed] == []
    with (folder / "table.csv").open(encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    shown = table(page, "table")
    for line, row in zip(written, shown.rows, strict=True):
        named = dict(zip(shown.columns, row, strict=True))
        assert named["accuracy"] == float(line["accuracy"])
        assert str(named["seeds"]) == line["seeds"] == "2"
    notes = [p.text for p in section(page, "table").parts if isinstance(p, Text)]
    assert notes[0] == "Test split; mean ± standard deviation over 2 seeds."
    assert any("95 % interval from 50 resamples" in note for note in notes)
    (plot,) = section(page, "differences").parts
    trace = plot.figure["data"][0]
    low = trace["x"][0] - trace["error_x"]["arrayminus"][0]
    assert low == pytest.approx(float(written[1]["difference low"]), abs=1e-4)
    assert isinstance(section(page, "curves").parts[0], Plot)
    assert is_finished(folder)


def test_rows_say_where_they_differ_and_every_run_is_listed(folder):
    page = comparison_page(folder)
    differ = table(page, "rows")
    assert {"row", "fusion", "fusion_options"} == set(differ.columns)
    assert len(table(page, "runs").rows) == 6
    assert {row[3] for row in table(page, "runs").rows} == {"finished"}


def test_one_that_goes_on_shows_what_there_is(folder, tmp_path):
    copy = tmp_path / "comparison"
    shutil.copytree(folder, copy)
    for name in ("table.csv", "table.md"):
        (copy / name).unlink()
    runs = sorted(copy.glob("runs/*/seed-*"))
    (runs[0] / "done.json").unlink()
    shutil.rmtree(runs[-1])
    page = comparison_page(copy)
    assert not is_finished(copy)
    assert "written when every run is finished" in section(page, "table").failed
    states = [row[3] for row in table(page, "runs").rows]
    assert sorted(states) == ["finished"] * 4 + ["not begun", "not finished"]


def test_a_row_that_could_not_be_trained_says_why(folder, tmp_path):
    copy = tmp_path / "comparison"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("runs"))
    with (copy / "table.csv").open("a", encoding="utf-8") as file:
        columns = (copy / "table.csv").read_text().splitlines()[0].count(",")
        file.write("mfb" + "," * columns + "<b>no room</b>\r\n")
    page = comparison_page(copy)
    assert "mfb was not trained: <b>no room</b>" in section(page, "missing").failed
    assert "No row is finished yet" in section(page, "curves").failed
    assert json.loads((copy / "compare.json").read_text())["seeds"] == 2
