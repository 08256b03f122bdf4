"""Clips, segments, views, keyframes and fast decoding, on clips whose frames tell their number."""

import numpy as np
import pytest

from mmf import MmfError, UnknownName
from mmf.extract import parse_feature
from mmf.extract.media.decoding import Facts, Request, Row, decode
from mmf.extract.sampling import Grid, cropped
from mmf.extract.signals import Clips, FramePairs, Frames, Waves, changed, from_json, to_json

SMALL = {"resize": 48, "crop": 32}
FPS = 25


def rows(path, signal):
    """Times, and the numbers of the frames in each row."""
    times, numbers = [], []
    for event in decode(str(path), [signal]):
        if isinstance(event, Row):
            assert event.payload.shape == signal.row_shape
            times.append(event.time)
            numbers.append(np.round(event.payload.mean(axis=(-3, -2, -1)) / 4).astype(int).tolist())
    return times, numbers


@pytest.fixture(scope="module")
def video(clip):
    return clip("numbered.mp4", frames=60, fps=FPS)  # 2.4 s


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"frames": "0"}, "frames is 0; expected 1 or more"),
        ({"stride": "x"}, "stride='x' is not a whole number"),
        ({"views": "2x5"}, "views 2x5: expected N_t × 1 or N_t × 3"),
        ({"views": "2", "segments": "3"}, "views exclude segments"),
        ({"sample": "keyframe"}, "unknown sample 'keyframe'. Did you mean 'keyframes'"),
        ({"sample": "keyframes"}, "a clip of keyframes is no clip"),
        ({"decode": "fsat"}, "Did you mean 'fast'"),
        ({"crop": "3"}, "unknown option 'crop'"),
    ],
)
def test_options_of_a_signal_that_cannot_be_meant_are_one_sentence(options, says):
    with pytest.raises(MmfError, match=says):
        changed(Clips(), options)


def test_pairs_of_keyframes_are_refused():
    with pytest.raises(MmfError, match="flow between keyframes is noise"):
        FramePairs(sample="keyframes")


def test_a_feature_takes_the_options_of_its_signal_and_no_others():
    request = parse_feature("r=rgb:hog,segments=8,decode=fast")
    assert request.signal == Frames(segments=8, decode="fast")
    with pytest.raises(MmfError, match="segments says when rows are taken, so there is no fps"):
        parse_feature("r=rgb:hog,segments=8,fps=2")
    with pytest.raises(UnknownName, match="unknown option of rgb:hog 'views'"):
        parse_feature("r=rgb:hog,views=3")


def test_signals_survive_json():
    for signal in (Clips(views=10, crops=3, shuffle=1, pairs=True), Frames(segments=3), Waves()):
        assert from_json(to_json(signal)) == signal


def test_clips_begin_at_the_grid_and_go_on_in_strides(video):
    times, numbers = rows(video, Clips(fps=1.0, frames=4, stride=3, **SMALL))
    assert times == [0.0, 1.0, 2.0]
    assert numbers == [[0, 3, 6, 9], [25, 28, 31, 34], [50, 53, 56, 59]]


def test_clips_overlap_and_repeat_the_last_frame_behind_the_end(video):
    times, numbers = rows(video, Clips(fps=12.5, frames=3, stride=10, **SMALL))
    assert times == pytest.approx([k / 12.5 for k in range(30)])
    assert numbers == [[min(2 * k + j, 59) for j in (0, 10, 20)] for k in range(30)]


def test_a_clip_longer_than_its_video_is_given_all_the_same(clip):
    _, numbers = rows(clip("five.mp4", frames=5, fps=FPS), Clips(frames=8, stride=1, **SMALL))
    assert numbers == [[0, 1, 2, 3, 4, 4, 4, 4]]


@pytest.mark.parametrize("stride", [1, 2, 7])
def test_pairs_are_native_neighbours_also_at_the_end(video, stride):
    _, numbers = rows(video, Clips(fps=1.0, frames=5, stride=stride, pairs=True, **SMALL))
    for first, row in zip((0, 25, 50), numbers, strict=True):
        starts = [first + stride * j for j in range(5)]
        assert row == [[s, s + 1] if s + 1 < 60 else [58, 59] for s in starts]


