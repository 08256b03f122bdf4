"""The picture of a selection: what was used, skipped and missing look different, also in grey."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmf.fuse.explain.segment_times import SegmentTimes
from mmf.fuse.explain.selection import Selected
from mmf.store import Item

pytest.importorskip("matplotlib")
from mmf.fuse.explain.selection_picture import draw

EDGES = np.arange(5.0)
TIMES = SegmentTimes(
    start=EDGES[:-1],
    end=EDGES[1:],
    starts=np.repeat(EDGES[:-1, None], 2, 1),
    ends=np.repeat(EDGES[1:, None], 2, 1),
    begins=0.0,
)
SELECTED = Selected(
    item=Item(video_id="$a\x1b_b^.mp4"),
    modalities=("rgb", "audio"),
    times=TIMES,
    there=np.array([[1, 1], [1, 1], [1, 0], [1, 0]], dtype=bool),
    used=np.array([[1, 0], [1, 0], [0, 0], [0, 0]], dtype=bool),
    weights=None,
    predicted="$cat_^",
    score=0.5,
    labels=("dog",),
    right=False,
    gflops=1.5,
    gflops_all=3.0,
)


def drawn(path, selected=SELECTED, frames=None) -> np.ndarray:
    draw(selected, path, frames)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def test_the_three_kinds_are_told_apart_without_colour(tmp_path):
    grey = drawn(tmp_path / "a.png")
    width = 120 * 10  # of the time
    left, rgb = 156, grey.shape[0] - int(120 * (0.78 + 1.5 * 0.34))
    audio = rgb + int(120 * 0.34)
    quarter = width // 4

    def part(row: int, segment: int) -> np.ndarray:
        at = left + segment * quarter
        return grey[row - 10 : row + 10, at + 20 : at + quarter - 20]

    used, skipped, missing = part(rgb, 0), part(rgb, 3), part(audio, 3)
    assert used.max() < 110  # full and dark
    assert skipped.min() < 140 < 200 < skipped.max()  # hatched
    assert missing.min() == 255  # empty


def test_of_what_is_used_the_heavier_is_darker(tmp_path, monkeypatch):
    weights = np.array([[0.8, 0], [0.2, 0], [0, 0], [0, 0]], dtype=np.float32)
    grey = drawn(tmp_path / "a.png", replace(SELECTED, weights=weights))
    rgb = grey.shape[0] - int(120 * (0.78 + 1.5 * 0.34))
    heavy, light = (int(grey[rgb, 156 + 300 * s + 150]) for s in range(2))
    assert heavy < 110 < 150 < light < 170  # a quarter of the way from pale to dark
    nothing = replace(SELECTED, weights=weights * [[1, 0], [0, 0], [0, 0], [0, 0]])
    assert drawn(tmp_path / "n.png", nothing)[rgb, 156 + 300 + 150] < 200  # and yet is used
    said = words(monkeypatch, tmp_path / "b.png", replace(SELECTED, weights=weights))
    assert "used, darker where it weighs more" in said
    even = replace(SELECTED, weights=np.array([[0.25, 0], [0.25, 0], [0, 0], [0, 0]], np.float32))
    assert "used" in words(monkeypatch, tmp_path / "c.png", even)
    assert np.array_equal(drawn(tmp_path / "d.png", even), drawn(tmp_path / "e.png"))


def test_frames_stand_over_their_segments(tmp_path):
    frames = {s: np.full((16, 16, 3), 40 * s + 20, dtype=np.uint8) for s in range(4)}
    bare, grey = drawn(tmp_path / "a.png"), drawn(tmp_path / "b.png", frames=frames)
    assert grey.shape[0] - bare.shape[0] == pytest.approx(120 * 1.2, abs=2)
    row = grey[int(120 * (0.62 + 0.55))]
    assert [int(row[156 + 150 + 300 * s]) for s in range(4)] == [20, 60, 100, 140]


@pytest.mark.parametrize("segments", [1, 40])
def test_items_of_one_segment_and_of_many_are_drawn(tmp_path, segments):
    edges = np.linspace(0, 3, segments + 1)
    times = SegmentTimes(
        start=edges[:-1],
        end=edges[1:],
        starts=np.repeat(edges[:-1, None], 2, 1),
        ends=np.repeat(edges[1:, None], 2, 1),
        begins=0.0,
    )
    there = np.ones((segments, 2), dtype=bool)
    one = replace(SELECTED, times=times, there=there, used=there, gflops=None, right=None)
    frames = {s: np.zeros((16, 16, 3), dtype=np.uint8) for s in range(segments)}
    assert drawn(tmp_path / "a.png", one, frames).size


def words(monkeypatch, path, selected) -> list[str]:
    """What is written into the picture."""
    from matplotlib.text import Text

    said, drawn_as = [], Text.draw

    def watching(self, *arguments, **more):
        said.append(self.get_text())
        return drawn_as(self, *arguments, **more)

    monkeypatch.setattr(Text, "draw", watching)
    draw(selected, path)
    return said


def test_an_item_of_which_nothing_is_used_says_so(tmp_path, monkeypatch):
    said = words(monkeypatch, tmp_path / "a.png", SELECTED)
    assert not any("nothing is used" in text for text in said)
    off = replace(SELECTED, used=np.zeros((4, 2), dtype=bool))
    said = words(monkeypatch, tmp_path / "b.png", off)
    assert any("nothing is used" in text for text in said)
    assert said.count("used 0 of 4") == 2


def test_a_modality_that_an_item_lacks_says_so(tmp_path, monkeypatch):
    there = SELECTED.there & [True, False]
    silent = replace(SELECTED, there=there, used=SELECTED.used & there)
    said = words(monkeypatch, tmp_path / "a.png", silent)
    assert {"used 2 of 4", "no row"} <= set(said)


def test_a_segment_without_length_is_seen(tmp_path):
    """A single cue, say, whose feature has no rate."""
    at = np.array([2.0])
    times = SegmentTimes(start=at, end=at, starts=at[:, None], ends=at[:, None], begins=2.0)
    yes = np.ones((1, 1), dtype=bool)
    cue = replace(SELECTED, modalities=("text",), times=times, there=yes, used=yes)
    grey = drawn(tmp_path / "a.png", cue)
    row = grey[grey.shape[0] - int(120 * (0.78 + 0.5 * 0.34))]
    assert (row[156 : 156 + 1200] < 110).mean() > 0.9
