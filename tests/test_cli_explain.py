"""`mmf explain`: what is printed, and what lies in its folder."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors import safe_open

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
    small = ("--fusion-option", "hidden=8", "--fusion-option", "blocks=1")
    words = ["--store", str(folder / "feats"), "--out", str(folder / "mixer"), "--steps", "2"]
    run("train", *words, "--fusion", "mixer", *small)
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
    monkeypatch.setattr("mmf.commands.explain.items.find_spec", lambda name: None)
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


@pytest.fixture
def explain_mixer(demo, tmp_path, capsys) -> Callable[..., str]:
    def typed(part: str, *words: str) -> str:
        run("explain", str(demo / "mixer"), part, "--out", str(tmp_path / "out"), *words)
        return capsys.readouterr().out

    return typed


def test_stencils_are_written_and_drawn_below_frames(explain_mixer, tmp_path):
    pytest.importorskip("matplotlib")
    few = ("--split", "train", "--restarts", "2", "--clusters", "2")
    said = explain_mixer("stencils", *few, "--classes", "red-low,blue-high", "--most", "1")
    out = tmp_path / "out"
    assert "steps.parquet, 4 pictures" in said  # two classes, the shares, an item
    assert "without frames" not in said
    shares = pyarrow.csv.read_csv(out / "shares.csv").to_pylist()
    for name in ("red-low", "blue-high"):
        its = [row for row in shares if row["class"] == name]
        assert {row["modality"] for row in its} == {"rgb", "audio"}
        assert sum(row["share"] for row in its) == pytest.approx(1)
        assert f"class {name}.png" in {path.name for path in out.iterdir()}
    clusters = pyarrow.csv.read_csv(out / "clusters.csv").to_pylist()
    assert sum(row["stencils"] for row in clusters if row["class"] == "red-low") == 2
    steps = pq.read_table(out / "steps.parquet").to_pylist()
    assert {row["modality"] for row in steps} == {"rgb", "audio"}
    with safe_open(out / "stencils.safetensors", "np") as file:
        assert file.metadata() == {"0": "red-low", "1": "blue-high"}
        assert file.get_tensor("0/rgb").shape[2] == file.get_tensor("mean/rgb").shape[0]
    with Image.open(next(out.glob("item *.png"))) as picture:
        tones = [rgb for _, rgb in picture.convert("RGB").getcolors(1 << 20)]
    assert any(abs(r - b) > 150 and g < 100 for r, g, b in tones)


def test_what_stencils_cannot_say_is_said(explain_mixer, demo, monkeypatch, tmp_path):
    with pytest.raises(MmfError, match="unknown class 'red'"):
        explain_mixer("stencils", "--classes", "red")
    with pytest.raises(MmfError, match="decides which segments it uses"):
        run("explain", str(demo / "run"), "stencils", "--out", str(tmp_path / "none"))
    monkeypatch.setattr("mmf.fuse.explain.met.CLASSES", 2)
    monkeypatch.setattr("mmf.commands.explain.items.find_spec", lambda name: None)
    words = ("--split", "train", "--restarts", "1", "--most", "0")
    said = explain_mixer("stencils", *words)
    assert "of 4 classes the 2 with the most positive items here" in said
    assert "For pictures: pip install 'mmf-video[plots]'" in said


def test_an_ablation_is_printed_written_and_drawn(explain_mixer, tmp_path):
    pytest.importorskip("matplotlib")
    said = explain_mixer("ablation", "--split", "train", "--by-class")
    table = pyarrow.csv.read_csv(tmp_path / "out" / "ablation.csv")
    assert table["how"].to_pylist()[:3] == ["whole", "zeroed", "zeroed"]
    assert "rgb missing" in said
    assert "ap_lost" in said
    assert "accuracy_lost_low" in table.column_names
    assert said.splitlines()[-1].endswith("ablation.csv, classes.csv, ablation.png")
    assert (tmp_path / "out" / "ablation.png").stat().st_size > 5000
