"""What does the store's writer cost, against writing the same bytes raw?

    uv run python benchmarks/write.py

Rows of `--videos` videos in YouTube-8M's shape, ready in memory, go into a fresh store by
`Writer.put` and are committed in buckets of 256 MiB; or their bytes go into one file by `write`,
256 KiB at a time, and `fsync`. Both in one process, in turn, `--repeat` times after a warm-up: the
medians, and their ratio in throughput.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmf.store import FeatureSpec, FeatureStore, Track

BUCKET_BYTES = 256 << 20
RAW_BYTES = 256 << 10
WIDTHS = {"rgb": 1024, "audio": 128}


def make_tracks(videos: int) -> list[dict[str, Track]]:
    """What each video has, by feature: 120 to 300 rows of random codes."""
    rng = np.random.default_rng(0)
    tracks = []
    for i in range(videos):
        rows = int(np.clip(rng.normal(235, 50), 120, 300))
        tracks.append(
            {
                name: Track(
                    video_id=f"{i:06}",
                    values=rng.integers(0, 256, (rows, width), np.uint8),
                    times=np.arange(rows),
                )
                for name, width in WIDTHS.items()
            }
        )
    return tracks


def write_store(folder: Path, tracks: list[dict[str, Track]]) -> None:
    store = FeatureStore.create(folder)
    for name, width in WIDTHS.items():
        spec = FeatureSpec(name=name, modality=name, shape=(width,), dtype="uint8", rate=1.0)
        store.create_feature(spec)
    writer = store.writer()
    for video in tracks:
        for name, track in video.items():
            writer.put(name, track)
        if writer.bytes >= BUCKET_BYTES:
            writer.commit()
    writer.commit()


def write_raw(folder: Path, data: memoryview) -> None:
    folder.mkdir()
    with open(folder / "raw", "wb", buffering=0) as file:
        for at in range(0, len(data), RAW_BYTES):
            file.write(data[at : at + RAW_BYTES])
        os.fsync(file.fileno())


def seconds(work: Callable[[Path], None], parent: Path) -> tuple[float, float]:
    """Seconds of wall time and of CPU in a fresh folder, which is then removed."""
    os.sync()
    begun, cpu = time.monotonic(), time.process_time()
    work(parent / "w")
    spent = time.monotonic() - begun, time.process_time() - cpu
    shutil.rmtree(parent / "w")
    return spent


def measure(videos: int, repeat: int) -> dict[str, dict[str, float]]:
    """Medians by what was done: seconds, CPU milliseconds per video, MB/s."""
    tracks = make_tracks(videos)
    data = memoryview(b"".join(t.values.tobytes() for v in tracks for t in v.values()))
    works: dict[str, Callable[[Path], None]] = {
        "raw write + fsync": lambda folder: write_raw(folder, data),
        "store": lambda folder: write_store(folder, tracks),
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    with tempfile.TemporaryDirectory(prefix="mmf-write-") as folder:
        for _ in range(1 + repeat):
            for name, work in works.items():
                spent[name].append(seconds(work, Path(folder)))
    found = {}
    for name, runs in spent.items():
        wall, cpu = (statistics.median(column) for column in zip(*runs[1:], strict=True))
        rate = len(data) / wall / 1e6
        found[name] = {"seconds": wall, "cpu_ms": 1000 * cpu / videos, "mb_per_second": rate}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.videos, given.repeat)
    if given.json:
        print(json.dumps(found))
        return
    raw = found["raw write + fsync"]["seconds"]
    print("| what | s | MB/s | CPU ms/video | ÷ raw |\n|---|---|---|---|---|")
    for name, row in found.items():
        rate, cpu = row["mb_per_second"], row["cpu_ms"]
        print(
            f"| {name} | {row['seconds']:.2f} | {rate:.0f} | {cpu:.3f} "
            f"| {raw / row['seconds']:.2f} |"
        )


if __name__ == "__main__":
    main()
