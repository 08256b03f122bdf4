"""The index of a store with as many videos as YouTube-8M: open, memory, an epoch's order, a plan.

    python benchmarks/index.py [--videos 6100000]

The records and their index are written directly, with no rows behind them; what is measured runs in
a fresh process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmf.fuse import TrainConfig
from mmf.fuse.training.plan import make_plan, videos_digest
from mmf.store import FeatureSpec, FeatureStore, index, log, records
from mmf.store.files import sync_folder
from mmf.store.items import LABELS
from mmf.store.loader import Loader
from mmf.store.order import order

FEATURES = {"rgb": 1024, "audio": 128}
VIDEOS_PER_SLOT = 1024


def prepare(root: Path, videos: int) -> None:
    store = FeatureStore.create(root)
    for name, dim in FEATURES.items():
        store.create_feature(FeatureSpec(name=name, modality=name, shape=(dim,), dtype="uint8"))
    record = records.write_record(store.files, [], [])
    rng = np.random.default_rng(0)
    rows = rng.integers(120, 301, videos).astype(np.uint32)
    number = np.arange(videos)
    ids = pa.array(np.char.add("yt8m-", np.char.zfill(number.astype("U7"), 7)))
    slot, inside = number // VIDEOS_PER_SLOT, np.cumsum(rows) - rows
    start = inside - inside[slot * VIDEOS_PER_SLOT]
    schema = log.Log(store.files).visible("none").schema
    columns = {
        **{f.name: pa.nulls(videos, f.type) for f in schema},
        "video_id": ids,
        "status": pa.array(["done"]).take(pa.array(np.zeros(videos, np.int64))),
        "slot": pa.array(slot.astype(np.uint32)),
        "start": pa.array(start.astype(np.uint32)),
        "rows": pa.array(rows),
        "record": pa.array(np.zeros(videos, np.uint32)),
        "record_row": pa.array(number.astype(np.uint32)),
    }
    table = pa.table(columns).cast(schema)
    tables = dict.fromkeys(FEATURES, table)
    ends = {name: log.last_end(table) for name in FEATURES}
    index.write(store.files, index.Index(records=[record.name], tables=tables, ends=ends))
    _label(FeatureStore(root), ids)
    sync_folder(root)


def _label(store: FeatureStore, ids: pa.Array) -> None:
    """Three classes of 3862 for each video, and YouTube-8M's splits in their proportions."""
    rng = np.random.default_rng(1)
    n = len(ids)
    classes = np.sort(rng.integers(0, 3862, (n, 3)).astype(np.int32), axis=1)
    lists = pa.ListArray.from_arrays(np.arange(0, 3 * n + 1, 3, dtype=np.int32), classes.ravel())
    none = pa.array([[]], pa.list_(pa.int32())).take(pa.array(np.zeros(n, np.int64)))
    nulls = {name: pa.nulls(n, LABELS.field(name).type) for name in ("start", "end", "rated")}
    columns = {"video_id": ids, "labels": lists, "unrated": none, **nulls}
    rows = pa.table({name: columns[name] for name in LABELS.names}, schema=LABELS)
    store.catalog.add_label_rows("default", rows, [str(c) for c in range(3862)])
    names = pa.array(["train", "validate", "test"])
    split = names.take(pa.array(rng.choice(3, n, p=(0.64, 0.18, 0.18))))
    store.catalog.add_split_rows("default", pa.table({"video_id": ids, "split": split}))


def measure(root: Path) -> dict[str, float]:
    before, begin = memory(), time.perf_counter()
    store = FeatureStore(root)
    slots, sizes = store.stored("rgb").slots, store.stored("rgb").rows
    opened = time.perf_counter()
    found = order(slots.astype(np.int64), sizes.astype(np.int64) * 1152)
    permuted = time.perf_counter()
    items = store.all_items(tuple(FEATURES))
    Loader(store=store, items=items, features=tuple(FEATURES))
    places = time.perf_counter()
    return {
        "videos": len(found.items),
        "windows": len(found.ends),
        "open s": opened - begin,
        "epoch permutation s": permuted - opened,
        "items and their places s": places - permuted,
        **measure_plan(store),
        "memory MB": memory() - before,
        **measure_deal(store),
    }


def measure_plan(store: FeatureStore) -> dict[str, float]:
    """Of a training on the store's own split."""
    before, begin = memory(), time.perf_counter()
    with most_memory() as most:
        plan = make_plan(store, TrainConfig(store=store.path))
        planned = time.perf_counter()
        _ = plan.digest(), videos_digest(plan.items["train"].video_ids), plan.positives()
    hashed = time.perf_counter()
    Loader(store=store, items=plan.items["train"], features=tuple(FEATURES), balance=True)
    return {
        "plan of a training s": planned - begin,
        "its digests s": hashed - planned,
        "its loader s": time.perf_counter() - hashed,
        "most memory of the plan MB": max(most) - before,
        "memory of plan and loader MB": memory() - before,
    }


def measure_deal(store: FeatureStore) -> dict[str, float]:
    """Of a plan that has to deal the videos out itself."""
    before, begin = memory(), time.perf_counter()
    with most_memory() as most:
        make_plan(store, TrainConfig(store=store.path, split_set="none"))
    return {
        "plan without a split s": time.perf_counter() - begin,
        "its most memory MB": max(most) - before,
    }


@contextmanager
def most_memory() -> Iterator[list[float]]:
    """What `memory` is now and then; the maximum is known at the end."""
    found, done = [memory()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            found.append(memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def memory() -> float:
    """Anonymous memory; what is mapped of a file the system may take back."""
    with open("/proc/self/status") as file:
        return next(int(x.split()[1]) for x in file if x.startswith("RssAnon")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=6_100_000)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one)))
        return
    with tempfile.TemporaryDirectory(prefix="mmf-index-") as folder:
        prepare(Path(folder) / "store", asked.videos)
        command = [sys.executable, __file__, "--one", f"{folder}/store"]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            for _ in range(5)
        ]
    print("| what | median of 5 |\n|---|--:|")
    for key in runs[0]:
        print(f"| {key} | {np.median([r[key] for r in runs]):,.2f} |")


if __name__ == "__main__":
    main()
