"""A small labelled set of real media files, for the demo and for trying things out.

A clip shows a coloured shape that drifts over a grey ground, with a tone and a caption beside it.
Its class is the pair of colour and pitch, so that neither picture nor sound tells it alone; the
drift hints at the colour and the caption now and then names the pitch.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COLOURS = {"red": (210, 60, 50), "blue": (50, 80, 215)}
PITCHES = {"low": 330.0, "high": 880.0}  # Hz
FPS, SECONDS, WIDTH, HEIGHT = 12, 4, 160, 120
SAMPLE_RATE = 16000


def make_sample_set(folder: Path, *, clips: int = 120, seed: int = 0) -> Path:
    """Write `clips` files as folder/<class>/<name>.mp4 with a caption file beside each.

    The classes are red-low, red-high, blue-low and blue-high, evenly many of each.
    """
    rng = np.random.default_rng(seed)
    kinds = [(colour, pitch) for colour in COLOURS for pitch in PITCHES]
    for i in range(clips):
        colour, pitch = kinds[i % len(kinds)]
        home = folder / f"{colour}-{pitch}"
        home.mkdir(parents=True, exist_ok=True)
        path = home / f"clip_{i:03}.mp4"
        _encode(path, _frames(colour, rng), _tone(PITCHES[pitch], rng))
        path.with_suffix(".srt").write_text(_captions(pitch, rng), encoding="utf-8")
    return folder


def _frames(colour: str, rng: np.random.Generator) -> np.ndarray:
    """Uint8 (frames, h, w, 3): red shapes mostly drift right, blue ones mostly left."""
    n = FPS * SECONDS
    side = int(rng.integers(40, 64))
    drift = (1 if colour == "red" else -1) * (1 if rng.random() < 0.75 else -1)
    speed = drift * rng.uniform(1.0, 2.5)
    x0, y0 = rng.uniform(0, WIDTH - side), rng.uniform(0, HEIGHT - side)
    tint = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 10, 3), 0, 255)
    ground = np.full((HEIGHT, WIDTH, 3), rng.integers(80, 130), np.uint8)
    frames = np.repeat(ground[None], n, axis=0)
    for t in range(n):
        left = int(x0 + speed * t) % (WIDTH - side)
        frames[t, int(y0) : int(y0) + side, left : left + side] = tint
    return frames


def _tone(pitch: float, rng: np.random.Generator) -> np.ndarray:
    """Int16 (samples,): a tone near `pitch` in noise."""
    t = np.arange(SAMPLE_RATE * SECONDS) / SAMPLE_RATE
    wave = np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * t + rng.uniform(0, 6))
    wave = 0.3 * wave + rng.normal(0, 0.08, len(t))
    return (np.clip(wave, -1, 1) * 32767).astype(np.int16)


def _captions(pitch: str, rng: np.random.Generator) -> str:
    said = f"a {pitch} tone" if rng.random() < 0.4 else "a tone"
    seen = rng.choice(["something moves", "a shape goes by", "look at that"])
    return f"1\n00:00:00,500 --> 00:00:01,800\n{seen}\n\n2\n00:00:02,000 --> 00:00:03,500\n{said}\n"


def _encode(path: Path, frames: np.ndarray, samples: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "20"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        sound.sample_rate, sound.time_base, sound.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
