"""Does extraction keep the backbone fed? Rows per second end to end ÷ the limit of the machine.

    python benchmarks/extract.py --backbone mobilenet_v2 resnet18 resnet34 --repeat 3

Many short clips are made with PyAV. Measured alone, at one thread: CPU-s per row of the forward,
and of decoding. The limit is cores ÷ their sum. Then the whole job runs on the same clips, one lane
per core, rows counted from when the lanes are at work (a tenth of the clips has ended) to the last
clip; the start is told apart.

`ratio` is rows/s end to end ÷ the limit, and tells the truth on a quiet machine. On one that others
use too, `of rest` counts as cores what they left over: rows × CPU-s per row alone ÷ (cores × wall −
CPU-s of everybody else), so cores that idle while rows wait still count against us. `cpu` is CPU-s
per row alone ÷ CPU-s per row end to end: what the pipeline itself costs.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch

from mmf.extract import FeatureRequest, JobOptions, JobStarted, VideoEnded, extract
from mmf.extract.decoder.parent import Decoder, Sample
from mmf.extract.lanes import one_thread
from mmf.extract.recipe import build

WIDTH, HEIGHT, RATE = 320, 240, 25


def make_clips(folder: Path, clips: int, seconds: float) -> None:
    """Moving texture with grain: neither flat nor noise, as real clips are."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (HEIGHT // 8 + 40, WIDTH // 8 + 40, 3), np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    for clip in range(clips):
        with av.open(str(folder / f"clip_{clip:04}.mp4"), "w") as container:
            stream = container.add_stream("h264", rate=RATE, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            dx, dy = rng.integers(1, 4, 2)
            for i in range(round(seconds * RATE)):
                y, x = (i * dy) % 300, (i * dx) % 300
                picture = texture[y : y + HEIGHT, x : x + WIDTH].astype(np.int16)
                picture = picture + rng.integers(-6, 7, picture.shape, np.int16)
                frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


def forward_alone(request: FeatureRequest, rows: int) -> float:
    """CPU-s per row of the forward by itself, one thread; median over batches."""
    backbone = build(request)
    rng = np.random.default_rng(0)
    batch = backbone.empty_batch()
    batch[:] = rng.integers(0, 256, batch.shape, np.uint8)
    spent = []
    with one_thread():
        backbone.rows(batch)
        for _ in range(max(5, rows // backbone.batch)):
            before = time.thread_time()
            backbone.rows(batch)
            spent.append(time.thread_time() - before)
    return statistics.median(spent) / backbone.batch


def decode_alone(request: FeatureRequest, paths: list[Path]) -> float:
    """CPU-s per row of decoding by itself, process start left out."""
    with Decoder([request.signal]) as decoder:
        for path in paths[:2]:
            decoder.submit(path.name, str(path))
        for _ in decoder.events():
            pass
        before = tree_cpu_seconds()
        for path in paths:
            decoder.submit(path.name, str(path))
        rows = sum(isinstance(event, Sample) for event in decoder.events())
        return (tree_cpu_seconds() - before) / rows


def tree_cpu_seconds() -> float:
    """CPU-s of this process and all below it, those that ended included."""
    total = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    tick = os.sysconf("SC_CLK_TCK")
    for pid in _descendants(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / tick  # utime stime cutime cstime
    return total


def machine_cpu_seconds() -> float:
    """CPU-s that the machine's cores were not idle since it started."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # idle, iowait


def _descendants(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except OSError:
        return []
    return children + [g for child in children for g in _descendants(child)]


@dataclass
class Clock:
    """Takes the time and the CPU-s at the first videos and at the last."""

    warm: int
    started: float = 0.0
    ended: int = 0
    first: tuple[float, ...] = (0.0, 0.0, 0.0)
    last: tuple[float, ...] = (0.0, 0.0, 0.0)

    def __call__(self, event: JobStarted | VideoEnded) -> None:
        if isinstance(event, JobStarted):
            return
        self.ended += 1
        self.last = time.monotonic(), tree_cpu_seconds(), machine_cpu_seconds()
        if self.ended == self.warm:
            self.first = self.last


def end_to_end(request: FeatureRequest, folder: Path, clips: int, rows_per_clip: int) -> Clock:
    with tempfile.TemporaryDirectory() as out:
        clock = Clock(warm=max(1, clips // 10), started=time.monotonic())
        result = extract(folder, Path(out) / "bench.mmf", [request], JobOptions(), clock)
        if result.counts[request.name].done != clips:
            raise SystemExit(f"not every clip is done: {result}")
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", nargs="+", default=["mobilenet_v2", "resnet18", "resnet34"])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    rows_per_clip = round(options.seconds * options.fps)
    print(
        f"{options.clips} clips of {options.seconds} s, {WIDTH}x{HEIGHT}, {rows_per_clip} rows "
        f"each; {cores} cores; torch {torch.__version__}"
    )
    print("backbone      forward  decode   limit  end to end   ratio of rest    cpu  start")
    print("               ms/row  ms/row  rows/s      rows/s                           s")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_clips(folder, options.clips, options.seconds)
        paths = sorted(folder.iterdir())
        for name in options.backbone:
            request = FeatureRequest(
                name="rgb", modality="rgb", backbone=name, weights="random:0", fps=options.fps
            )
            shares: list[tuple[float, float, float]] = []
            for _ in range(options.repeat):
                forward = forward_alone(request, 80)
                decode = decode_alone(request, paths[:20])
                clock = end_to_end(request, folder, options.clips, rows_per_clip)
                rows = (clock.ended - clock.warm) * rows_per_clip
                wall, cpu, machine = (b - a for a, b in zip(clock.first, clock.last, strict=True))
                alone = (forward + decode) * rows
                left = cores * wall - (machine - cpu)
                shares.append((alone / (cores * wall), alone / left, alone / cpu))
                ratio, rest, own = shares[-1]
                print(
                    f"{name:14} {forward * 1e3:6.2f} {decode * 1e3:7.2f} "
                    f"{cores / (forward + decode):7.1f} {rows / wall:11.1f} {ratio:7.3f} "
                    f"{rest:7.3f} {own:6.3f} {clock.first[0] - clock.started:6.1f}",
                    flush=True,
                )
            ratio, rest, own = map(statistics.median, zip(*shares, strict=True))
            print(f"{name:14} median ratio {ratio:.3f}, of rest {rest:.3f}, cpu {own:.3f}")


if __name__ == "__main__":
    main()
