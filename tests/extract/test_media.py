"""Rows and times of media files: made ones with known content, and the real ones of SOURCES.md."""

import json
import struct
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torchvision.transforms as transforms

from mmf.extract.media.decoding import Done, Facts, Request, Row, decode
from mmf.extract.media.opening import Unusable
from mmf.extract.sampling import resize_and_crop
from mmf.extract.signals import Cues, FramePairs, Frames, Waves

FRAMES = Frames(fps=1.0, resize=64, crop=48)
EVERY = (FRAMES, FramePairs(fps=1.0, resize=64, crop=48), Waves(), Cues())


class Result:
    """All that one file gave."""

    def __init__(self, path, signals=EVERY, **options):
        self.facts = Facts()
        self.times, self.payloads = defaultdict(list), defaultdict(list)
        for event in decode(str(path), signals, Request(facts=self.facts, **options)):
            if isinstance(event, Row):
                assert event.row == len(self.times[event.signal])
                self.times[event.signal].append(event.time)
                self.payloads[event.signal].append(event.payload)
        assert isinstance(event, Done)
        self.rows, self.missing = event.rows, event.missing
        assert all(np.all(np.diff(times) >= 0) for times in self.times.values())


@pytest.fixture(scope="session")
def videos(shared_data):
    return shared_data / "videos"


@pytest.fixture(scope="session")
def resources(videos):
    return videos / "meta-pytorch+torchcodec/test/resources"


def reason(path, **options) -> str:
    with pytest.raises(Unusable) as caught:
        Result(path, **options)
    return caught.value.reason


# ---- bad media


