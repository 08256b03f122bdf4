"""`mmf report`, as a user types it: frames where the videos are, and words where they have gone."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from mmf import MmfError, cli
from mmf.commands import report as command
from mmf.commands import report_media
from mmf.commands.report_media import Videos
from mmf.extract.glimpses import PER_SECOND, heard
from mmf.extract.sample_set import make_sample_set
from mmf.store import FeatureStore, Item


def mmf(*words: object) -> None:
    assert not cli.cli.main([*map(str, words)], standalone_mode=False, prog_name="mmf")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Twelve clips of 4 seconds, and the features of their sound."""
    folder = tmp_path_factory.mktemp("clips")
    make_sample_set(folder / "clips", clips=12)
    mmf("extract", folder / "clips", "--store", folder / "feats", "--modality", "audio")
    return folder


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "'nowhere' is nothing to report: expected a run (with config.json)"),
        (["nowhere", "--watch"], "'nowhere' is nothing to report"),
        (["x", "--videos", "nowhere"], "--videos 'nowhere' is no folder"),
    ],
)
def test_an_error_is_one_sentence_and_leaves_no_page(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mmf", "report", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_store_becomes_a_page_with_thumbnails(clips, tmp_path, capsys):
    mmf("report", clips / "feats", "--out", tmp_path / "page.html", "--thumbnails", 5)
    assert re.search(r"page\.html: [\d.]+ MiB, [\d.]+ s", capsys.readouterr().out)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("data:image/webp;base64") == 5
    assert "12 videos; t-SNE" in html
    assert html.count("plotly.js v") == 1


def test_thumbnails_end_where_their_bytes_do(clips, monkeypatch):
    store = FeatureStore(clips / "feats")
    videos = sorted(store.state("audio"))[:4]
    every = Videos().thumbnails(store, videos)
    assert list(every) == videos
    monkeypatch.setattr(report_media, "_BYTES", sum(map(len, every.values())) - 1)
    assert list(Videos().thumbnails(store, videos)) == videos[:3]


def test_sound_and_captions_are_those_of_the_clip(clips):
    files = sorted((clips / "clips").rglob("*.mp4"))
    found = heard({"a": str(files[0]), "broken": str(files[0].with_suffix(".srt"))})
    assert list(found) == ["a"]
    assert len(found["a"].peaks) == pytest.approx(4 * PER_SECOND, abs=2)
    assert 0.3 < np.median(found["a"].peaks) < 0.8  # a tone of 0.3 in noise of 0.08
    assert [seconds for seconds, _ in found["a"].cues] == [0.5, 2.0]


def test_an_interval_has_its_own_frames_and_captions_and_a_lost_video_its_path(clips, tmp_path):
    store = FeatureStore(clips / "feats")
    video = sorted(store.state("audio"))[0]
    part = Item(video_id=video, start=1.0, end=3.0)
    found = Videos().clips(store, [part, Item(video_id="lost.mp4")])
    assert [seconds for seconds, _ in found[part.id].frames] == [1.25, 1.75, 2.25, 2.75]
    assert [seconds for seconds, _ in found[part.id].cues] == [2.0]
    assert len(found[part.id].sound) == 2 * PER_SECOND
    assert found["lost.mp4"].startswith("video gone: lost.mp4 (nobody has kept its path")
    elsewhere = Videos(folder=str(tmp_path)).clips(store, [part])
    assert elsewhere[part.id] == f"video gone: {tmp_path / video}"


def test_watching_ends_with_the_run_and_leaves_the_whole_page(run, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    away = tmp_path / "away"
    shutil.move(copy / "checkpoints", away)
    pages = []

    def wait(seconds: float) -> None:
        pages.append((tmp_path / "page.html").read_text(encoding="utf-8"))
        if len(pages) == 2:
            shutil.move(away, copy / "checkpoints")

    monkeypatch.setattr(command.time, "sleep", wait)
    mmf("report", copy, "--out", tmp_path / "page.html", "--watch", "--every", 2, "--examples", 0)
    assert len(pages) == 2
    assert all('data-reload="2.0"' in page for page in pages)
    last = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "data-reload" not in last.partition("<script>")[0]
    assert 'id="scores"' in last


def test_ctrl_c_ends_the_watch_with_a_page(run, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_is_over", lambda path: False)

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", stop)
    mmf("report", run, "--out", tmp_path / "page.html", "--watch", "--examples", 0)
    assert 'data-reload="' not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_without_a_name_it_is_the_store_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MmfError, match=r"'features\.mmf' is nothing to report"):
        mmf("report")