def test_views_are_spread_over_the_video_each_crop_a_row(video):
    times, numbers = rows(video, Clips(frames=4, stride=5, views=3, crops=3, **SMALL))
    # a clip lasts 20 frames; its start goes from 0 to 40
    assert times == pytest.approx(np.repeat([0, 20 / FPS, 40 / FPS], 3))
    assert numbers == [[s, s + 5, s + 10, s + 15] for s in (0, 20, 40) for _ in range(3)]
    times, _ = rows(video, Clips(frames=4, stride=5, views=1, **SMALL))
    assert times == pytest.approx([20 / FPS])


def test_views_of_a_video_shorter_than_a_clip_all_begin_at_its_start(clip):
    times, numbers = rows(clip("five.mp4", frames=5, fps=FPS), Clips(views=4, **SMALL))
    assert times == [0.0] * 4
    assert numbers == [[0, 2, 4, *[4] * 13]] * 4


def test_segments_give_the_frame_in_the_middle_of_each_part(video):
    times, numbers = rows(video, Frames(segments=6, **SMALL))
    assert numbers == pytest.approx([5, 15, 25, 35, 45, 55], abs=1)
    assert times == pytest.approx([n / FPS for n in numbers])
    _, clips = rows(video, Clips(segments=3, frames=3, stride=2, **SMALL))
    assert [row[0] for row in clips] == pytest.approx(
        [7, 27, 47], abs=1
    )  # middles less half a clip
    times, _ = rows(video, Frames(segments=100, **SMALL))  # more parts than frames
    assert len(times) == 100


def test_crops_of_a_wide_and_of_a_tall_picture_are_its_ends_and_its_centre():
    wide = np.broadcast_to(np.arange(10, dtype=np.uint8)[None, :, None], (4, 10, 3))
    for side, first in ((-1, 0), (0, 3), (1, 6)):
        assert cropped(wide, 4, side=side)[0, :, 0].tolist() == list(range(first, first + 4))
        tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
        assert cropped(tall, 4, side=side)[:, 0, 0].tolist() == list(range(first, first + 4))


def test_shuffled_frames_are_the_same_frames_in_another_order_for_each_row(video):
    _, plain = rows(video, Clips(frames=8, stride=2, **SMALL))
    _, mixed = rows(video, Clips(frames=8, stride=2, shuffle=1, **SMALL))
    _, again = rows(video, Clips(frames=8, stride=2, shuffle=1, **SMALL))
    assert mixed == again != plain
    assert [sorted(row) for row in mixed] == plain
    orders = [np.argsort(row).tolist() for row in mixed]
    assert orders[0] != orders[1]


def test_keyframes_alone_are_decoded(clip):
    path = clip("keys.mp4", frames=60, fps=FPS)
    facts = Facts()
    signal = Frames(sample="keyframes", **SMALL)
    found = [e for e in decode(str(path), [signal], Request(facts=facts)) if isinstance(e, Row)]
    assert facts.frames == len(found) < 60
    both = [
        e
        for e in decode(str(path), [signal, Frames(**SMALL)])
        if isinstance(e, Row) and e.signal == 0
    ]
    assert [e.time for e in both] == [e.time for e in found]
    assert all(np.array_equal(a.payload, b.payload) for a, b in zip(both, found, strict=True))


def test_fast_decoding_decodes_fewer_frames_and_stays_near(clip):
    path = clip("fast.mp4", frames=60, fps=FPS, width=128, height=96)
    exact, fast = Facts(), Facts()
    signals = [Frames(fps=5.0, **SMALL), Frames(fps=5.0, decode="fast", **SMALL)]
    found = [
        [e for e in decode(str(path), [s], Request(facts=f)) if isinstance(e, Row)]
        for s, f in zip(signals, (exact, fast), strict=True)
    ]
    assert fast.frames < exact.frames == 60
    assert len(found[0]) == len(found[1])
    for a, b in zip(*found, strict=True):
        assert abs(a.time - b.time) <= 3 / FPS
        number = round(b.time * FPS)
        assert abs(b.payload.mean() - 4 * number) < 3


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_grid_of_a_known_number_of_times_is_consistent(count):
    for grid in (Grid.middles(1.0, 9.0, count), Grid.spread(1.0, 9.0, count)):
        assert grid.rows_before(0.0) == grid.rows_before(99.0) == count
        for row in range(count):
            assert 1.0 <= grid.time(row) <= 9.0
            assert grid.rows_until(grid.time(row)) == row + 1
    assert Grid.spread(3.0, 2.0, 4).time(3) == 3.0
    assert Grid.spread(3.0, 2.0, 4).rows_until(2.9) == 0
