"""What Dask's side of a job costs: videos of which nothing is computed, through the real driver.

    python benchmarks/cluster.py [--videos 100000] [--workers 2]

The scheduler runs in a process of its own, over TCP on the loopback. A worker marks each video as
skipped and commits each bucket to the store, as after real work. Printed are milliseconds of a
video from the start of the driver to its end, the most memory that the driver and the scheduler
had, and the bytes of what comes back of a bucket.
"""

import argparse
import json
import os
import pickle
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from distributed import get_worker

from mmf.cluster.connect import connected
from mmf.cluster.profile import Profile
from mmf.cluster.settings import environment
from mmf.extract.cluster.driver import Driver
from mmf.extract.lanes import Work
from mmf.extract.manifest import Input
from mmf.extract.pipeline import Task
from mmf.extract.spent import Spent
from mmf.extract.stopping import Stop
from mmf.extract.tally import BucketEnded
from mmf.store import FeatureSpec, FeatureStore
from mmf.store.track import Media, Outcome

SPEC = FeatureSpec(name="none", modality="rgb", shape=(1,))


def skip(work: Work, tasks: Sequence[Task]) -> BucketEnded:
    """Commit that nothing came of these videos."""
    began, worker = time.monotonic(), get_worker()
    if not hasattr(worker, "store"):  # a lane opens it once
        worker.store = FeatureStore(work.store)
    worker.store.refresh()
    writer = worker.store.writer()
    for task in tasks:
        outcome = Outcome(
            video_id=task.source.video_id, status="skipped", reason="no_stream", media=Media()
        )
        writer.mark(SPEC.name, outcome)
    writer.commit()
    spent = Spent(seconds=time.monotonic() - began)
    return BucketEnded(tried=len(tasks), spent=spent, host=platform.node())


def measure(videos: int, workers: int) -> dict[str, float]:
    """Milliseconds of a video, MiB of driver and scheduler, bytes of a bucket's end."""
    ended: list[BucketEnded] = []
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), workers) as address:
        store = FeatureStore.create(Path(folder) / "none.mmf")
        store.create_feature(SPEC)
        work = Work(store=str(store.path), requests=())
        profile = Profile(scheduler=address, workers=workers)
        with connected(profile) as connection, Stop() as stop:

            def take(event: object) -> None:
                if isinstance(event, BucketEnded):
                    ended.append(event)

            driver = Driver(connection, profile, work, take, stop, run=skip)
            began = time.monotonic()
            driver.run(tasks(videos), videos)
            seconds = time.monotonic() - began
            ours, scheduler = peak(), connection.client.run_on_scheduler(peak)
        store.refresh()
        there = len(store.stored(SPEC.name).outcomes)
    if (there, sum(one.tried for one in ended)) != (videos, videos):
        raise SystemExit(f"{there} of {videos} videos are in the store")
    return {
        "ms of a video": 1e3 * seconds / videos,
        "MiB of the driver": ours,
        "MiB of the scheduler": scheduler,
        "bytes of a bucket's end": max(len(pickle.dumps(one)) for one in ended),
        "buckets": len(ended),
    }


def peak() -> float:
    """The most memory that this process had, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def tasks(videos: int) -> Iterator[Task]:
    for n in range(videos):
        yield Task(source=Input(video_id=f"folder/video-{n:07}.mp4", path=f"/x/video-{n:07}.mp4"))


class Cluster:
    """A scheduler and workers, each in a process of its own; its address."""

    def __init__(self, folder: Path, workers: int):
        self._address = folder / "scheduler.json"
        self._workers, self._processes = workers, []
        self._log = (folder / "log").open("w")

    def __enter__(self) -> str:
        file = ["--scheduler-file", str(self._address)]
        self._start("scheduler", *file, "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        while not self._address.exists():
            time.sleep(0.1)
        for n in range(self._workers):
            own = ["--nthreads", "1", "--no-nanny", "--name", str(n), "--no-dashboard"]
            self._start("worker", *file, *own, "--local-directory", str(self._address.parent))
        return json.loads(self._address.read_text())["address"]

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()

    def _start(self, what: str, *options: str) -> None:
        line = [sys.executable, "-m", "distributed.cli.dask_" + what, *options]
        env = {**os.environ, **environment(), "PYTHONPATH": ""}
        self._processes.append(subprocess.Popen(line, stdout=self._log, stderr=self._log, env=env))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    for name, value in measure(given.videos, given.workers).items():
        print(f"{name:24} {value:.3g}" if value < 1000 else f"{name:24} {value:.0f}")


if __name__ == "__main__":
    main()
