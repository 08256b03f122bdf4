"""Kill and starve writers of a store at every step; nothing may be lost, doubled or torn.

::

    python benchmarks/chaos.py                     # the long form, some minutes
    python benchmarks/chaos.py --small             # every 31st point once, few kills: seconds

Five trials, a line each, exit code 1 if any of them finds a fault:

points   exit 137 before and after every write (and in its middle), fsync, close, rename, link and
         unlink of a job of commits, and of a compaction, a purge and a gc
errno    ENOSPC, EIO and EROFS at every one of them: an OSError that names a file, no outcome that
         blames a video, a store that reads, and the rerun completes
racing   SIGKILLs of four writers at random moments
reading  a reader while a writer appends
flips    single bits turned anywhere in committed files: `verify` names each
"""

import argparse
import builtins
import errno
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmf import MmfError
from mmf.store import FeatureSpec, FeatureStore, Outcome, Track
from mmf.store.compact import compact
from mmf.store.delete import delete
from mmf.store.gc import collect
from mmf.store.verify import verify

F = FeatureSpec(name="f", modality="rgb", shape=(6,), dtype="float32")
G = FeatureSpec(name="g", modality="audio", shape=(4,), dtype="uint8")
ERRNOS = (errno.ENOSPC, errno.EIO, errno.EROFS)
VIDEOS, BUCKET = 6, 2
PURGED = "v001"


def video(i: int, spec: FeatureSpec) -> Track:
    """What video number i has of a feature."""
    rng = np.random.default_rng(i)
    n = 5 + i % 7
    return Track(video_id=f"v{i:03}", values=rng.normal(size=(n, *spec.shape)), times=np.arange(n))


def commits(root: Path, videos: int = VIDEOS, bucket: int = BUCKET) -> None:
    """A job: what is not there yet, in buckets. Says in a file what was committed."""
    store = FeatureStore.create(root)
    for spec in (F, G):
        store.create_feature(spec)
    todo = [i for i in range(videos) if store.state("f").get(f"v{i:03}") != "done"]
    with open(root.with_suffix(".said"), "a", buffering=1) as said:
        for at in range(0, len(todo), bucket):
            writer = store.writer()
            try:
                for i in todo[at : at + bucket]:
                    for spec in (F, G):
                        writer.put(spec.name, video(i, spec))
                    writer.mark("g", Outcome(video_id=f"x{i}", status="skipped", reason="none"))
                writer.commit()
            except BaseException:
                writer.discard()
                raise
            said.write("".join(f"v{i:03}\n" for i in todo[at : at + bucket]))
    store.label({f"v{i:03}": ["a"] for i in range(videos)})


def life(root: Path) -> None:
    """What a store lives through after its jobs."""
    compact(root, ["f"])
    delete(root, [PURGED], purge=True)
    collect(root, grace_seconds=0)


# faults