@pytest.mark.parametrize(
    ("name", "frames", "sound"),
    [("cut.mp4", 100, 4.0), ("cut.mkv", 100, 4.0), ("cut.avi", 100, 0), ("cut.wav", 0, 4.0)],
)
def test_a_cut_file_is_truncated_unless_a_part_will_do(tmp_path, clip, name, frames, sound):
    whole = clip(name, frames=frames, sound=sound)
    if name.endswith("mp4"):
        whole = remuxed(whole, tmp_path / "front.mp4")
    data = whole.read_bytes()
    cut = tmp_path / name
    cut.write_bytes(data[: len(data) * 7 // 10])
    assert reason(cut) == "truncated"
    part = Result(cut, allow_partial=True)
    assert 0 < max(part.rows) <= 4
    assert 0 < part.facts.duration < 3.9


def remuxed(path, to):
    """The same packets with the index in front, so that a cut file opens."""
    with (
        av.open(str(path)) as source,
        av.open(str(to), "w", options={"movflags": "faststart"}) as out,
    ):
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    return to


def test_an_index_that_is_cut_off_is_truncated(tmp_path, clip):
    data = clip("whole.mp4", frames=50, sound=2.0).read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    assert reason(tmp_path / "half.mp4") == "truncated"


@pytest.mark.parametrize(
    "name", ["tensorflow+io/tests/test_video/small.mp4", "Zulko+moviepy/media/chaplin.mp4"]
)
def test_real_files_cut_in_half_are_truncated(tmp_path, videos, name):
    data = (videos / name).read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    assert reason(tmp_path / "half.mp4") == "truncated"


def test_damaged_packets_are_skipped_and_counted(tmp_path, clip):
    whole = remuxed(clip("damaged.mp4", frames=50, width=160, height=120), tmp_path / "front.mp4")
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for at, size in packets[40:]:
        data[at : at + size] = bytes(size)
    (tmp_path / "damaged.mp4").write_bytes(data)
    damaged = Result(tmp_path / "damaged.mp4")
    assert 30 < damaged.facts.frames < 50
    assert damaged.facts.bad_packets >= 5
    assert damaged.rows[0] == 2


def test_a_video_of_which_nothing_decodes_is_undecodable(tmp_path, clip):
    whole = remuxed(clip("nothing.mp4", frames=10), tmp_path / "front.mp4")
    data = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    (tmp_path / "nothing.mp4").write_bytes(data)
    assert reason(tmp_path / "nothing.mp4") == "undecodable"


def test_the_corrupt_file_gives_49_frames_and_1_bad_packet(videos):
    result = Result(videos / "dmlc+decord/tests/test_data/corrupted.mp4")
    assert (result.facts.frames, result.facts.bad_packets) == (49, 1)
    assert result.rows[0] == 5


def test_only_frames_that_decode_are_given(resources):
    result = Result(resources / "discard_first_keyframe.mp4", [replace(FRAMES, fps=25.0)])
    assert result.facts.frames == 25
    assert result.rows == (25,)
    assert len(set(result.times[0])) == 25


# ---- times


def test_each_row_is_the_frame_nearest_its_time(clip):
    result = Result(clip("grey.mp4", frames=60, fps=25), [replace(FRAMES, fps=2.0)])
    # 0.5 s lies between frames 12 and 13: of two as near the earlier
    assert np.round(np.array(result.times[0]) * 25).tolist() == [0, 12, 25, 37, 50]
    grey = [payload.mean() / 4 for payload in result.payloads[0]]
    np.testing.assert_allclose(grey, [0, 12, 25, 37, 50], atol=0.6)


def test_more_rows_than_frames_repeat_frames_with_their_own_times(clip):
    result = Result(clip("slow.mp4", frames=3, fps=2), [replace(FRAMES, fps=8.0)])
    assert result.rows == (12,)
    assert sorted(set(result.times[0])) == [0.0, 0.5, 1.0]


def test_rows_past_the_last_frame_repeat_it(clip):
    result = Result(clip("long_sound.mp4", frames=25, sound=4.0))
    assert result.rows[0] == result.rows[2] >= 4
    assert result.times[0][-1] == pytest.approx(24 / 25)
    assert result.times[2][:4] == [0.0, 1.0, 2.0, 3.0]


def test_a_pair_is_a_frame_and_the_next_one_in_order_of_time(clip):
    result = Result(clip("pairs.mp4", frames=50), [replace(EVERY[1], fps=1.0)])
    grey = [[image.mean() / 4 for image in pair] for pair in result.payloads[0]]
    np.testing.assert_allclose(grey, [[0, 1], [25, 26]], atol=0.4)
    last = Result(clip("last_pair.mp4", frames=26), [replace(EVERY[1], fps=1.0)])
    np.testing.assert_allclose([p.mean() / 4 for p in last.payloads[0][-1]], [24, 25], atol=0.4)
    assert last.times[0] == [0.0, 1.0]


def test_a_single_frame_is_a_pair_with_itself(clip):
    (pair,) = Result(clip("single.mp4", frames=1)).payloads[1]
    np.testing.assert_array_equal(pair[0], pair[1])


@pytest.mark.parametrize("fps", [0.5, 1.0, 4.0, 30000 / 1001])
def test_the_times_of_nasa_are_those_of_the_reference(resources, fps):
    reference = json.loads((resources / "nasa_13013.mp4.stream3.all_frames_info.json").read_text())
    shown = np.array([float(frame["pts_time"]) for frame in reference])
    result = Result(resources / "nasa_13013.mp4", [replace(FRAMES, fps=fps), Waves(fps=fps)])
    assert result.rows[0] == result.rows[1]
    grid = np.arange(result.rows[0]) / fps
    nearest = [shown[np.abs(shown - time - 1e-9).argmin()] for time in grid]
    np.testing.assert_allclose(result.times[0], nearest, atol=1e-6)
    ticks = np.array(result.times[0]) * 30000
    np.testing.assert_array_equal(np.round(ticks) / 30000, result.times[0])  # exactly the decoder's


def test_nasa_has_as_many_rows_of_sound_as_of_pictures_and_its_captions(resources):
    result = Result(resources / "nasa_13013.mp4")
    assert result.rows[0] == result.rows[1] == result.rows[2] == 14
    assert result.rows[3] == len(result.payloads[3]) == 4
    assert result.missing == {}
    assert all(isinstance(text, str) and text.strip() for text in result.payloads[3])


def test_a_start_after_zero_and_irregular_frames_keep_their_times(videos, resources):
    late = Result(resources / "test_non_zero_start.mp4", [replace(FRAMES, fps=30.0)])
    assert late.rows == (12,)
    assert late.times[0][0] == 8.3330078125
    irregular = Result(videos / "Zulko+moviepy/media/fire2.mp4", [replace(FRAMES, fps=50.0)])
    with av.open(str(videos / "Zulko+moviepy/media/fire2.mp4")) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    assert sorted(set(irregular.times[0])) == pytest.approx(shown, abs=1e-12)


@pytest.mark.parametrize("signals", [[FRAMES], [EVERY[2]], EVERY], ids=["rgb", "audio", "both"])
def test_one_modality_alone_has_the_rows_of_both(videos, signals):
    for name, rows in (
        ("Zulko+moviepy/media/no_duration.webm", 5),
        ("Zulko+moviepy/media/big_buck_bunny_0_30.webm", 31),
        ("Zulko+moviepy/media/transparent.webm", 5),
        ("meta-pytorch+torchcodec/test/resources/sine_stereo_mp2.mpg", 5),
        ("meta-pytorch+torchcodec/test/resources/nasa_13013.mp4", 14),
    ):
        result = Result(videos / name, signals)
        assert {
            n for n, s in zip(result.rows, signals, strict=True) if not isinstance(s, Cues)
        } == {rows}


def test_a_clock_that_jumps_back_is_counted_and_times_still_rise(tmp_path, clip):
    once = clip("once.ts", frames=50).read_bytes()
    (tmp_path / "twice.ts").write_bytes(once + once)
    result = Result(tmp_path / "twice.ts", [replace(FRAMES, fps=5.0)])
    assert result.rows == (10,)
    assert result.facts.bad_packets == 49


# ---- streams


def test_a_stream_that_is_not_there_is_missing(clip, videos, resources):
    silent = Result(clip("silent.mp4", frames=25))
    assert silent.missing == {2: "no_such_stream", 3: "no_captions"}
    for name in (
        "tensorflow+io/tests/test_audio/gs-16b-2c-44100hz.mp4",
        "Zulko+moviepy/media/with-attached-pic.mp3",
    ):
        dark = Result(videos / name)
        assert dark.missing == {0: "no_such_stream", 1: "no_such_stream", 3: "no_captions"}
        assert dark.rows[2] > 1


def test_captions_beside_the_file_come_before_those_in_it(tmp_path, resources):
    path = tmp_path / "nasa.mp4"
    path.write_bytes((resources / "nasa_13013.mp4").read_bytes())
    assert Result(path, [Cues(language="eng")]).rows == (4,)
    assert Result(path, [Cues(language="fr")]).missing == {0: "no_captions"}
    (tmp_path / "nasa.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nfirst\n")
    (tmp_path / "given.vtt").write_text("WEBVTT\n\n00:03.000 --> 00:04.000\ngiven\n")
    assert Result(path, [Cues()]).payloads[0] == ["first"]
    assert Result(path, [Cues()], captions=str(tmp_path / "given.vtt")).payloads[0] == ["given"]
    assert reason(path, captions=str(tmp_path / "gone.vtt")) == "no_such_file"


def test_captions_beside_a_file_count_from_its_start(tmp_path, resources):
    path = tmp_path / "late.mp4"
    path.write_bytes((resources / "test_non_zero_start.mp4").read_bytes())
    (tmp_path / "late.srt").write_text("1\n00:00:00,125 --> 00:00:02,000\nfirst\n")
    assert Result(path, [Cues()]).times[0] == [8.3330078125 + 0.125]


# ---- pictures


TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
MIRRORED = [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


@pytest.mark.parametrize("matrix", TURNS + MIRRORED)
def test_pictures_are_turned_and_mirrored_as_their_display_matrix_says(tmp_path, matrix):
    corners = {(-1, -1): 40, (1, -1): 100, (-1, 1): 160, (1, 1): 220}  # (x, y) from the centre
    image = np.zeros((48, 64, 3), np.uint8)
    for (x, y), grey in corners.items():
        image[24 * (y > 0) :, 32 * (x > 0) :] = grey
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 64, 48
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))
    a, b, c, d = matrix
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turn = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    movie, track, rest = path.read_bytes().split(identity)
    path.write_bytes(movie + identity + track + turn + rest)
    made = Result(path, [Frames(resize=32, crop=32)]).payloads[0][0].mean(axis=2)
    for (x, y), grey in corners.items():
        column, row = 16 + 8 * (a * x + c * y), 16 + 8 * (b * x + d * y)
        assert made[row, column] == pytest.approx(grey, abs=4)


@pytest.mark.parametrize(("angle", "quarters"), [(0, 0), (90, 3), (180, 2), (270, 1)])
def test_real_pictures_are_upright(videos, angle, quarters):
    path = videos / f"dmlc+decord/tests/test_data/video_{angle}.mov"
    with av.open(str(path)) as container:
        filmed = next(container.decode(video=0)).to_ndarray(format="rgb24")
    expected = resize_and_crop(np.rot90(filmed, quarters), 64, 48)  # as seen: keys read upright
    np.testing.assert_array_equal(Result(path, [FRAMES]).payloads[0][0], expected)


def test_fire_is_upright_and_not_as_it_was_filmed(videos):
    path = videos / "Zulko+moviepy/media/fire2.mp4"
    made = Result(path, [Frames(fps=1.0)]).payloads[0][0]
    with av.open(str(path)) as container:
        filmed = next(container.decode(video=0)).to_image().rotate(180)
    expected = transforms.CenterCrop(224)(transforms.Resize(256)(filmed))
    np.testing.assert_array_equal(made, np.asarray(expected))


@pytest.mark.parametrize(
    ("name", "red", "blue", "full"),
    [
        ("bt601_full_range.mp4", 0.299, 0.114, True),
        ("bt601_limited_range.mp4", 0.299, 0.114, False),
        ("bt709_full_range.mp4", 0.2126, 0.0722, True),
        ("bt2020_10bit.mp4", 0.2627, 0.0593, False),
    ],
)
def test_colours_follow_the_files_own_matrix_and_range(resources, name, red, blue, full):
    side = {"bt709_full_range.mp4": 720}.get(name, 240)
    signal = Frames(resize=side, crop=side, hdr="as_is")
    made = Result(resources / name, [signal]).payloads[0][0]
    with av.open(str(resources / name)) as container:
        frame = next(container.decode(video=0))
        depth = 4 if "10" in frame.format.name else 1
        y, u, v = (
            np.frombuffer(plane, np.uint16 if depth == 4 else np.uint8).reshape(plane.height, -1)
            for plane in frame.planes
        )
    left = (frame.width - side) // 2
    u, v = (c.repeat(2, axis=0).repeat(2, axis=1) for c in (u, v))
    y, u, v = (c[:side, left : left + side] / depth for c in (y, u, v))
    y = y if full else (y - 16) * 255 / 219
    u, v = ((c - 128) * (1 if full else 255 / 224) for c in (u, v))
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    expected = np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], -1).clip(0, 255)
    assert np.median(np.abs(expected - made)) < 2.0


