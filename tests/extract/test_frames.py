"""Frames to look at: those of the times that are asked for, and a bad file is left out."""

import logging

import numpy as np

from mmf.extract.frames import Wanted, frames_at


def test_a_file_that_cannot_be_used_is_left_out_and_said(clip, tmp_path, caplog):
    (tmp_path / "a.mp4").write_bytes(b"this is no video" * 100)
    wanted = {
        "bad": Wanted(path=str(tmp_path / "a.mp4"), times=[0.0]),
        "gone": Wanted(path=str(tmp_path / "b.mp4"), times=[0.0]),
        "sound": Wanted(path=str(clip("only_sound.m4a", sound=1.0)), times=[0.0]),
        "good": Wanted(path=str(clip("frames.mp4", frames=60)), times=[1.0]),
    }
    with caplog.at_level(logging.WARNING):
        assert list(frames_at(wanted)) == ["good"]
    said = " ".join(record.getMessage() for record in caplog.records)
    assert all(f"no frames of {name!r}" in said for name in ("bad", "gone", "sound"))


def test_the_frame_nearest_to_each_time_is_given_in_the_order_asked(clip):
    times = [2.0, 0.4, 1.2, 1.2, -1.0, 99.0]
    wanted = {"a": Wanted(path=str(clip("frames.mp4", frames=60)), times=times)}
    found = frames_at(wanted, size=32)["a"]
    grey = [float(np.mean(frame)) for frame in found]  # frame i, at i / 25 s, is grey 4 i
    expected = [200, 40, 120, 120, 0, 230]
    assert all(frame.shape == (32, 32, 3) for frame in found)
    np.testing.assert_allclose(grey, expected, atol=9)


def test_seconds_of_a_clock_that_begins_later_are_counted_from_there(clip):
    path = str(clip("frames.mp4", frames=60))
    a = Wanted(path=path, times=[0.4, 1.2])
    b = Wanted(path=path, times=[100.4, 101.2], begins=100.0)
    found = frames_at({"a": a, "b": b}, size=32)
    np.testing.assert_array_equal(found["a"], found["b"])
