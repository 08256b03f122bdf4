"""Does extraction keep the backbone fed? Rows per second end to end ÷ the limit of the machine.

    python benchmarks/extract.py --case sampled every 1080p shared --repeat 3

Clips are made with PyAV. Measured alone, at one thread: CPU-s per row of the forward, and of
decoding. The limit is cores ÷ their sum. Then the whole job runs on the same clips, one lane per
core, rows counted from when the lanes are at work (a tenth of the clips has ended) to the last
clip; the start is told apart. The cases: many short clips at five frames a second and at every
frame (the forward bounds), 1080p at one frame a second (decoding bounds), and two backbones in one
run against a run for each (how often is a frame decoded?).

`ratio` is rows/s end to end ÷ the limit, and tells the truth on a quiet machine. On one that others
use too, `of rest` counts as cores what they left over: rows × CPU-s per row alone ÷ (cores × wall −
CPU-s of everybody else), so cores that idle while rows wait still count against us. `cpu` is CPU-s
per row alone ÷ CPU-s per row end to end: what the pipeline itself costs. Cores share a cache and
the memory, so the same work costs more CPU-s while all of them work: `busy` is the ratio to a limit
whose forward and decoding are measured in as many processes at once as there are cores.
"""

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import torch

from mmf.extract import FeatureRequest, JobOptions, JobStarted, VideoEnded, extract
from mmf.extract.decoder.events import Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.lanes import one_thread
from mmf.extract.recipe import build
from mmf.memory import memory_kept

RATE = 25  # frames/s of the clips
HEADER = f"""\
{"":22} forward  decode   limit  end to end   ratio   busy of rest    cpu  start
{"":22}  ms/row  ms/row  rows/s      rows/s                                  s"""
STARTING = 25.0  # seconds for the processes to be there
DISTINCT = 8  # clips that are encoded; the others are copies under names of their own


@dataclass(frozen=True, kw_only=True)
class Case:
    """Clips of one kind, and what is asked of them."""

    width: int
    height: int
    clips: int
    seconds: float
    fps: float
    backbones: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows of one clip."""
        return round(self.seconds * self.fps)

    def requests(self) -> list[list[FeatureRequest]]:
        """What each run asks for: one backbone a run."""
        return [[self.request(name)] for name in self.backbones]

    def request(self, backbone: str) -> FeatureRequest:
        """One backbone's rows."""
        return FeatureRequest(
            name=backbone, modality="rgb", backbone=backbone, weights="random:0", fps=self.fps
        )


SHORT = {"width": 320, "height": 240, "seconds": 3.0}
CASES = {
    "sampled": Case(
        **SHORT, clips=100, fps=5.0, backbones=("mobilenet_v2", "resnet18", "resnet34")
    ),
    "every": Case(**SHORT, clips=64, fps=float(RATE), backbones=("resnet34",)),
    "1080p": Case(
        width=1920, height=1080, seconds=10.0, clips=80, fps=1.0, backbones=("resnet34",)
    ),
    "shared": Case(
        width=1280,
        height=720,
        seconds=5.0,
        clips=80,
        fps=2.0,
        backbones=("resnet18", "mobilenet_v2"),
    ),
}


