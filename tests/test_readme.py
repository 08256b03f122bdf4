"""What the README says is so: its commands run, its tables are those of the code."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from mmf import cli
from mmf.extract.backbones import BACKBONES
from mmf.extract.flow import FLOWS
from mmf.extract.sample_set import make_sample_set
from mmf.fuse import LOSSES, METRICS
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.heads import HEADS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBERS = (ROOT / "docs/numbers.md").read_text(encoding="utf-8")


def between(mark: str) -> str:
    found = re.search(f"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", README + NUMBERS, flags=re.S)
    assert found, f"neither README nor docs/numbers.md has {mark}"
    return found[1]


def generated_table() -> str:
    rows: dict[str, list[str] | Mapping[str, str]] = {
        # networks for pictures that are fed with flow stand in their own rows
        f"{m} backbones": [n for n, place in table.items() if ".flow_input:" not in place]
        for m, table in BACKBONES.items()
    }
    rows |= {"optical flow": FLOWS}
    rows |= {"aggregators": AGGREGATORS, "fusions": FUSIONS, "heads": HEADS, "losses": LOSSES}
    rows |= {"metrics": METRICS}
    return "".join(f"| {what} | {', '.join(f'`{n}`' for n in t)} |\n" for what, t in rows.items())


def test_the_table_of_what_works_is_that_of_the_registries():
    assert between("table") == generated_table()


def test_the_two_commands_are_there_and_known_to_the_project():
    assert "pip install uv && uv run mmf demo" in README
    assert "pip install uv && uv run pytest -n auto" in README
    assert "uv run pytest -n auto" in (ROOT / ".ci/run").read_text()
    assert 'mmf = "mmf.cli:main"' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Clips in a folder per class, after the five commands of the README."""
    clips = make_sample_set(tmp_path_factory.mktemp("readme") / "clips", clips=40)
    block = re.search(r"```sh\n(.*?)```", README, flags=re.S)
    assert block
    here = Path.cwd()
    os.chdir(clips)
    try:
        for line in block[1].splitlines():
            assert not cli.cli.main(shlex.split(line)[1:], standalone_mode=False), line
    finally:
        os.chdir(here)
    return clips


def test_the_five_commands_do_what_they_say(folder):
    assert (folder / "runs/mfb-1/config.json").exists()
    assert len((folder / "predictions.csv").read_text().splitlines()) > 4


def test_the_numbers_are_filled_in():
    for mark in ("demo", "mosi", "extract", "retrieval"):
        assert re.search(r"\d\.\d", between(mark)), f"there are no numbers between {mark}"


def test_the_demo_shows_what_the_readme_shows_and_the_fusion_ahead(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.cli.main(["demo", "--out", "demo"], standalone_mode=False)
    printed = capsys.readouterr().out
    rows = [line.split(" | ") for line in Path("demo/report.md").read_text().splitlines()[6:]]
    accuracy = {row[0].removeprefix("| "): float(row[1]) for row in rows}
    shown = [line.split(" | ")[0].removeprefix("| ") for line in between("demo").splitlines()[2:]]
    assert list(accuracy) == shown
    alone = [a for name, a in accuracy.items() if name.endswith("alone")]
    assert len(alone) == 4
    assert accuracy["mfb, rgb+audio"] > accuracy["concat, all"] > max(alone)
    assert printed.count("$ mmf ") == 10
    assert "What it owes to each modality" in Path("demo/report.html").read_text(encoding="utf-8")
    assert Path("demo/predictions.csv").stat().st_size > 0
