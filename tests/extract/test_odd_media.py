"""Odd but valid media: each has the rows that its length says, or a clear reason why it has none.

At one row a second; two seconds of pictures or sound unless a line of the table says otherwise.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
import pytest

from mmf.extract.media.decoding import Done, Row, decode
from mmf.extract.media.opening import Unusable
from mmf.extract.signals import Frames, Waves

SIGNALS = (Frames(resize=16, crop=16), Waves())


@dataclass(frozen=True, kw_only=True)
class V:
    """A stream of pictures; of `times`, in seconds, or even ones from `start`."""

    codec: str = "libx264"
    size: tuple[int, int] = (32, 24)
    form: str = "yuv420p"
    fps: Fraction | int = 10
    frames: int | None = None  # None: two seconds
    start: float = 0.0
    times: tuple[float, ...] = ()
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class A:
    """A stream of sound."""

    codec: str = "aac"
    rate: int = 16_000
    layout: str = "mono"
    seconds: float = 2.0
    start: float = 0.0


PCM = A(codec="pcm_s16le")
FFV1 = V(codec="ffv1")
NONE = "no_such_stream"
# file: its streams, and the rows of pictures and of sound, the reason where there are none
ODD = {
    "one_pixel.mkv": ((replace(FFV1, size=(1, 1), form="gray"),), (2, NONE)),
    "17x3.mkv": ((replace(FFV1, size=(17, 3), form="yuv444p"),), (2, NONE)),
    "odd_420.mkv": ((replace(FFV1, size=(33, 31)),), (2, NONE)),
    "tall.mp4": ((V(size=(2, 2048)),), (2, NONE)),
    "wide.mp4": ((V(size=(2048, 2)),), (2, NONE)),
    "grey.mp4": ((V(form="gray"),), (2, NONE)),
    "grey_16.mkv": ((replace(FFV1, form="gray16le"),), (2, NONE)),
    "444.mp4": ((V(form="yuv444p"),), (2, NONE)),
    "422_10.mov": ((V(codec="prores_ks", form="yuv422p10le"),), (2, NONE)),
    "ten_bit.mp4": ((V(form="yuv420p10le"),), (2, NONE)),
    "twelve_bit.mkv": ((replace(FFV1, form="yuv420p12le"),), (2, NONE)),
    "alpha.webm": ((V(codec="libvpx-vp9", form="yuva420p"),), (2, NONE)),
    "alpha.mov": ((V(codec="png", form="rgba"),), (2, NONE)),
    "palette.gif": ((V(codec="gif", form="rgb8"),), (2, NONE)),
    "full_range.avi": ((V(codec="mjpeg", form="yuvj420p"),), (2, NONE)),
    "interlaced.ts": (
        (V(codec="mpeg2video", size=(64, 48), fps=25, options=(("flags", "+ilme+ildct"),)),),
        (2, NONE),
    ),
    "reordered.mp4": ((V(fps=25, options=(("bf", "3"),)),), (2, NONE)),
    "key_frames.mp4": ((V(options=(("g", "1"),)),), (2, NONE)),
    "film.mp4": ((V(fps=Fraction(24000, 1001), frames=48),), (3, NONE)),
    "ntsc.ts": ((V(codec="mpeg2video", size=(64, 48), fps=Fraction(30000, 1001)),), (3, NONE)),
    "thousand.mkv": ((V(fps=1000, frames=100),), (1, NONE)),
    "slow.mp4": ((V(fps=Fraction(1, 2), frames=2),), (4, NONE)),
    "one_frame.mp4": ((V(frames=1),), (1, NONE)),
    "uneven.mkv": ((V(times=(0, 0.1, 0.15, 1.7, 1.9)),), (2, NONE)),
    "late.mkv": ((V(start=100.0), replace(PCM, start=100.0)), (2, 2)),
    "before_zero.mp4": ((V(start=-1.0),), (1, NONE)),  # MP4 shows nothing before zero
    "late_sound.mkv": ((V(), replace(PCM, seconds=1.0, start=1.0)), (2, 2)),
    "late_pictures.mkv": ((V(start=2.0), PCM), (4, 4)),
    "short_sound.mp4": ((V(), A(seconds=0.5)), (2, 2)),
    "long_sound.mkv": ((V(frames=5), replace(PCM, seconds=4.0)), (4, 4)),
    "two_tracks.mkv": ((V(), PCM, replace(PCM, rate=48_000, layout="stereo")), (2, 2)),
    "telephone.wav": ((replace(PCM, rate=8000),), (NONE, 2)),
    "studio.wav": ((A(codec="pcm_s24le", rate=96_000),), (NONE, 2)),
    "bat.flac": ((A(codec="flac", rate=192_000),), (NONE, 2)),
    "bytes.wav": ((A(codec="pcm_u8", rate=11_025),), (NONE, 2)),
    "floats.wav": ((A(codec="pcm_f32le"),), (NONE, 2)),
    "surround.mp4": ((V(), A(rate=48_000, layout="5.1")), (2, 2)),
    "eight.flac": ((A(codec="flac", layout="7.1"),), (NONE, 2)),
    "voice.ogg": ((A(codec="libopus", rate=48_000),), (NONE, 2)),
    "music.mp3": ((A(codec="libmp3lame", rate=44_100, layout="stereo"),), (NONE, 3)),
    "moment.wav": ((replace(PCM, seconds=0.01),), (NONE, 1)),
    "flash.flv": ((V(codec="flv"), A(codec="libmp3lame", rate=44_100)), (3, 3)),
    "windows.wmv": ((V(codec="wmv2"), replace(PCM, rate=44_100)), (2, 2)),
    "no_sound_in_it.mkv": ((V(), replace(PCM, seconds=0.0)), (2, NONE)),
    "no_picture_in_it.mkv": ((V(frames=0), PCM), "undecodable"),
    "nothing_in_it.mkv": ((V(frames=0), replace(PCM, seconds=0.0)), "truncated"),
}


def write(path, streams):
    # FLV's unsigned times have no room for what an encoder puts before zero
    kept = {"avoid_negative_ts": "disabled"} if any(one.start < 0 for one in streams) else {}
    with av.open(str(path), "w", container_options=kept) as container:
        # all of them before any packet: the header is written with the first
        added = [(add(container, one), one) for one in streams]
        container.start_encoding()
        for stream, one in added:
            for packet in packets(stream, one):
                container.mux(packet)


def add(container, one):
    if isinstance(one, A):
        return container.add_stream(one.codec, rate=one.rate, layout=one.layout)
    stream = container.add_stream(one.codec, rate=one.fps, options=dict(one.options))
    (stream.width, stream.height), stream.pix_fmt = one.size, one.form
    if one.times or one.start:
        stream.codec_context.time_base = Fraction(1, 1000)
    return stream


def packets(stream, one):
    if isinstance(one, A):
        yield from sounds(stream, one)
        return
    count = round(2 * one.fps) if one.frames is None else one.frames
    times = one.times or tuple(one.start + i / one.fps for i in range(count))
    base = stream.codec_context.time_base or Fraction(1) / one.fps
    for i, time in enumerate(times):
        width, height = one.size
        image = np.full((height, width, 3), 10 * i % 250, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=one.form)
        frame.pts, frame.time_base = round(time / base), base
        yield from stream.encode(frame)
    if times:
        yield from stream.encode(None)


def sounds(stream, one):
    form, planes = stream.format, stream.layout.nb_channels
    step = stream.codec_context.frame_size or 1024
    total = int(one.seconds * one.rate)
    kind = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32}
    for at in range(0, total, step):
        n = min(step, total - at)
        shape = (planes, n) if form.is_planar else (1, n * planes)
        values = np.zeros(shape, kind[form.name.removesuffix("p")])
        frame = av.AudioFrame.from_ndarray(values, format=form.name, layout=one.layout)
        frame.sample_rate, frame.time_base = one.rate, Fraction(1, one.rate)
        frame.pts = at + int(one.start * one.rate)
        yield from stream.encode(frame)
    if total:
        yield from stream.encode(None)


def became(path):
    """The rows of pictures and of sound, or the reason why there are none."""
    times = [[], []]
    try:
        for event in decode(str(path), SIGNALS):
            if isinstance(event, Row):
                times[event.signal].append(event.time)
    except Unusable as error:
        return error.reason
    assert isinstance(event, Done)
    assert all(np.all(np.diff(t) >= 0) for t in times)
    return tuple(event.missing.get(i, rows) for i, rows in enumerate(event.rows))


@pytest.mark.parametrize("name", ODD)
def test_odd_media_have_the_rows_of_their_length(name, tmp_path):
    streams, expected = ODD[name]
    write(tmp_path / name, streams)
    assert became(tmp_path / name) == expected
