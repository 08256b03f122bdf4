"""What a job of as many videos as YouTube-8M costs before it begins: its list, and what is to do.

    python benchmarks/plan.py [--videos 6100000] [--in-order]

A Parquet list of ids and absolute paths, shuffled unless `--in-order`, and a store that has every
other video of one feature that needs no weights. The store's record and its index are written
directly, with no rows behind them. What is measured runs in a fresh process: its memory is the most
that was resident, what is mapped of files included, from the start of the process on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmf.extract import FeatureRequest, read_manifest
from mmf.extract.asked import USUAL, asked
from mmf.extract.todo import count
from mmf.store import FeatureSpec, FeatureStore, index, log, records
from mmf.store.files import sync_folder

FEATURE = FeatureRequest(name="rgb", modality="rgb", backbone="hog")
VIDEOS_PER_SLOT, ROWS = 1024, 200
_LETTERS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", "S1")


def make_ids(videos: int) -> np.ndarray:
    """So many ids of 11 letters as YouTube gives them, in order."""
    drawn = np.random.default_rng(0).integers(0, 64, (videos, 11), dtype=np.uint8)
    return np.unique(_LETTERS[drawn].view("S11").ravel())


def write_list(path: Path, ids: np.ndarray, *, in_order: bool) -> None:
    if not in_order:
        ids = np.random.default_rng(1).permutation(ids)
    with pq.ParquetWriter(path, pa.schema([("video_id", "string"), ("path", "string")])) as file:
        for some in np.array_split(ids, max(1, len(ids) // 1_000_000)):
            names = np.char.decode(some, "ascii")
            paths = np.char.add(np.char.add("/data/videos/", names), ".mp4")
            file.write_table(pa.table({"video_id": names, "path": paths}))


def write_store(root: Path, ids: np.ndarray) -> None:
    """A store that says of these videos, which are in order, that they are done."""
    store = FeatureStore.create(root)
    store.create_feature(FeatureSpec(name="rgb", modality="rgb", shape=(72,), dtype="float16"))
    record = records.write_record(store.files, [], [])
    schema = log.Log(store.files).visible("none").schema
    number = np.arange(len(ids))
    columns = {
        **{f.name: pa.nulls(len(ids), f.type) for f in schema},
        "video_id": pa.array(np.char.decode(ids, "ascii")),
        "status": pa.array(["done"]).take(pa.array(np.zeros(len(ids), np.int64))),
        "slot": pa.array((number // VIDEOS_PER_SLOT).astype(np.uint32)),
        "start": pa.array((number % VIDEOS_PER_SLOT * ROWS).astype(np.uint32)),
        "rows": pa.array(np.full(len(ids), ROWS, np.uint32)),
        "record": pa.array(np.zeros(len(ids), np.uint32)),
        "record_row": pa.array(number.astype(np.uint32)),
    }
    table = pa.table(columns).cast(schema)
    found = index.Index(
        records=[record.name], tables={"rgb": table}, ends={"rgb": log.last_end(table)}
    )
    index.write(store.files, found)
    sync_folder(root)


def measure(folder: Path) -> list[tuple[str, float, float, float]]:
    """(what, seconds, of the CPU, most MB so far) for each part of a plan."""
    found = [("imports", time.process_time(), time.process_time(), most_mb())]

    def step(what: str, run: Callable) -> object:
        begin, busy = time.perf_counter(), time.process_time()
        value = run()
        seconds = time.perf_counter() - begin
        found.append((what, seconds, time.process_time() - busy, most_mb()))
        return value

    manifest = step("the list is read", lambda: read_manifest(folder / "list.parquet"))
    job = step("what is asked for", lambda: asked(manifest, folder / "store", [FEATURE], USUAL))
    groups = step("what is to do is listed", job.todo)
    (tasks,) = groups.values()
    gone = step("every task is made, one at a time", partial(sum, map(bool, tasks)))
    if not gone == len(tasks) == len(manifest) // 2:
        raise SystemExit(f"{gone} tasks of {len(tasks)}; expected {len(manifest) // 2}.")
    rows = job.rows
    del job, groups, tasks  # as a job lets go of the store that it looked into …
    store = FeatureStore(folder / "store")  # … before it opens it at its end
    step("outcomes are counted", lambda: count(store, "rgb", manifest, rows))
    if "torch" in sys.modules:
        raise SystemExit("planning has imported torch.")
    return found


def most_mb() -> float:
    """The most of this process's memory; `ru_maxrss` begins with that of whoever started it."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=6_100_000)
    parser.add_argument("--in-order", action="store_true", help="the list is in the ids' order")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    with tempfile.TemporaryDirectory(prefix="mmf-plan-") as folder:
        ids = make_ids(options.videos)
        write_list(Path(folder) / "list.parquet", ids, in_order=options.in_order)
        write_store(Path(folder) / "store", ids[::2])
        command = [sys.executable, __file__, "--one", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    print(
        f"{len(ids)} videos\n\n| what | seconds | CPU seconds | most MB so far |\n|---|--:|--:|--:|"
    )
    for what, seconds, busy, most in json.loads(done.stdout):
        print(f"| {what} | {seconds:.1f} | {busy:.1f} | {most:.0f} |")


if __name__ == "__main__":
    main()
