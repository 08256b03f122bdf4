"""Small files that ask for much: pixels, frames, streams, hours, memory. Each ends soon and alone.

They go through one decoder's process, as a job's files do, whose memory is looked at after each.
"""

import re
import struct
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from mmf.chaos.media import make_clip
from mmf.extract.decoder.events import Ended, Failed
from mmf.extract.decoder.parent import Decoder
from mmf.extract.media.opening import Limits
from mmf.extract.signals import Cues, Frames, Waves

SIGNALS = (Frames(resize=32, crop=32), Waves(), Cues())
LIMITS = Limits(timeout=20.0, timeout_per_second=0.0)
ALLOWED = 256 << 20  # bytes that the process may ever hold; 62 MiB of them are its libraries


def png(side: int = 16_384) -> bytes:
    """A black square: side² pixels in side² / 8,000 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer, rows = zlib.compressobj(1), bytes(side // 8 + 1)
    packed = b"".join([*(packer.compress(rows) for _ in range(side)), packer.flush()])
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def with_picture(path: Path, codec: str, packet: Callable[[], bytes]) -> Path:
    """A file whose one packet of video is this, whatever its header says."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
        made = av.Packet(packet())
        made.stream, made.pts, made.dts, made.duration = stream, 0, 0, 1
        made.is_keyframe = True
        container.mux(made)
    return path


def jpeg(width: int = 65_000, height: int = 65_000) -> bytes:
    """A picture of 64 × 48 whose header says otherwise."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuvj420p"
    encoder.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8)).reformat(format="yuvj420p")
    data = b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)])
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def patched(path: Path, box: bytes, at: int, numbers: bytes) -> Path:
    """The usual clip with other numbers so far behind each box of this kind."""
    data = bytearray(make_clip(path).read_bytes())
    places = [m.start() for m in re.finditer(re.escape(box), data)]
    assert places
    for place in places:
        data[place + at : place + at + len(numbers)] = numbers
    path.write_bytes(data)
    return path


def of_streams(path: Path, count: int) -> Path:
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=8000) for _ in range(count)]
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(streams[0].encode(frame))
    return path


def wav(path: Path, *, channels: int = 1, rate: int = 8000, declared: int = 1600) -> Path:
    size = struct.pack("<I", declared)
    form = struct.pack("<HHIIHH", 1, channels, rate, rate, channels * 2 & 0xFFFF, 16)
    data = b"WAVEfmt \x10\0\0\0" + form + b"data" + size + bytes(1600)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(data)) + data)
    return path


def gif(path: Path, side: int = 65_535) -> Path:
    screen = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    one = b"\x2c" + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x44\x01\0"
    path.write_bytes(screen + one + b"\x3b")
    return path


def with_tag(path: Path, nbytes: int) -> Path:
    """The usual clip with a title of so many letters."""
    plain = make_clip(path.with_name("plain.mkv"), "mpeg4", "flac")
    with av.open(str(plain)) as source, av.open(str(path), "w") as container:
        container.metadata["title"] = "x" * nbytes
        streams = [container.add_stream_from_template(s) for s in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                container.mux(packet)
    return path


def with_captions(path: Path, cues: int, letters: int) -> Path:
    make_clip(path)
    text = "".join(CUE.format(i, "x" * letters) for i in range(cues))
    path.with_suffix(".srt").write_text(text)
    return path


def nested(path: Path, kind: bytes, depth: int) -> Path:
    """Boxes within boxes of an MP4."""
    data = b"".join(struct.pack(">I", 8 * (depth - i)) + kind for i in range(depth))
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + data)
    return path


def ebml(path: Path) -> Path:
    """A Matroska file whose tracks are said to take 2⁵⁵ bytes."""
    clip = make_clip(path, "mpeg4", "flac").read_bytes()
    at = clip.index(b"\x16\x54\xae\x6b") + 4
    path.write_bytes(clip[:at] + b"\x01\x80" + bytes(6) + clip[at + 8 :])
    return path


HUGE = b"\x7f\xff\xff\xff"
CUE = "{0}\n00:00:00,100 --> 00:00:00,900\n{1}\n\n"
REFUSED = {"limit_pixels", "undecodable"}  # FFmpeg itself may refuse a size, and says no number
# how each is made, and what may become of it: what is merely odd, and costs little, is done
BOMBS = {
    "png.mov": (partial(with_picture, codec="png", packet=png), REFUSED),
    "jpeg.mkv": (partial(with_picture, codec="mjpeg", packet=jpeg), REFUSED),
    "size.mp4": (partial(patched, box=b"avc1", at=28, numbers=b"\xff" * 4), REFUSED | {"done"}),
    "screen.gif": (gif, REFUSED),
    "frames.mp4": (
        partial(patched, box=b"stsz", at=8, numbers=b"\0\0\0\x01" + HUGE),
        {"limit_frames", "truncated"},
    ),
    "repeats.mp4": (partial(patched, box=b"stts", at=12, numbers=HUGE), {"limit_frames"}),
    "hours.mp4": (
        partial(patched, box=b"stts", at=16, numbers=HUGE),
        {"limit_duration", "limit_gap"},
    ),
    "streams.mkv": (partial(of_streams, count=500), {"limit_streams"}),
    "channels.wav": (partial(wav, channels=65_535), {"truncated", "undecodable"}),
    "rate.wav": (partial(wav, rate=0xFFFFFFF0), {"not_media", "undecodable"}),
    "declared.wav": (partial(wav, rate=1, declared=0x7FFFFFF0), {"truncated", "limit_duration"}),
    "title.mkv": (partial(with_tag, nbytes=64 << 20), {"done"}),
    "line.mp4": (partial(with_captions, cues=1, letters=64 << 20), {"done"}),
    "cues.mp4": (partial(with_captions, cues=30_000, letters=1), {"done"}),
    "nested.mp4": (partial(nested, kind=b"moov", depth=100_000), {"truncated", "not_media"}),
    "tracks.mkv": (ebml, {"done", "not_media", "truncated"}),
}


@pytest.fixture(scope="module")
def decoder():
    with Decoder(SIGNALS, limits=LIMITS) as made:
        yield made


def held(process: int) -> int:
    """The most bytes that a process has held."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def outcome(decoder, path: Path) -> str:
    decoder.submit(path.name, str(path))
    most = 0
    for event in decoder.events():
        if decoder.process_id is not None and isinstance(event, Ended | Failed):
            most = held(decoder.process_id)
    assert most < ALLOWED, f"{path.name}: the process held {most >> 20} MiB"
    return event.reason if isinstance(event, Failed) else "done"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what a process has held")
@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_asks_for_much_gets_little(decoder, tmp_path, name):
    make, expected = BOMBS[name]
    path = make(tmp_path / name)
    assert outcome(decoder, path) in expected
    good = make_clip(tmp_path / "good.mp4")
    assert outcome(decoder, good) == "done"
