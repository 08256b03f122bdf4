"""Timelines: each window's scores, and cues that webvtt-py reads back."""

import html
import json

import numpy as np
import pytest
import webvtt

from mmf import MmfError
from mmf.fuse.inference.ensemble import Ensemble
from mmf.fuse.inference.timeline import Timeline, cues, timelines, write_timelines
from mmf.fuse.inference.windows import windows


def timeline(scores, classes="abc", video_id="v", window=2.0, hop=2.0) -> Timeline:
    scores = np.array(scores, dtype=np.float32)
    start = np.arange(len(scores)) * hop
    names = tuple(classes)
    return Timeline(
        video_id=video_id, classes=names, start=start, end=start + window, scores=scores
    )


SCORES = [[0.9, 0.1, 0.6], [0.8, 0.7, 0.1], [np.nan] * 3, [0.6, 0.7, 0.1], [0.9, 0.2, 0.2]]


def said(found) -> list[tuple]:
    return [(c.start, c.end, c.name, pytest.approx(c.score)) for c in found]


def test_a_file_of_cues_is_of_one_video(tmp_path):
    both = [timeline(SCORES), timeline(SCORES, video_id="w")]
    with pytest.raises(MmfError, match="is for one video, and there is 'w' too"):
        write_timelines(both, tmp_path / "a.vtt")
    assert not list(tmp_path.iterdir())


def test_another_kind_of_file_is_refused(tmp_path):
    with pytest.raises(MmfError, match="expected OUT.json, OUT.vtt or a folder"):
        write_timelines([timeline(SCORES)], tmp_path / "a.srt")


def test_neighbouring_windows_of_a_class_above_its_threshold_are_one_cue():
    assert said(cues(timeline(SCORES), 0.5)) == [
        (0, 2, "c", 0.6),
        (0, 4, "a", 0.9),
        (2, 4, "b", 0.7),
        (6, 8, "b", 0.7),
        (6, 10, "a", 0.9),
    ]
    assert said(cues(timeline(SCORES), np.array([0.85, 0.7, 0.5]))) == [
        (0, 2, "a", 0.9),
        (0, 2, "c", 0.6),
        (2, 4, "b", 0.7),
        (6, 8, "b", 0.7),
        (8, 10, "a", 0.9),
    ]


def test_without_thresholds_the_best_class_has_the_cue():
    wanted = [(0, 4, "a", 0.9), (6, 8, "b", 0.7), (8, 10, "a", 0.9)]
    assert said(cues(timeline(SCORES), None)) == wanted


def test_windows_that_leave_gaps_are_cues_of_their_own():
    assert [c[:2] for c in said(cues(timeline(SCORES[:2], hop=3.0), None))] == [(0, 2), (3, 5)]


def test_overlapping_windows_of_a_class_are_one_cue():
    assert [c[:2] for c in said(cues(timeline(SCORES[:2], hop=1.0), None))] == [(0, 3)]


def test_cues_are_read_back_whatever_a_class_is_called(tmp_path):
    names = ("R&B <b>live</b>", "a --> b\n\n00:00 --> 00:01\nmine", "Ünïcode &amp; \u202e")
    found = timeline([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]], names, hop=3600.0)
    write_timelines([found], tmp_path / "a.vtt")
    read = webvtt.read(tmp_path / "a.vtt")
    assert [(c.start, c.end) for c in read] == [
        ("00:00:00.000", "00:00:02.000"),
        ("01:00:00.000", "01:00:02.000"),
        ("02:00:00.000", "02:00:02.000"),
    ]
    plain = ["".join(c if c.isprintable() else " " for c in name) for name in names]
    assert [html.unescape(c.raw_text) for c in read] == [f"{name} 0.90" for name in plain]


def test_a_time_just_below_a_minute_is_rounded_up_to_it(tmp_path):
    found = timeline([[0.9, 0.1, 0.0]], window=59.9996)
    write_timelines([found], tmp_path / "a.vtt")
    assert "--> 00:01:00.000" in (tmp_path / "a.vtt").read_text()


def test_a_timeline_without_a_cue_is_a_file_that_says_so(tmp_path):
    write_timelines([timeline(np.zeros((0, 3)))], tmp_path / "a.vtt")
    assert len(webvtt.read(tmp_path / "a.vtt")) == 0


def test_json_has_the_best_classes_of_each_video_and_null_where_nothing_is(tmp_path):
    both = [timeline(SCORES), timeline(np.zeros((0, 3)), video_id="w")]
    assert write_timelines(both, tmp_path / "a.json", top=2) == 2
    first, second = json.loads((tmp_path / "a.json").read_text())["videos"]
    assert first["classes"] == ["a", "b"]
    assert first["scores"] == [[0.9, 0.1], [0.8, 0.7], None, [0.6, 0.7], [0.9, 0.2]]
    assert first["start"] == [0, 2, 4, 6, 8]
    assert first["end"] == [2, 4, 6, 8, 10]
    assert second == {"video_id": "w", "classes": ["a", "b"], "start": [], "end": [], "scores": []}


@pytest.mark.parametrize("video", ["../out.mp4", "/etc/x.mp4", "..", "a/b c.mp4"])
def test_in_a_folder_every_video_has_its_files_and_none_is_elsewhere(tmp_path, video):
    write_timelines([timeline(SCORES, video_id=video)], tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.vtt"))) == 1
    (file,) = (tmp_path / "out").glob("*.json")
    assert json.loads(file.read_text())["videos"][0]["video_id"] == video
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_window_is_scored_by_its_own_rows(xor_store, make_run):
    ensemble = Ensemble([make_run(xor_store)], device="cpu")
    xor_store.label({"w": ["same"]})
    parts = list(windows(xor_store, "ab", xor_store.items().video_ids, window=2.0))
    found = {t.video_id: t for t in timelines(ensemble, xor_store, parts)}
    assert len(found) == 61
    assert not len(found["w"].scores)
    for video in ("v00", "v08"):
        times = max(xor_store.read(n, video).times[-1] for n in "ab")
        one = found[video]
        assert len(one.scores) == times // 2 + 1
        for start, end, row in zip(one.start, one.end, one.scores, strict=True):
            tracks = [xor_store.read(n, video) for n in "ab"]
            rows = {
                n: t.values[(t.times >= start) & (t.times < end)]
                for n, t in zip("ab", tracks, strict=True)
            }
            assert np.array_equal(alone(ensemble, rows), row)


def alone(ensemble, rows):
    from mmf.fuse import Predictor

    return Predictor(ensemble.runs[0].path, device="cpu").scores([rows])[0]