def make_clips(folder: Path, case: Case) -> list[Path]:
    """Moving texture with grain: neither flat nor noise, as real clips are."""
    rng = np.random.default_rng(0)
    height, width = case.height, case.width
    texture = rng.integers(0, 256, (height // 8 + 40, width // 8 + 40, 3), np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    paths = [folder / f"clip_{clip:04}.mp4" for clip in range(case.clips)]
    for clip, path in enumerate(paths):
        if clip >= DISTINCT:
            shutil.copy(paths[clip % DISTINCT], path)
            continue
        with av.open(str(path), "w") as container:
            stream = container.add_stream("h264", rate=RATE, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            dx, dy = rng.integers(1, 4, 2)
            for i in range(round(case.seconds * RATE)):
                y, x = (i * dy) % 300, (i * dx) % 300
                picture = texture[y : y + height, x : x + width].astype(np.int16)
                picture = picture + rng.integers(-6, 7, picture.shape, np.int16)
                frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return paths


def forward_alone(request: FeatureRequest, rows: int) -> float:
    """CPU-s per row of the forward by itself, one thread; median over batches."""
    backbone = build(request)
    rng = np.random.default_rng(0)
    batch = backbone.empty_batch()
    batch[:] = rng.integers(0, 256, batch.shape, np.uint8)
    spent = []
    with memory_kept(), one_thread():
        backbone.rows(batch)
        for _ in range(max(5, rows // backbone.batch)):
            before = time.thread_time()
            backbone.rows(batch)
            spent.append(time.thread_time() - before)
    return statistics.median(spent) / backbone.batch


def cost(requests: Sequence[FeatureRequest], paths: list[Path], at: float) -> tuple[float, float]:
    """CPU-s per row of the forward and of decoding, begun at a time that processes agree on."""
    time.sleep(max(0.0, at - time.monotonic()))
    forward = sum(forward_alone(request, 80) for request in requests)
    return forward, decode_alone(requests, paths)


def cost_together(requests: Sequence[FeatureRequest], paths: list[Path]) -> float:
    """CPU-s per row of both, in as many processes at once as there are cores; the mean of them."""
    cores, at = len(os.sched_getaffinity(0)), time.monotonic() + STARTING
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        asked = [pool.submit(cost, requests, paths, at) for _ in range(cores)]
        return statistics.mean(sum(one.result()) for one in asked)


def decode_alone(requests: Sequence[FeatureRequest], paths: list[Path]) -> float:
    """CPU-s per row of decoding by itself, once for all; process start left out."""
    signals = list(dict.fromkeys(request.signal for request in requests))
    with Decoder(signals) as decoder:
        for path in paths[:2]:
            decoder.submit(path.name, str(path))
        for _ in decoder.events():
            pass
        before = tree_cpu_seconds()
        for path in paths:
            decoder.submit(path.name, str(path))
        rows = sum(isinstance(event, Sample) for event in decoder.events()) // len(signals)
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
    """Takes the time and the CPU-s at the first videos and at the last; counts what was decoded."""

    warm: int
    started: float = 0.0
    ended: int = 0
    frames: int = 0
    first: tuple[float, ...] = (0.0, 0.0, 0.0)
    last: tuple[float, ...] = (0.0, 0.0, 0.0)

    def __call__(self, event: JobStarted | VideoEnded) -> None:
        if isinstance(event, JobStarted):
            return
        self.ended += 1
        self.frames += event.media.frames
        self.last = time.monotonic(), tree_cpu_seconds(), machine_cpu_seconds()
        if self.ended == self.warm:
            self.first = self.last

    @property
    def spent(self) -> tuple[float, ...]:
        """Wall, own CPU and the machine's CPU seconds from the first videos to the last."""
        return tuple(b - a for a, b in zip(self.first, self.last, strict=True))


def end_to_end(requests: Sequence[FeatureRequest], folder: Path, clips: int) -> Clock:
    with tempfile.TemporaryDirectory() as out:
        clock = Clock(warm=max(1, clips // 10), started=time.monotonic())
        result = extract(folder, Path(out) / "bench.mmf", requests, JobOptions(), clock)
        if any(result.counts[request.name].done != clips for request in requests):
            raise SystemExit(f"not every clip is done: {result}")
    return clock


def against_the_limit(
    case: Case, requests: Sequence[FeatureRequest], folder: Path, repeat: int
) -> Clock:
    """One run asked for, `repeat` times: prints its shares of the limit; the last run's clock."""
    cores = len(os.sched_getaffinity(0))
    paths = sorted(folder.iterdir())
    name = "+".join(request.name for request in requests)
    shares: list[tuple[float, float, float, float]] = []
    for _ in range(repeat):
        forward, decode = cost(requests, paths[:20], 0.0)
        together = cost_together(requests, paths[:20])
        clock = end_to_end(requests, folder, case.clips)
        rows = (clock.ended - clock.warm) * case.rows
        wall, cpu, machine = clock.spent
        alone = (forward + decode) * rows
        left = cores * wall - (machine - cpu)
        ratio, busy = alone / (cores * wall), together * rows / (cores * wall)
        rest, own = alone / left, alone / cpu
        shares.append((ratio, busy, rest, own))
        print(
            f"{name:22} {forward * 1e3:6.2f} {decode * 1e3:7.2f} "
            f"{cores / (forward + decode):7.1f} {rows / wall:11.1f} {ratio:7.3f} "
            f"{busy:6.3f} {rest:7.3f} {own:6.3f} {clock.first[0] - clock.started:6.1f}",
            flush=True,
        )
    ratio, busy, rest, own = map(statistics.median, zip(*shares, strict=True))
    print(f"{name:22} median ratio {ratio:.3f}, busy {busy:.3f}, of rest {rest:.3f}, cpu {own:.3f}")
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores; torch {torch.__version__}")
    for case_name in options.case:
        case = CASES[case_name]
        print(
            f"{case_name}: {case.clips} clips of {case.seconds} s, {case.width}x{case.height}, "
            f"{case.rows} rows each"
        )
        print(HEADER)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            make_clips(folder, case)
            apart = [against_the_limit(case, r, folder, options.repeat) for r in case.requests()]
            if case_name == "shared":
                both = [request for requests in case.requests() for request in requests]
                together = against_the_limit(case, both, folder, options.repeat)
                frames = sum(clock.frames for clock in apart)
                wall = sum(clock.spent[0] for clock in apart)
                print(
                    f"decoded {together.frames} frames in one run, {frames} in two; "
                    f"{together.spent[0]:.1f} s against {wall:.1f} s"
                )


if __name__ == "__main__":
    main()
