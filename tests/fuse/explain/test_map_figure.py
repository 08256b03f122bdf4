"""The picture of maps: frames, curves and maps are where they belong, whatever the item is like."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmf.fuse.explain.maps.attention import Attended
from mmf.fuse.explain.maps.layers import TOKEN, Steps
from mmf.fuse.explain.maps.pictures import (
    attention_alt,
    attention_picture,
    sensitivity_picture,
    similarity_picture,
)
from mmf.fuse.explain.maps.sensitivity import Sensitive
from mmf.fuse.explain.maps.similarity import Similar
from mmf.store import Item

pytest.importorskip("matplotlib")
from mmf.fuse.explain.maps.figure import draw, figure

ITEM = Item(video_id="$a\x1b_b^.mp4")


def attended(T: int, features=None, heads: int = 2) -> Attended:
    rng = np.random.default_rng(0)
    A = rng.random((heads, T, T)).astype(np.float32)
    features = features or ("rgb",) * T
    times = np.where(np.array(features) == TOKEN, np.nan, np.arange(T))
    return Attended(
        item=ITEM,
        layer="rgb",
        steps=Steps(features=tuple(features), times=times),
        maps={"global": A / A.sum(2, keepdims=True)},
        begins=0.0,
    )


def sensitive(T: int) -> Sensitive:
    return Sensitive(
        item=ITEM,
        layer="rgb",
        steps=Steps(features=("rgb",) * T, times=np.arange(float(T))),
        near=np.eye(T, dtype=bool),
        norms=np.ones((T, T)),
        local=np.full(T, np.nan if T == 1 else 0.5),
        ratios=np.full((T, T), np.nan if T == 1 else 0.5),
        probes=0,
        begins=0.0,
    )


def similar(T: int) -> Similar:
    steps = Steps(features=("rgb",) * T, times=np.arange(float(T)))
    return Similar(item=ITEM, feature="rgb", steps=steps, cosine=np.ones((T, T)), begins=0.0)


@pytest.mark.parametrize("T", [1, 300])
def test_items_of_one_row_and_of_three_hundred_are_drawn(T):
    pictures = (
        attention_picture([attended(T)]),
        sensitivity_picture([sensitive(T)]),
        similarity_picture([similar(T)]),
    )
    for picture in pictures:
        buffer = io.BytesIO()
        draw(picture, buffer)
        with Image.open(buffer) as found:
            assert found.width == pytest.approx(120 * 12.6, abs=2)
        assert picture.alt.endswith(".")
        assert "nan" not in picture.alt


def test_frames_stand_over_their_seconds_and_maps_are_light_where_they_are_high():
    one = attended(10)
    A = np.zeros((1, 10, 10), np.float32)
    A[0, :, 9] = 1  # every step looks at the last one
    picture = attention_picture([replace(one, maps={"global": A})])
    frames = {float(s): np.full((16, 16, 3), 25 * s, dtype=np.uint8) for s in range(1, 9)}
    drawn = figure(picture, frames)
    drawn.canvas.draw()
    curves, above, *maps = drawn.axes
    assert above.get_xlim() == curves.get_xlim()
    for image, second in zip(above.images, frames, strict=True):
        left, right, *_ = image.get_extent()
        assert (left + right) / 2 == pytest.approx(second)
    assert len(maps) == 2  # the mean and the head
    shown = maps[1].images[0].get_array()
    np.testing.assert_array_equal(shown, A[0])
    assert curves.lines[0].get_ydata().tolist() == [0.0] * 9 + [1.0]
    assert "at 9.0 s, with 100.0% of the attention" in picture.alt


def test_tokens_of_several_features_are_told_apart():
    one = attended(7, (TOKEN, "rgb", "rgb", "rgb", "audio", "audio", "$x"))
    two = replace(one, layer="layer 2")
    picture = attention_picture([one, two])
    assert [curve.name for curve in picture.curves][1:] == [
        "rgb global",
        "audio global",
        "$x global",
    ]
    assert len(picture.rows) == 2
    assert picture.borders == {TOKEN: 0, "rgb": 1, "audio": 4, "$x": 6}
    drawn = figure(picture)
    drawn.canvas.draw()
    labels = [text.get_text() for text in drawn.axes[1].get_yticklabels()]
    assert labels == [TOKEN, "rgb", "audio", "$x"]
    assert "3 steps of rgb, 2 steps of audio" in attention_alt([one, two])
