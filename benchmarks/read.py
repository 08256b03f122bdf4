"""Reading minibatches: what the store costs beside raw memory and beside the world's formats.

    python benchmarks/read.py [--videos 8192] [--out FOLDER] [--rows memmap,ours,zarr,…] [--cold]

YouTube-8M's shape: 1024-d and 128-d uint8 codes, 120 to 300 frames of each video. Every reader
fills batches of 128 videos, padded with zeros. Each line runs in a fresh process; the first epoch
pays for touching memory, later ones do not. All lines are taken in turn, five times, and the table
gives medians and their ratios to numpy's memmap; `--cold` drops the page cache before each (root).
Readers whose package is not installed are skipped with a line.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mmf.store import FeatureSpec, FeatureStore, Track

BATCH, STEPS = 128, 300
DIMS = {"rgb": 1024, "audio": 128}
ROUNDS = 5
Epoch = Callable[[int], Iterator[int]]  # number of the epoch → videos of each batch


def prepare(out: Path, videos: int) -> None:
    """The same codes in every format for which there is a package."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(120, STEPS + 1, videos)
    np.save(out / "lengths.npy", lengths)
    codes = {
        name: rng.integers(0, 256, (int(lengths.sum()), dim), dtype=np.uint8)
        for name, dim in DIMS.items()
    }
    ends = np.cumsum(lengths)
    parts = [slice(int(e - n), int(e)) for e, n in zip(ends, lengths, strict=True)]
    ids = [f"v{i:07}" for i in range(videos)]
    for name, rows in codes.items():
        rows.tofile(out / f"{name}.raw")
    write_store(out / "store", codes, parts, ids)
    for name, write in WRITERS.items():
        if have(PACKAGES[name]):
            write(out, codes, parts)
    os.sync()


def write_store(
    path: Path, codes: dict[str, np.ndarray], parts: list[slice], ids: list[str]
) -> None:
    store = FeatureStore.create(path)
    for name, dim in DIMS.items():
        store.create_feature(
            FeatureSpec(name=name, modality=name, shape=(dim,), dtype="uint8", rate=1.0)
        )
    writer = store.writer()
    for i, (video, part) in enumerate(zip(ids, parts, strict=True)):
        for name in DIMS:
            rows = codes[name][part]
            writer.put(name, Track(video_id=video, values=rows, times=np.arange(len(rows))))
        if i % 256 == 255:
            writer.commit()
    writer.commit()
    store.label({v: ["x"] for v in ids})


def write_h5(out: Path, codes: dict[str, np.ndarray], parts: list[slice]) -> None:
    import h5py

    with h5py.File(out / "all.h5", "w") as file:
        for name, rows in codes.items():
            file.create_dataset(name, data=rows)


