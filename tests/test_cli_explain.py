"""`mmf explain`: what is printed, and what lies in its folder."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmf import MmfError, cli
from mmf.extract.sample_set import make_sample_set


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Clips of 4 seconds, their features, and a run whose policy draws."""
    folder = tmp_path_factory.mktemp("explain")
    make_sample_set(folder / "clips", clips=12)
    words = [str(folder / "clips"), "--store", str(folder / "feats")]
    run("extract", *words, "--modality", "rgb", "--modality", "audio")
    options = ('epochs={"single":1}', "milestones={}", "decisions=random", "segments=4")
    given = [word for option in options for word in ("--fusion-option", option)]
    words = ["--store", str(folder / "feats"), "--out", str(folder / "run"), "--steps", "1"]
    run("train", *words, "--fusion", "policy", *given)
    return folder


def run(*words: str) -> None:
    assert not cli.cli.main(list(words), prog_name="mmf", standalone_mode=False)


@pytest.fixture
def explain(demo, tmp_path, capsys) -> Callable[..., str]:
    def typed(*words: str) -> str:
        run("explain", str(demo / "run"), "selection", "--out", str(tmp_path / "out"), *words)
        return capsys.readouterr().out

    return typed


def test_what_cannot_be_explained_is_said(explain):
    with pytest.raises(MmfError, match="unknown command 'selections'. Did you mean 'selection'"):
        cli.cli.main(["explain", "run", "selections"], standalone_mode=False)
    with pytest.raises(MmfError, match="--videos 'nowhere' is no folder"):
        explain("--videos", "nowhere")
    with pytest.raises(MmfError, match="unknown item 'x'"):
        explain("--items", "x")


def test_items_are_drawn_below_the_frames_of_their_videos(explain, demo, tmp_path):
    pytest.importorskip("matplotlib")
    said = explain("--split", "train", "--most", "2")
    assert said.splitlines()[-1].endswith("modalities.csv, 2 pictures")
    assert "without frames" not in said
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 2
    with Image.open(pictures[0]) as picture:  # what the clips show is red or blue
        tones = [rgb for _, rgb in picture.convert("RGB").getcolors(1 << 20)]
    assert any(abs(r - b) > 150 and g < 100 for r, g, b in tones)
    table = pq.read_table(tmp_path / "out" / "selection.parquet")
    videos = set(table["video_id"].to_pylist())
    assert table.num_rows == len(videos) * 4 * 2
    classes = pyarrow.csv.read_csv(tmp_path / "out" / "classes.csv")
    assert sum(classes["items"].to_pylist()) == len(videos)
    assert all(name in said for name in classes["class"].to_pylist())


def test_videos_that_are_elsewhere_are_looked_for_there(explain, demo, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "moved").mkdir()
    item = sorted((demo / "clips").rglob("*.mp4"))[0].relative_to(demo / "clips").as_posix()
    said = explain("--items", item, "--videos", str(tmp_path / "moved"))
    assert "without frames: 1 of 1 pictures, whose videos are not in" in said
    assert "without frames" not in explain("--items", item, "--videos", str(demo / "clips"))


def test_none_is_drawn_where_none_is_wanted_or_nothing_draws(explain, monkeypatch, tmp_path):
    assert explain("--split", "train", "--most", "0").endswith("modalities.csv, 0 pictures\n")
    monkeypatch.setattr("mmf.commands.explain.selection.find_spec", lambda name: None)
    assert "For pictures: pip install 'mmf-video[plots]'" in explain("--split", "train")
    assert not list((tmp_path / "out").glob("*.png"))


def test_items_of_which_nothing_is_used_are_counted(demo, tmp_path, capsys):
    options = ('epochs={"single":1}', "milestones={}", "decisions=random", "rate=0.0")
    given = [word for option in options for word in ("--fusion-option", option)]
    words = ["--store", str(demo / "feats"), "--out", str(tmp_path / "off"), "--steps", "1"]
    run("train", *words, "--fusion", "policy", *given)
    capsys.readouterr()
    words = ["--split", "train", "--most", "0", "--out", str(tmp_path / "out")]
    run("explain", str(tmp_path / "off"), "selection", *words)
    said = capsys.readouterr().out
    table = pq.read_table(tmp_path / "out" / "selection.parquet")
    videos = len(set(table["video_id"].to_pylist()))
    assert f"{videos} items; {videos} of them use nothing; accuracy" in said
    assert set(table["used"].to_pylist()) == {False}
