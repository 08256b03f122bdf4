"""Jobs on real Dask processes: schedulers and workers that a test starts, and what is expected."""

import contextlib
import csv
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mmf.cluster.settings import environment
from mmf.extract import FeatureRequest, extract
from mmf.extract.sample_set import make_sample_set
from mmf.store import FeatureStore

FILES, VIDEOS = 4, 40  # each file stands for several videos
REQUESTS = [
    FeatureRequest(name="rgb", modality="rgb", backbone="hog"),
    FeatureRequest(name="audio", modality="audio", backbone="logmel"),
]
WORDS = [
    *("--modality", "rgb", "--backbone", "rgb=hog"),
    *("--modality", "audio", "--backbone", "audio=logmel"),
]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 40 videos; nobody is to be blamed for any."""
    folder = tmp_path_factory.mktemp("cluster")
    clips = sorted(make_sample_set(folder / "clips", clips=FILES).rglob("*.mp4"))
    path = folder / "manifest.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("video_id", "path"))
        rows.writerows((f"v{i:03}", clips[i % FILES]) for i in range(VIDEOS))
    return path


@pytest.fixture(scope="session")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content of a store that an undisturbed job made on this machine without Dask."""
    store = tmp_path_factory.mktemp("whole") / "s.mmf"
    extract(source, store, REQUESTS)
    return FeatureStore(store).content_hash()


@pytest.fixture
def is_whole(whole: str) -> Callable[[Path], bool]:
    """Whether a store holds exactly what the undisturbed job made, and blames nobody."""

    def check(path: Path) -> bool:
        store = FeatureStore(path)
        assert store.failures().num_rows == 0
        return store.content_hash() == whole

    return check


class Processes:
    """Processes of a test, which end with it."""

    def __init__(self, folder: Path):
        self.folder, self.started = folder, list[subprocess.Popen[bytes]]()
        self.settings = environment()

    def start(self, name: str, *words: str, **env: str) -> subprocess.Popen[bytes]:
        """`python -m WORDS`, which writes to NAME.log."""
        with open(self.log(name), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **env},
                cwd=self.folder,
            )
        self.started.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str) -> str:
        """What a process has written so far."""
        return self.log(name).read_text(errors="replace")

    def extract(self, name: str, source: Path, store: Path, *words: str) -> subprocess.Popen[bytes]:
        """`mmf extract`, as a process of its own."""
        line = ["mmf.cli", "extract", str(source), "--store", str(store), *WORDS]
        return self.start(name, *line, *words)

    def scheduler(self, *words: str, protocol: str = "tcp", **env: str) -> str:
        """A scheduler on this machine alone; its address."""
        port = free_port()
        line = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
        self.start("scheduler", *line, "--no-dashboard", *words, **env)
        return f"{protocol}://127.0.0.1:{port}"

    def worker(self, name: str, address: str, *words: str, **env: str) -> subprocess.Popen[bytes]:
        """A worker with one thread."""
        line = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--memory-limit", "0"]
        line += ["--no-dashboard", "--no-nanny", "--local-directory", str(self.folder / name)]
        return self.start(name, *line, *words, **{**self.settings, **env})

    def end(self) -> None:
        """Kill all of them, with what they started."""
        for process in self.started:
            with contextlib.suppress(psutil.NoSuchProcess):
                for below in psutil.Process(process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        below.kill()
            process.kill()
            process.wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    found.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], object]:
    """Waits until a call gives something."""

    def wait(call: Callable[[], object], seconds: float = 120.0) -> object:
        deadline = time.monotonic() + seconds
        while not (found := call()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)
        return found

    return wait
