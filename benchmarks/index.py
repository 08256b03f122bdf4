"""The index of a store with as many videos as YouTube-8M: open, memory, an epoch's order.

    python benchmarks/index.py [--videos 6100000]

The records and their index are written directly, with no rows behind them; what is measured runs in
a fresh process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmf.store import FeatureSpec, FeatureStore, index, log, records
from mmf.store.files import sync_folder
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
    sync_folder(root)


def measure(root: Path) -> dict[str, float]:
    before, begin = memory(), time.perf_counter()
    store = FeatureStore(root)
    slots, sizes = store.stored("rgb").slots, store.stored("rgb").rows
    opened = time.perf_counter()
    found = order(slots.astype(np.int64), sizes.astype(np.int64) * 1152)
    permuted = time.perf_counter()
    items = store.all_items(tuple(FEATURES))
    Loader(store=store, items=items, features=tuple(FEATURES))
    return {
        "videos": len(found.items),
        "windows": len(found.ends),
        "open s": opened - begin,
        "epoch permutation s": permuted - opened,
        "items and their places s": time.perf_counter() - permuted,
        "memory MB": memory() - before,
    }


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
