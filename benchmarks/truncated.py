"""How often is a file that was cut short noticed, where no manifest says its size or digest?

    python benchmarks/truncated.py --cuts 300

Clips of some seconds are cut at random bytes and decoded as a job decodes them, pictures and sound.
`noticed` is the share that fails, with the reasons; a cut that is `quiet` gave rows as a whole file
does: the share of the whole's rows that it had, at worst. `front` is an MP4 with its index first.
"""

import argparse
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from mmf.extract.media.decoding import Done, decode
from mmf.extract.media.opening import Unusable
from mmf.extract.signals import Frames, Waves

SIGNALS = (Frames(fps=4.0, resize=32, crop=32), Waves())
SECONDS, FPS, RATE = 6, 25, 48_000
KINDS = {
    "mp4": ("libx264", "aac", {}),
    "front": ("libx264", "aac", {"movflags": "faststart"}),
    "mkv": ("libx264", "aac", {}),
    "webm": ("libvpx", "libopus", {}),
    "avi": ("mpeg4", "mp2", {}),
    "ts": ("mpeg2video", "mp2", {}),
}


@dataclass(kw_only=True)
class Counts:
    """What became of the cuts of one kind of file."""

    reasons: Counter[str] = field(default_factory=Counter)
    quiet: list[float] = field(default_factory=list)  # of the whole's rows, the share there


def make(path: Path, kind: str) -> Path:
    """A clip of noise and a tone, both streams interleaved."""
    video, audio, options = KINDS[kind]
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", container_options=options) as container:
        pictures = container.add_stream(video, rate=FPS)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(audio, rate=RATE, layout="mono")
        for second in range(SECONDS):
            for _ in range(FPS):
                image = rng.integers(0, 256, (48, 64, 3), np.uint8)
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            tone = 12_000 * np.sin(np.arange(RATE) * 0.06)
            frame = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = RATE, second * RATE
            container.mux(sound.encode(frame))
        container.mux(pictures.encode(None))
        container.mux(sound.encode(None))
    return path


def rows_of(path: Path) -> int:
    """The rows of pictures and sound; raises Unusable."""
    done = [event for event in decode(str(path), SIGNALS) if isinstance(event, Done)]
    return sum(done[-1].rows)


def count(folder: Path, kind: str, cuts: int) -> Counts:
    """Cut a file of this kind at so many places."""
    suffix = {"front": "mp4"}.get(kind, kind)
    whole = make(folder / f"{kind}.{suffix}", kind)
    data, all_rows, found = whole.read_bytes(), rows_of(whole), Counts()
    rng, path = random.Random(0), folder / f"cut{whole.suffix}"
    for _ in range(cuts):
        path.write_bytes(data[: rng.randrange(1, len(data))])
        try:
            found.quiet.append(rows_of(path) / all_rows)
        except Unusable as error:
            found.reasons[error.reason] += 1
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=300, help="of each kind of file")
    cuts = parser.parse_args().cuts
    print("| container | cuts | noticed | least rows of a quiet one | reasons |")
    print("|---|--:|--:|--:|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            found = count(Path(folder), kind, cuts)
            least = f"{min(found.quiet):.0%}" if found.quiet else "–"
            reasons = ", ".join(f"{name} {n}" for name, n in found.reasons.most_common())
            share = found.reasons.total() / cuts
            print(f"| {kind} | {cuts} | {share:.1%} | {least} | {reasons} |", flush=True)


if __name__ == "__main__":
    main()