def write_parquet(out: Path, codes: dict[str, np.ndarray], parts: list[slice]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {n: pa.array([rows[p].tobytes() for p in parts]) for n, rows in codes.items()}
    table = pa.table(columns)
    pq.write_table(table, out / "all.parquet", row_group_size=16, compression="none")


def write_tfrecord(out: Path, codes: dict[str, np.ndarray], parts: list[slice]) -> None:
    import tensorflow as tf

    def sequence(rows: np.ndarray) -> tf.train.FeatureList:
        return tf.train.FeatureList(
            feature=[
                tf.train.Feature(bytes_list=tf.train.BytesList(value=[r.tobytes()])) for r in rows
            ]
        )

    for start in range(0, len(parts), 256):
        with tf.io.TFRecordWriter(str(out / f"{start:07}.tfrecord")) as writer:
            for part in parts[start : start + 256]:
                lists = {n: sequence(rows[part]) for n, rows in codes.items()}
                example = tf.train.SequenceExample(
                    feature_lists=tf.train.FeatureLists(feature_list=lists)
                )
                writer.write(example.SerializeToString())


def of_slices(out: Path, read: Callable[[str, int, int], np.ndarray]) -> Epoch:
    """Random batches through a function of (feature, first row, last row)."""
    lengths = np.load(out / "lengths.npy")
    ends = np.cumsum(lengths)
    batch = {n: np.zeros((BATCH, STEPS, d), np.uint8) for n, d in DIMS.items()}

    def epoch(number: int) -> Iterator[int]:
        order = np.random.default_rng(number).permutation(len(lengths))
        for start in range(0, len(order), BATCH):
            videos = order[start : start + BATCH]
            for i, v in enumerate(videos):
                n = lengths[v]
                for name, target in batch.items():
                    target[i, :n] = read(name, ends[v] - n, ends[v])
                    target[i, n:] = 0
            yield len(videos)

    return epoch


def memmap(out: Path) -> Epoch:
    rows = {n: np.memmap(out / f"{n}.raw", np.uint8, "r").reshape(-1, d) for n, d in DIMS.items()}
    return of_slices(out, lambda name, a, b: rows[name][a:b])


def ours(out: Path, **options: object) -> Epoch:
    store = FeatureStore(out / "store")  # how long that takes, benchmarks/index.py measures
    loader = store.loader(tuple(DIMS), batch_size=BATCH, **options)

    def epoch(number: int) -> Iterator[int]:
        for batch in loader.epoch(number):
            n = len(batch)
            del batch  # as a loop does that has its batch on the device
            yield n

    return epoch


def _global_rows(out: Path) -> np.ndarray:
    """Of each video, its first row in the Zarr array, by feature."""
    store = FeatureStore(out / "store")
    found = {}
    for name in DIMS:
        table = store.stored(name).outcomes
        slot = table["slot"].to_numpy().astype(np.int64) * store.stored(name).geometry.slot_rows
        found[name] = slot + table["start"].to_numpy()
    return found


def of_zarr(out: Path, arrays: dict, take: Callable[[object], np.ndarray]) -> Epoch:
    lengths, firsts = np.load(out / "lengths.npy"), _global_rows(out)
    ends = np.cumsum(lengths)

    def read(name: str, a: int, b: int) -> np.ndarray:
        first = int(firsts[name][np.searchsorted(ends, b)])
        return take(arrays[name][first : first + int(b - a)])

    return of_slices(out, read)


def zarr_python(out: Path) -> Epoch:
    import zarr

    group = zarr.open_group(out / "store/features.zarr", mode="r")
    return of_zarr(out, {n: group[n] for n in DIMS}, lambda x: x)


def tensorstore(out: Path) -> Epoch:
    import tensorstore as ts

    def opened(name: str) -> object:
        place = {"driver": "file", "path": f"{out}/store/features.zarr/{name}/"}
        return ts.open({"driver": "zarr3", "kvstore": place}).result()

    return of_zarr(out, {n: opened(n) for n in DIMS}, lambda x: x.read().result())


def hdf5(out: Path) -> Epoch:
    import h5py

    file = h5py.File(out / "all.h5", "r")
    return of_slices(out, lambda name, a, b: file[name][a:b])


def parquet(out: Path) -> Epoch:
    import pyarrow.parquet as pq

    file, ends = pq.ParquetFile(out / "all.parquet"), np.cumsum(np.load(out / "lengths.npy"))

    def read(name: str, a: int, b: int) -> np.ndarray:
        video = int(np.searchsorted(ends, b))
        column = file.read_row_group(video // 16, columns=[name])[name]
        return np.frombuffer(column[video % 16].as_buffer(), np.uint8).reshape(-1, DIMS[name])

    return of_slices(out, read)


def tfdata(out: Path) -> Epoch:
    """The usual pipeline: interleaved files, shuffle(1024), parse, pad, prefetch."""
    import tensorflow as tf

    auto = tf.data.AUTOTUNE

    def parse(record: object) -> dict:
        spec = {n: tf.io.FixedLenSequenceFeature([], tf.string) for n in DIMS}
        _, lists = tf.io.parse_single_sequence_example(record, sequence_features=spec)
        return {
            n: tf.reshape(tf.io.decode_raw(lists[n], tf.uint8), [-1, d]) for n, d in DIMS.items()
        }

    def epoch(number: int) -> Iterator[int]:
        files = tf.data.Dataset.list_files(str(out / "*.tfrecord"), seed=number)
        data = files.interleave(tf.data.TFRecordDataset, num_parallel_calls=auto)
        data = data.shuffle(1024, seed=number).map(parse, num_parallel_calls=auto)
        shapes = {n: [STEPS, d] for n, d in DIMS.items()}
        for batch in data.padded_batch(BATCH, shapes).prefetch(auto):
            yield int(batch["rgb"].shape[0])

    return epoch


def device(out: Path) -> Epoch:
    """The raw files from end to end, 8 MiB at a time: as fast as the device gives them."""
    videos = len(np.load(out / "lengths.npy"))

    def epoch(number: int) -> Iterator[int]:
        target = bytearray(8 << 20)
        for name in DIMS:
            with open(out / f"{name}.raw", "rb", buffering=0) as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
                while file.readinto(target):
                    pass
        yield videos

    return epoch


READERS: dict[str, Callable[[Path], Epoch]] = {
    "memmap": memmap,
    "sequential read": device,
    "ours, random": lambda out: ours(out, shuffle="full"),
    "ours, random, 4 threads": lambda out: ours(out, shuffle="full", threads=4),
    "ours, window": lambda out: ours(out, shuffle="window", window_bytes=128 << 20),
    "ours, window, 4 threads": lambda out: ours(
        out, shuffle="window", window_bytes=128 << 20, threads=4
    ),
    "zarr-python": zarr_python,
    "tensorstore": tensorstore,
    "HDF5": hdf5,
    "Parquet": parquet,
    "tf.data": tfdata,
}
PACKAGES = {
    "zarr-python": "zarr",
    "tensorstore": "tensorstore",
    "HDF5": "h5py",
    "Parquet": "pyarrow",
    "tf.data": "tensorflow",
}
WRITERS = {"HDF5": write_h5, "Parquet": write_parquet, "tf.data": write_tfrecord}


def have(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def run_one(out: Path, name: str, epochs: int, seconds: float) -> dict[str, float]:
    """First and later videos/s, CPU ms per video and memory of a reader, in this process."""
    epoch = READERS[name](out)
    rates, videos = [], 0
    cpu = time.process_time()
    for number in range(epochs):
        begin, seen = time.perf_counter(), 0
        for n in epoch(number):
            seen += n
            if time.perf_counter() - begin > seconds:
                break
        rates.append(seen / (time.perf_counter() - begin))
        videos += seen
    with open("/proc/self/status") as file:
        anon = next(int(x.split()[1]) for x in file if x.startswith("RssAnon")) / 1024
    return {
        "first": rates[0],
        "later": statistics.median(rates[1:] or rates),
        "cpu": (time.process_time() - cpu) / videos * 1e3,
        "anon": anon,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(out: Path, names: list[str], *, cold: bool) -> dict[str, dict[str, float]]:
    """Medians of each reader; all of them in turn, so that a busy minute befalls them alike."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            if cold:
                os.sync()
                Path("/proc/sys/vm/drop_caches").write_text("3")
            command = [sys.executable, __file__, "--out", str(out), "--one", name]
            command += ["--epochs", "1" if cold else "4"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: {key: statistics.median(r[key] for r in runs) for key in runs[0]}
        for name, runs in found.items()
    }


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    base = rows["memmap"]
    print(f"\n{title}, videos/s\n")
    print("| reader | first epoch | ÷ memmap | later | ÷ memmap | CPU ms/video | anon MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['first']:,.0f} | {row['first'] / base['first']:.3g} | "
            f"{row['later']:,.0f} | {row['later'] / base['later']:.3g} | "
            f"{row['cpu']:.3f} | {row['anon']:,.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=8192)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", help="readers, by the first letters of their names")
    parser.add_argument("--cold", action="store_true", help="also with the page cache dropped")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_one(asked.out, asked.one, asked.epochs, 4.0)))
        return
    out = asked.out or Path(tempfile.mkdtemp(prefix="mmf-read-"))
    out.mkdir(exist_ok=True)
    if not (out / "lengths.npy").exists():
        prepare(out, asked.videos)
    wanted = tuple(asked.rows.split(",")) if asked.rows else ("",)
    names = [n for n in READERS if n == "memmap" or n.startswith(wanted)]
    names = [n for n in names if n != "sequential read"]  # which is for the cold table
    for name in [n for n in names if n in PACKAGES and not have(PACKAGES[n])]:
        print(f"{name}: skipped, the package {PACKAGES[name]} is not installed")
        names.remove(name)
    show("warm", measure(out, names, cold=False))
    if asked.cold:
        cold = [n for n in READERS if n.startswith(("memmap", "sequential", "ours"))]
        rows = measure(out, cold, cold=True)
        show("cold", rows)
        for name in ("ours, window", "ours, window, 4 threads"):
            ratio = rows[name]["first"] / rows["sequential read"]["first"]
            print(f"\n{name} ÷ the device's sequential rate: {ratio:.2f}")


if __name__ == "__main__":
    main()
