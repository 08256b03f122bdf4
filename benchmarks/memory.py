"""Does memory stay where it is? For a long video, and over many clips in one process.

    python benchmarks/memory.py [--hours 2] [--clips 2000]

Made with PyAV: a video of 10 seconds and one of hours (96 x 64 pixels, 4 frames/s, sound at 8 kHz),
and short clips of the same kind. Every run is `mmf`'s whole job in a process of its own: pictures,
flow, sound, the store. Told are the resident bytes of the job and of its decoder's process, sampled
20 times a second: the highest, and for the clips the highest after the first 200 of them over what
there was then.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, SOUND = 4, 8000
SETTLED = 200  # clips
LIMIT_LONG, LIMIT_CLIPS = 300, 50  # MB, as the issue has it


def make_video(path: Path, seconds: int) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=SOUND, layout="mono")
        noise = np.random.default_rng(0).integers(0, 256, (64, 192, 3), np.uint8)
        tone = (8000 * np.sin(np.arange(SOUND) / 20)).astype(np.int16)[None]
        for second in range(seconds):
            for i in range(second * RATE, (second + 1) * RATE):
                frame = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(noise[:, i % 96 : i % 96 + 96]), format="rgb24"
                )
                frame.pts, frame.time_base = i, Fraction(1, RATE)
                container.mux(video.encode(frame))
            part = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            part.sample_rate, part.pts = SOUND, second * SOUND
            part.time_base = Fraction(1, SOUND)
            container.mux(sound.encode(part))
        for stream in (video, sound):
            container.mux(stream.encode(None))


def resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


class Watch(threading.Thread):
    """Samples this process and the decoder's; (clips ended, ours, the decoder's) in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended, self.samples, self.through = 0, [], False

    def run(self) -> None:
        while not self.through:
            decoders = max(map(resident_mb, children(os.getpid())), default=0.0)
            self.samples.append((self.ended, resident_mb(os.getpid()), decoders))
            time.sleep(0.05)


def job(source: str, store: str) -> None:
    """One job, watched; prints what was seen as JSON."""
    from mmf.extract import FeatureRequest, JobOptions, VideoEnded, extract

    watch = Watch()

    def progress(event: object) -> None:
        watch.ended += isinstance(event, VideoEnded)

    asked = [
        FeatureRequest(name="rgb", modality="rgb", backbone="hog"),
        FeatureRequest(name="flow", modality="flow", backbone="hof"),
        FeatureRequest(name="audio", modality="audio", backbone="logmel"),
    ]
    watch.start()
    result = extract(source, store, asked, JobOptions(workers=1), progress)
    watch.through = True
    watch.join()
    done = {name: count.done for name, count in result.counts.items()}
    print(json.dumps({"samples": watch.samples, "done": done, "seconds": result.seconds}))


def watched(source: Path, folder: Path) -> dict:
    store = tempfile.mkdtemp(dir=folder)
    command = [sys.executable, __file__, "--job", str(source), str(Path(store) / "feats")]
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(made.stdout)


def long_video(folder: Path, hours: float) -> None:
    print("| video | job, peak MB | decoder, peak MB | seconds |\n|---|---|---|---|")
    peaks = []
    for seconds in (10, round(hours * 3600)):
        path = folder / f"{seconds}.mkv"
        make_video(path, seconds)
        seen = watched(path, folder)
        ours, theirs = (max(s[i] for s in seen["samples"]) for i in (1, 2))
        peaks.append((ours, theirs))
        print(f"| {seconds} s | {ours:.0f} | {theirs:.0f} | {seen['seconds']:.0f} |")
    growth = sum(peaks[1]) - sum(peaks[0])
    print(f"\n{growth:+.0f} MB for {hours:g} hours against 10 s; the limit is +{LIMIT_LONG} MB\n")


def many_clips(folder: Path, clips: int) -> None:
    clip = folder / "clip.mkv"
    make_video(clip, 2)
    several = folder / "clips"
    several.mkdir()
    for number in range(clips):
        os.link(clip, several / f"{number}.mkv")
    seen = watched(several, folder)
    print("| clips ended | job, peak MB | decoder, peak MB |\n|---|---|---|")
    bounds = [0, SETTLED, *range(500, clips + 1, 500)]
    for first, last in itertools.pairwise(bounds):
        part = [s for s in seen["samples"] if first <= s[0] <= last]
        print(f"| {last} | {max(s[1] for s in part):.0f} | {max(s[2] for s in part):.0f} |")
    grown = []
    for i in (1, 2):
        settled = max(s[i] for s in seen["samples"] if s[0] <= SETTLED)
        grown.append(max(s[i] for s in seen["samples"]) - settled)
    print(
        f"\njob {grown[0]:+.0f} MB, decoder {grown[1]:+.0f} MB after the first {SETTLED} of "
        f"{clips} clips ({seen['done']}, {seen['seconds']:.0f} s); the limit is +{LIMIT_CLIPS} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        return job(*args.job)
    with tempfile.TemporaryDirectory(prefix="mmf-memory-") as folder:
        long_video(Path(folder), args.hours)
        many_clips(Path(folder), args.clips)
    return None


if __name__ == "__main__":
    main()
