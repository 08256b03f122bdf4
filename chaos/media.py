"""Small real media files, of a second each, in five containers, for the trials to damage."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FRAMES, FPS, WIDTH, HEIGHT = 12, 12, 64, 48
SAMPLE_RATE = 48_000
# container: codecs of pictures and of sound
CONTAINERS = {
    "mp4": ("libx264", "aac"),
    "mkv": ("mpeg4", "flac"),
    "webm": ("libvpx", "libopus"),
    "avi": ("mpeg4", "mp2"),
    "ts": ("mpeg2video", "mp2"),
}


def make_clips(folder: Path) -> dict[str, Path]:
    """A clip in each container; folder/clip.mp4 and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {kind: folder / f"clip.{kind}" for kind in CONTAINERS}
    for kind, path in paths.items():
        make_clip(path, *CONTAINERS[kind])
    return paths


def make_clip(path: Path, video: str = "libx264", audio: str = "aac") -> Path:
    """A square that moves over noise, and a tone."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream(video, rate=25 if video == "mpeg2video" else FPS)
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound: Any = container.add_stream(audio, rate=SAMPLE_RATE, layout="mono")
        for i in range(FRAMES * (2 if video == "mpeg2video" else 1)):
            image = rng.integers(0, 64, (HEIGHT, WIDTH, 3), np.uint8)
            image[8:24, i : i + 16] = 200
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(pictures.encode(None))
        tone = np.sin(np.arange(SAMPLE_RATE) * (2 * np.pi * 440 / SAMPLE_RATE))
        frame = av.AudioFrame.from_ndarray(
            (tone * 12_000).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
        frame.pts = 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path
