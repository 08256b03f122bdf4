"""Reading from object storage: requests, videos per second and bytes, at a latency of 30 ms.

    python benchmarks/objects.py [--videos 1024] [--latency 0.03] [--only window,random,…]

A real S3 server (moto's) runs on loopback behind a proxy that waits before each request goes on,
and counts. YouTube-8M's shape: 1024-d and 128-d uint8 codes, 120 to 300 frames of each video, 256
videos to a commit; a window holds two commits. Each line begins with an empty cache, but
"window again". "random" reads one video in eight, in random order, as an epoch of a much larger
set begins; zarr-python and tensorstore read so some videos of the same bucket, many at a time.
The requests of opening the store or the arrays count. Bytes are those of all answers, listings
too, by those of the rows that were read. The proxy is Python, beside the reader in one process,
and holds the objects once it has seen them (moto reads all of one for each range of it).
"""

import argparse
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from mmf.store import FeatureSpec, FeatureStore, Track

BATCH, COMMIT = 128, 256
DIMS = {"rgb": 1024, "audio": 128}
ROW_BYTES = sum(DIMS.values())
URL = "s3://bucket/yt8m.mmf"
Read = Callable[[], tuple[int, int]]  # → videos, rows of each feature together


def prepare(videos: int) -> None:
    store, rng = FeatureStore.create(URL), np.random.default_rng(0)
    specs = [
        FeatureSpec(name=name, modality=name, shape=(dim,), dtype="uint8", rate=1)
        for name, dim in DIMS.items()
    ]
    for spec in specs:
        store.create_feature(spec)
    for first in range(0, videos, COMMIT):
        writer = store.writer()
        for i in range(first, min(first + COMMIT, videos)):
            n = int(rng.integers(120, 301))
            for spec in specs:
                codes = rng.integers(0, 256, (n, *spec.shape), dtype=np.uint8)
                track = Track(video_id=f"v{i:05}", values=spec.decode(codes), times=np.arange(n))
                writer.put(spec.name, track)
        writer.commit()
    store.label({f"v{i:05}": ["a"] for i in range(videos)}, name="all")
    some = rng.permutation(videos)[: videos // 8]
    store.label({f"v{i:05}": ["a"] for i in some.tolist()}, name="some")


def epoch(shuffle: Literal["window", "full"], label_set: str) -> Read:
    def read() -> tuple[int, int]:
        store, counts = FeatureStore(URL), [0, 0]
        batches = store.batches(
            [*DIMS],
            batch_size=BATCH,
            shuffle=shuffle,
            window_bytes=2 * COMMIT * 211 * ROW_BYTES,
            label_set=label_set,
        )
        for batch in batches:
            counts[0] += len(batch)
            counts[1] += int(batch.lengths["rgb"].sum())
        return counts[0], counts[1]

    return read


def places(videos: int) -> list[tuple[int, int]]:
    """(first row, rows) in both arrays of some videos in random order."""
    store = FeatureStore(URL)
    feature = store.stored("rgb")
    other = store.stored("audio")
    chosen = np.random.default_rng(1).permutation(len(feature.rows))[:videos]
    assert (feature.slots == other.slots).all()
    return [(int(feature.slots[i]), int(feature._starts[i]), int(feature.rows[i])) for i in chosen]


def through_zarr(videos: int) -> Read:
    import zarr
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    chosen = places(videos)
    http = {"allow_http": True}

    def read() -> tuple[int, int]:
        bucket = ObjectStore(from_url(f"{URL}/features.zarr", client_options=http), read_only=True)
        group = zarr.open_group(bucket, mode="r")
        arrays = [(group[name], group[name].chunks, group[name].shards) for name in DIMS]

        def one(place: tuple[int, int, int]) -> int:
            slot, start, rows = place
            for array, _, shards in arrays:
                first = slot * shards[0] + start
                assert len(array[first : first + rows]) == rows
            return rows

        with ThreadPoolExecutor(32) as pool:
            return len(chosen), sum(pool.map(one, chosen))

    return read


def through_tensorstore(videos: int) -> Read:
    import tensorstore

    chosen = places(videos)
    where = {
        "driver": "s3",
        "bucket": "bucket",
        "endpoint": os.environ["AWS_ENDPOINT_URL"],
        "aws_region": os.environ["AWS_REGION"],
    }

    def read() -> tuple[int, int]:
        folder = "yt8m.mmf/features.zarr"
        arrays = [
            tensorstore.open(
                {"driver": "zarr3", "kvstore": {**where, "path": f"{folder}/{name}/"}}
            ).result()
            for name in DIMS
        ]
        coming = []
        for slot, start, rows in chosen:
            for array in arrays:
                first = slot * array.chunk_layout.write_chunk.shape[0] + start
                coming.append(array[first : first + rows].read())
        for one in coming:
            one.result()
        return len(chosen), sum(rows for _, _, rows in chosen)

    return read


def main() -> None:
    from s3_server import ENVIRONMENT, make_bucket, s3_server

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, default=1024)
    parser.add_argument("--others", type=int, default=64, help="Videos that the others read.")
    parser.add_argument("--latency", type=float, default=0.03, help="Seconds for each request.")
    parser.add_argument("--only", default="", help="Some of the lines, by name.")
    options = parser.parse_args()
    with s3_server() as proxy, tempfile.TemporaryDirectory() as cache:
        os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=proxy.endpoint, MMF_CACHE=cache)
        make_bucket(proxy, "bucket")
        prepare(options.videos)
        proxy.held = {}
        readers: dict[str, Callable[[], Read]] = {
            "window": lambda: epoch("window", "all"),
            "window again": lambda: epoch("window", "all"),
            "random": lambda: epoch("full", "some"),
            "zarr-python": lambda: through_zarr(options.others),
            "tensorstore": lambda: through_tensorstore(options.others),
        }
        print(f"{'':13} {'requests/video':>14} {'videos/s':>9} {'bytes/payload':>13} {'videos':>7}")
        for name, make in readers.items():
            if options.only and name not in options.only.split(","):
                continue
            package = {"zarr-python": "zarr", "tensorstore": "tensorstore"}.get(name, "numpy")
            if importlib.util.find_spec(package) is None:
                print(f"{name:13} is not installed")
                continue
            read = make()
            read()  # the proxy holds the objects
            if name != "window again":
                shutil.rmtree(cache, ignore_errors=True)
            proxy.reset(latency=options.latency)
            begun = time.perf_counter()
            videos, rows = read()
            seconds = time.perf_counter() - begun
            asked, payload = len(proxy.requests), rows * ROW_BYTES
            proxy.latency = 0.0
            print(
                f"{name:13} {asked / videos:14.3f} {videos / seconds:9.0f} "
                f"{proxy.bytes_out / payload:13.2f} {videos:7}",
                flush=True,
            )


if __name__ == "__main__":
    main()
