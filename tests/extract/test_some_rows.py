"""Some rows of a file: the very ones that all its rows have among them."""

import random

import numpy as np
import pytest

from mmf.extract.chosen import Chosen, choosable, count_rows
from mmf.extract.job import extract
from mmf.extract.manifest import read_manifest
from mmf.extract.media import some_rows
from mmf.extract.media.decoding import Done, Facts, Request, Row, decode
from mmf.extract.media.opening import Unusable
from mmf.extract.media.row_counts import plan
from mmf.extract.media.some_rows import decode_some
from mmf.extract.request import parse_feature
from mmf.extract.signals import Clips, FramePairs, Frames, Waves
from mmf.store import FeatureStore

SMALL = {"resize": 64, "crop": 48}
SIGNALS = (
    Frames(fps=5.0, **SMALL),
    FramePairs(fps=3.0, **SMALL),
    Clips(fps=1.0, frames=4, stride=2, crops=3, **SMALL),
    Waves(fps=2.0),
    Frames(segments=7, **SMALL),
    Clips(frames=4, views=3, shuffle=1, **SMALL),
)


class Read:
    """The rows of a file by signal and number, all of them or those of `only`."""

    def __init__(self, path, only=None, seconds=0.0):
        self.facts, self.rows = Facts(), {}
        request = Request(facts=self.facts, only=only)
        events = decode(str(path), SIGNALS, request)
        if only is not None:
            events = decode_some(str(path), SIGNALS, request, seconds)
        for event in events:
            if isinstance(event, Row):
                assert (event.signal, event.row) not in self.rows
                self.rows[event.signal, event.row] = (event.time, np.copy(event.payload))
        assert isinstance(event, Done)
        self.counts = event.rows


def check(path, seed: int = 0) -> None:
    """Random rows of a file are the same alone, and counted without decoding."""
    rng, whole = random.Random(seed), Read(path)
    facts = Facts()
    *_, counted = plan(str(path), SIGNALS, Request(facts=facts, exactly=True))
    assert (counted.rows, facts.duration) == (whole.counts, whole.facts.duration)
    for most in (1, 3):
        only = {
            i: sorted(rng.sample(range(n), min(n, rng.randint(0, most))))
            for i, n in enumerate(whole.counts)
        }
        some = Read(path, only, whole.facts.duration)
        assert some.rows.keys() == {(i, row) for i, rows in only.items() for row in rows}
        for key, (time, payload) in some.rows.items():
            assert time == whole.rows[key][0]
            assert np.array_equal(payload, whole.rows[key][1])
        assert some.facts.frames <= whole.facts.frames


def test_rows_that_a_file_has_not_make_it_unusable(clip):
    path = clip("short.mp4", frames=50)
    with pytest.raises(Unusable, match="1 rows are not there"):
        Read(path, {0: [3, 1000]}, 2.0)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.webm", "a.avi", "a.ts"])
def test_rows_are_the_same_alone_as_among_all(clip, name):
    path = clip(name, frames=100, sound=0.0 if name.endswith("webm") else 4.0)
    for seed in range(2):
        check(path, seed)


@pytest.mark.parametrize(
    "name",
    [
        *("chaplin.mp4", "corrupted.mp4", "discard_first_keyframe.mp4", "nasa_13013.mp4"),
        *("test_non_zero_start.mp4", "testsrc2_mpeg4.avi", "animated.gif", "unordered.mov"),
        *("format_FLV_H264_AAC.video", "bikes.mp4", "testsrc2_vp9.webm"),
    ],
)
def test_rows_of_real_files_are_the_same_alone(shared_data, name):
    (path,) = (shared_data / "videos").rglob(name)
    check(path)


def test_a_late_row_costs_few_frames_and_none_costs_none(tmp_path, clip):
    path = clip("long.mp4", frames=1000)  # a keyframe at least every 250
    assert Read(path, {0: [180]}, 40.0).facts.frames <= 250
    assert Read(path, {0: [0, 199]}, 40.0).facts.frames <= 260
    assert Read(path, {0: [], 3: []}, 40.0).facts.frames == 0


def test_a_keyframe_that_the_index_has_wrongly_leads_nowhere_worse(monkeypatch, clip):
    path = clip("astray.mp4", frames=300)
    monkeypatch.setattr(some_rows, "_keyframe", lambda *_: 5.0)
    monkeypatch.setattr(some_rows, "_from_keyframe", lambda *_: None)
    whole, some = Read(path), Read(path, {0: [40]}, 12.0)
    assert np.array_equal(some.rows[0, 40][1], whole.rows[0, 40][1])


def test_text_and_keyframes_cannot_be_chosen():
    assert choosable(parse_feature("rgb=rgb:hog"))
    assert choosable(parse_feature("audio=audio:logmel"))
    assert not choosable(parse_feature("rgb=rgb:hog,sample=keyframes"))
    assert not choosable(parse_feature("text=text:hashing"))


def test_ranges_of_features_that_share_a_signal_are_joined():
    chosen = Chosen(seconds=9.0, rows={"a": ((0, 2), (6, 8)), "b": ((2, 3), (7, 9))})
    assert chosen.union(["a", "b"]) == [(0, 3), (6, 9)]
    assert chosen.union(["c"]) == []
    assert chosen.has("a", 6)
    assert not chosen.has("a", 2)


def test_a_store_of_chosen_rows_has_those_of_the_whole_store(clip, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, frames, sound in (("a.mp4", 75, 3.0), ("b.mp4", 50, 0.0), ("c.mp4", 25, 1.0)):
        (folder / name).write_bytes(clip(f"chosen_{name}", frames=frames, sound=sound).read_bytes())
    requests = [
        parse_feature(text)
        for text in ("rgb=rgb:hog,fps=4", "grey=rgb:hog,fps=4", "audio=audio:logmel,fps=2")
    ]
    manifest = read_manifest(folder)
    counted = dict(count_rows(manifest, requests))
    assert {k: dict(c.rows) for k, c in counted.items()} == {
        "a.mp4": {"rgb": 12, "grey": 12, "audio": 6},
        "b.mp4": {"rgb": 8, "grey": 8, "audio": 0},
        "c.mp4": {"rgb": 4, "grey": 4, "audio": 2},
    }
    extract(folder, tmp_path / "whole.mmf", requests)
    wanted = {"rgb": ((1, 3), (7, 8)), "grey": ((2, 5),), "audio": ((0, 1),)}
    chosen = {id_: Chosen(seconds=c.seconds, rows=wanted) for id_, c in counted.items()}
    chosen["b.mp4"] = Chosen(seconds=counted["b.mp4"].seconds, rows={"grey": ((7, 8),)})
    del chosen["c.mp4"]  # whole
    extract(folder, tmp_path / "some.mmf", requests, chosen=chosen)
    whole, some = FeatureStore(tmp_path / "whole.mmf"), FeatureStore(tmp_path / "some.mmf")
    for id_, one in chosen.items():
        for name, ranges in one.rows.items():
            rows = [row for first, end in ranges for row in range(first, end)]
            track, of = some.read(name, id_), whole.read(name, id_)
            assert np.array_equal(track.values, of.values[rows])
            assert np.array_equal(track.times, of.times[rows])
    assert len(some.read("rgb", "b.mp4").times) == 0
    assert np.array_equal(some.read("rgb", "c.mp4").values, whole.read("rgb", "c.mp4").values)