@pytest.mark.parametrize(
    "name",
    [
        "Zulko+moviepy/media/bitmap.mp4",
        "Zulko+moviepy/media/-video-with-dash-.mp4",
        "meta-pytorch+torchcodec/test/resources/testsrc2_odd_height_and_width_444.mp4",
        "meta-pytorch+torchcodec/test/resources/testsrc2_odd_height_and_width_mpeg2.mp4",
        "meta-pytorch+torchcodec/test/resources/h265_10bits.mp4",
        "meta-pytorch+torchcodec/test/resources/animated.gif",
        "meta-pytorch+torchcodec/test/resources/av1_video.mkv",
        "google-ai-edge+mediapipe/mediapipe/calculators/video/testdata/format_FLV_H264_AAC.video",
        "Zulko+moviepy/media/video_with_failing_audio.mp4",
    ],
)
def test_pictures_of_any_size_codec_and_container_come_out(videos, name):
    result = Result(videos / name, [FRAMES])
    assert result.rows[0] == len(result.payloads[0]) > 0
    assert result.facts.bad_packets == 0
    assert {p.shape for p in result.payloads[0]} == {(48, 48, 3)}


def test_decoding_needs_no_torch():
    code = (
        "import sys, mmf.extract.decoder.child\n"
        "print([m for m in ('torch', 'zarr', 'pyarrow') if m in sys.modules])"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


def test_a_time_base_is_applied_exactly(tmp_path):
    path = tmp_path / "thirds.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height = 64, 48
        for i in (0, 1, 5, 6, 30):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            frame.pts, frame.time_base = i, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    result = Result(path, [replace(FRAMES, fps=200.0)])
    assert sorted(set(result.times[0])) == [0.0, 33 / 1000, 167 / 1000, 200 / 1000, 1.0]