class Fault:
    """Wraps what the store asks of the system, and strikes at one of the calls."""

    def __init__(self, strike: Callable[[object], None], at: int, when: str):
        self.calls: list[str] = []
        self._strike, self._at, self._when = strike, at, when

    def call(self, name: str, real: Callable, *, path: object = None, half: Callable | None = None):
        here = len(self.calls) == self._at
        self.calls.append(name)
        if here and self._when == "before":
            self._strike(path)
        if here and self._when == "middle":
            (half or real)()
            self._strike(path)
        try:
            return real()
        finally:
            if here and self._when == "after":
                self._strike(path)

    def install(self) -> None:
        for name in ("fsync", "link", "replace", "unlink", "mkdir", "posix_fallocate", "ftruncate"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        self._open_file, builtins.open = builtins.open, self._open
        pa.OSFile = self._wrapped("write", pa.OSFile)

    def _wrapped(self, name: str, real: Callable) -> Callable:
        def wrapped(first: object, *others: object, **named: object) -> object:
            if name == "mkdir" and Path(str(first)).is_dir():
                return real(first, *others, **named)  # says so, whatever the disk's state
            path = None if isinstance(first, int) else first
            return self.call(name, lambda: real(first, *others, **named), path=path)

        return wrapped

    def _open(self, path, mode="r", *arguments, **named):
        file = self._open_file(path, mode, *arguments, **named)
        return _File(file, self) if "x" in mode else file


class _File:
    def __init__(self, file, fault: Fault):
        self._file, self._fault = file, fault

    def write(self, data):
        half = memoryview(data)[: len(data) // 2]

        def write_half():
            self._file.write(half)
            self._file.flush()

        return self._fault.call("write", lambda: self._file.write(data), half=write_half)

    def close(self):
        return self._fault.call("close", self._file.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


def in_child(work: Callable[[], None], fault: Fault | None = None) -> tuple[int, str]:
    """Do the work in a forked process: its exit code, and the error or the calls it made."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code, text = 70, ""
        try:
            if fault:
                fault.install()
            work()
            code, text = 0, " ".join(fault.calls) if fault else ""
        except OSError as error:
            code, text = 74, str(error.filename or "")
        except BaseException as error:  # noqa: BLE001  the parent is told
            text = repr(error)
        os.write(write, text.encode()[:60000])
        os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        text = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def kill(_: object) -> None:
    os._exit(137)


def refuse(number: int) -> Callable[[str], None]:
    def strike(path: object) -> None:
        name = () if path is None else (str(path),)  # as the system says it
        raise OSError(number, os.strerror(number), *name)

    return strike


# what must hold


def faults_of(root: Path, *, purging: bool = False) -> list[str]:
    """What is lost or torn in a store after a fault."""
    if not (root / "mmf.json").exists():
        return []
    store, found = FeatureStore(root), []
    said = root.with_suffix(".said")
    promised = set(said.read_text().split()) if said.exists() else set()
    for spec in (F, G):
        if spec.name not in store.features:
            continue
        state = store.state(spec.name)
        missing = {v for v in promised if v not in state} - ({PURGED} if purging else set())
        found += [f"{v} lost of {spec.name}" for v in sorted(missing)]
        for name, status in state.items():
            if status == "failed":
                found.append(f"{name} blamed")
            if status == "done":
                expected = spec.decode(spec.encode(video(int(name[1:]), spec).values))
                if not np.array_equal(store.read(spec.name, name).values, expected):
                    found.append(f"{name} torn")
    return found


def finished(root: Path, whole: str, work: Callable[[], None]) -> list[str]:
    """What is wrong after the same command has been run again."""
    code, text = in_child(work)
    if code:
        return [f"the rerun ended with {code}: {text}"]
    problems = [f"{p.path} {p.what}" for p in verify(root)]
    hashed = FeatureStore(root).content_hash()
    return problems + ([] if hashed == whole else ["another content than undisturbed"])


class Trial:
    """One job, its undisturbed result, and a fresh place for every disturbed one."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        self.start = folder / f"{name}.start"
        if name == "life":
            commits(self.start)
            shutil.copytree(self.start, folder / "whole")
        fault = Fault(kill, -1, "")
        code, text = in_child(lambda: self.work(folder / "whole"), fault)
        if code:
            raise MmfError(f"the undisturbed job ended with {code}: {text}")
        self.calls = text.split()
        self.whole = FeatureStore(folder / "whole").content_hash()
        shutil.rmtree(folder / "whole")

    def work(self, root: Path) -> None:
        """The job itself."""
        commits(root) if self.name == "commits" else life(root)

    def ends(self, code: int) -> set[int]:
        """The ways to end: records have random names, and so the last calls of life differ."""
        return {code} if self.name == "commits" else {code, 0}

    def disturbed(self, fault: Fault, codes: set[int]) -> list[str]:
        """Run it once with a fault, and once more without."""
        root = self.folder / "s"
        shutil.rmtree(root, ignore_errors=True)
        root.with_suffix(".said").unlink(missing_ok=True)
        if self.name == "life":
            shutil.copytree(self.start, root)
            shutil.copy(self.start.with_suffix(".said"), root.with_suffix(".said"))
        code, text = in_child(lambda: self.work(root), fault)
        found = [] if code in codes else [f"ended with {code}: {text}"]
        if code == 74 and not text:
            found.append("an error that names no file")
        found += faults_of(root, purging=self.name == "life")
        return found + finished(root, self.whole, lambda: self.work(root))


def trial_points(folder: Path, *, times: int, stride: int) -> tuple[int, list[str]]:
    count, found = 0, []
    for name in ("commits", "life"):
        trial = Trial(folder, name)
        for at, call in list(enumerate(trial.calls))[::stride]:
            for when in ("before", "after", *(["middle"] if call == "write" else [])):
                for _ in range(times):
                    count += 1
                    faults = trial.disturbed(Fault(kill, at, when), trial.ends(137))
                    found += [f"{name}: {when} {call} {at}: {f}" for f in faults]
    return count, found


def trial_errno(folder: Path, *, numbers: tuple[int, ...], stride: int) -> tuple[int, list[str]]:
    count, found = 0, []
    for name in ("commits", "life"):
        trial = Trial(folder, name)
        for at, call in list(enumerate(trial.calls))[::stride]:
            for number in numbers:
                for when in ("before", *(["middle"] if call == "write" else [])):
                    count += 1
                    faults = trial.disturbed(Fault(refuse(number), at, when), trial.ends(74))
                    what = errno.errorcode[number]
                    found += [f"{name}: {what} {when} {call} {at}: {f}" for f in faults]
    return count, found


def trial_racing(folder: Path, *, kills: int, seed: int) -> tuple[int, list[str]]:
    root, rng, found = folder / "racing", random.Random(seed), []
    videos = max(60, kills * 6)

    def work():
        commits(root, videos, bucket=1 + os.getpid() % 3)

    done = 0
    while done < kills:
        children = []
        for _ in range(4):
            child = os.fork()
            if child == 0:
                try:
                    work()
                finally:
                    os._exit(0)
            children.append(child)
        time.sleep(rng.uniform(0.02, 0.25))
        for child in children:
            os.kill(child, signal.SIGKILL)
            done += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        found += faults_of(root)
        if root.exists() and len(FeatureStore(root).state("f")) == videos:
            shutil.rmtree(root)  # begin again
            root.with_suffix(".said").unlink()
    commits(folder / "reference", videos)
    found += finished(root, FeatureStore(folder / "reference").content_hash(), work)
    return done, found


def trial_reading(folder: Path, *, reads: int) -> tuple[int, list[str]]:
    root, rng, found = folder / "reading", random.Random(0), []
    commits(root, 1)
    child = os.fork()
    if child == 0:
        while True:
            commits(root, 400, bucket=2)
            shutil.rmtree(root / "never", ignore_errors=True)
            time.sleep(0.01)
    try:
        store, count, versions = FeatureStore(root), 0, set()
        while count < reads or (len(versions) < 10 and count < 20 * reads):  # as they come
            store.refresh()
            names = [v for v, s in store.state("f").items() if s == "done"]
            versions.add(len(names))
            for name in rng.sample(names, min(len(names), 50)):
                count += 1
                for spec in (F, G):
                    expected = spec.decode(spec.encode(video(int(name[1:]), spec).values))
                    if not np.array_equal(store.read(spec.name, name).values, expected):
                        found.append(f"{name} torn")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return count, found


def trial_flips(folder: Path, *, flips: int) -> tuple[int, list[str]]:
    root, rng, found = folder / "flips", random.Random(0), []
    commits(root)
    FeatureStore(root).snapshot()
    compact(root, ["f"])
    delete(root, [PURGED])
    files = [p for p in sorted(root.rglob("*")) if p.is_file()]
    if problems := verify(root):
        return 0, [f"{p.path} {p.what}" for p in problems]
    for _ in range(flips):
        path = rng.choice(files)
        whole = path.read_bytes()
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        if str(path.relative_to(root)) not in {p.path for p in verify(root)}:
            found.append(f"bit {bit} of byte {at} of {path.relative_to(root)} was not missed")
        path.write_bytes(whole)
    return flips, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["points", "errno", "racing", "reading", "flips"])
    options = parser.parse_args()
    small, stride = options.small, 31 if options.small else 1
    trials: dict[str, Callable[[Path], tuple[int, list[str]]]] = {
        "points": lambda f: trial_points(f, times=1 if small else 3, stride=stride),
        "errno": lambda f: trial_errno(f, numbers=ERRNOS[:1] if small else ERRNOS, stride=stride),
        "racing": lambda f: trial_racing(f, kills=8 if small else 50, seed=options.seed),
        "reading": lambda f: trial_reading(f, reads=500 if small else 10_000),
        "flips": lambda f: trial_flips(f, flips=60 if small else 200),
    }
    bad = 0
    for name, trial in trials.items():
        if options.only in (None, name):
            begun = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                count, found = trial(Path(folder))
            print(f"{name}: {count} trials, {len(found)} faults, {time.monotonic() - begun:.0f} s")
            for fault in found[:20]:
                print(f"  {fault}")
            bad += len(found)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
