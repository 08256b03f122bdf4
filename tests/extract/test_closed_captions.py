"""Closed captions in the pictures are read from the packets; no picture is decoded for them."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmf.extract.media.closed_captions import words_of
from mmf.extract.media.decoding import Facts, Request, Row, decode
from mmf.extract.signals import Cues, Frames

pytest.importorskip("ttconv")

Pair = tuple[int, int]
# commands of CEA-608, each of which is sent twice
LOAD, CLEAR_LOADED, SHOW, CLEAR = (0x14, 0x20), (0x14, 0x2E), (0x14, 0x2F), (0x14, 0x2C)
ROLL_UP, RETURN, LAST_ROW = (0x14, 0x25), (0x14, 0x2D), (0x14, 0x70)
FPS = 25


def twice(*commands: Pair) -> list[Pair]:
    return [command for command in commands for _ in range(2)]


def spelled(text: str) -> list[Pair]:
    codes = [ord(c) for c in text + "\0" * (len(text) % 2)]
    return list(zip(codes[::2], codes[1::2], strict=True))


def odd(byte: int) -> int:
    return byte | (0x80 if byte.bit_count() % 2 == 0 else 0)


def user_data(pair: Pair, field: int = 0) -> bytes:
    """What one picture carries: an empty pair of the other field, and this one."""
    empty, one = bytes([0xFC | 1 - field, 0x80, 0x80]), bytes([0xFC | field, *map(odd, pair)])
    return b"GA94\x03" + bytes([0x40 | 2, 0xFF]) + empty + one + b"\xff"


def film(path: Path, said: Mapping[int, Sequence[Pair]], frames: int = 150, field: int = 0) -> Path:
    """MPEG-2 with B-frames and a tone; from each frame number on, a pair a frame."""
    pairs = {at + i: pair for at, given in said.items() for i, pair in enumerate(given)}
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg2video", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.max_b_frames = 2
        track = container.add_stream("mp2", rate=16000, layout="mono")
        tone = (9000 * np.sin(np.arange(16000 * frames // FPS) * 0.2)).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = 16000, Fraction(1, 16000), 0
        for part in (sound, None):
            container.mux(track.encode(part))
        for i in range(frames + 1):
            frame = av.VideoFrame(64, 48, "yuv420p") if i < frames else None
            if frame:
                frame.pts, frame.time_base = i, Fraction(1, FPS)
            for packet in video.encode(frame):
                data, number = bytes(packet), round(packet.pts * packet.time_base * FPS)
                at = data.index(b"\x00\x00\x01\x01")  # the first slice of the picture
                mark = b"\x00\x00\x01\xb2" + user_data(pairs.get(number, (0, 0)), field)
                made = av.Packet(data[:at] + mark + data[at:])
                made.stream, made.time_base = video, packet.time_base
                made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
                container.mux(made)
    return path


def cues_of(path: Path, facts: Facts | None = None, **options: str) -> tuple[list, dict[int, str]]:
    *rows, done = decode(str(path), [Cues(**options)], Request(facts=facts or Facts()))
    return [(row.time, row.payload) for row in rows if isinstance(row, Row)], done.missing


POP_ON = {
    10: [*twice(CLEAR_LOADED, LOAD, LAST_ROW), *spelled("HELLO")],
    25: twice(SHOW),
    50: twice(CLEAR),
    60: [*twice(CLEAR_LOADED, LOAD, LAST_ROW), *spelled("GOOD DAY")],
    100: twice(SHOW),
}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GA94\x03",
        b"GA94\x03\xff",
        b"GA94\x03\xff\xff\xfc\x14",
        b"GA94\x03\x42\xff\xf8\x94\x20\xfd\x94\x20",  # not valid; field 2
        b"GA94\x06\x41\xff\xfc\x94\x20",  # not captions
    ],
)
def test_what_is_cut_or_is_no_caption_gives_nothing(data):
    assert list(words_of(data)) == []


def test_captions_come_when_they_are_shown_though_packets_are_out_of_order(tmp_path):
    facts = Facts()
    rows, missing = cues_of(film(tmp_path / "a.ts", POP_ON), facts)
    assert [text for _, text in rows] == ["HELLO", "GOOD DAY"]
    assert rows[1][0] - rows[0][0] == pytest.approx(3.0, abs=0.02)
    assert (missing, facts.frames, facts.bad_packets) == ({}, 0, 0)


def test_times_are_those_of_the_frames(tmp_path):
    path = film(tmp_path / "a.ts", POP_ON)
    signals = [Frames(fps=25.0, resize=32, crop=32), Cues()]
    rows = [row for row in decode(str(path), signals) if isinstance(row, Row)]
    frames = sorted({row.time for row in rows if row.signal == 0})  # the sound begins before
    said = [row.time for row in rows if row.signal == 1]
    assert said == pytest.approx([frames[25], frames[100]], abs=0.02)


def test_a_caption_that_is_shown_again_and_one_that_is_never_cleared_are_captions(tmp_path):
    loaded = [*twice(CLEAR_LOADED, LOAD, LAST_ROW), *spelled("HELLO")]
    said = {5: loaded, 25: twice(SHOW), 50: loaded, 75: twice(SHOW)}
    rows, _ = cues_of(film(tmp_path / "a.ts", said))
    assert [text for _, text in rows] == ["HELLO", "HELLO"]


def test_rolling_lines_come_once(tmp_path):
    head = twice(ROLL_UP, RETURN, LAST_ROW)
    said = {25: [*head, *spelled("ONE")], 75: [*head, *spelled("TWO")], 120: twice(CLEAR)}
    rows, _ = cues_of(film(tmp_path / "a.ts", said))
    assert [text for _, text in rows] == ["ONE", "TWO"]


def test_others_are_left_alone(tmp_path):
    rows, missing = cues_of(film(tmp_path / "second.ts", POP_ON, field=1))
    assert (rows, missing) == ([], {0: "no_captions"})
    other = {
        at: [(first | 8 if 0x10 <= first < 0x20 else first, second) for first, second in pairs]
        for at, pairs in POP_ON.items()
    }
    assert cues_of(film(tmp_path / "cc2.ts", other)) == ([], {0: "no_captions"})
    path = film(tmp_path / "a.ts", POP_ON)
    assert cues_of(path, language="en") == ([], {0: "no_captions"})
    path.with_suffix(".srt").write_text("1\n00:00:00,500 --> 00:00:01,000\nbeside\n")
    assert [text for _, text in cues_of(path)[0]] == ["beside"]


def test_speech_is_heard_only_where_pictures_have_no_word(tmp_path):
    empty = {10: twice(CLEAR_LOADED, LOAD, SHOW)}
    for name, said, kind in (
        ("a.ts", POP_ON, str),
        ("b.ts", empty, np.ndarray),
        ("c.ts", {}, np.ndarray),
    ):
        rows, missing = cues_of(film(tmp_path / name, said), speech="whisper:tiny")
        assert {type(payload) for _, payload in rows} == {kind}
        assert missing == {}
