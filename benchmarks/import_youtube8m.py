"""What does it cost to import YouTube-8M's TFRecords, against tf.data merely parsing them?

    uv run --group bench python benchmarks/import_youtube8m.py

CPU milliseconds per video (user and system, all threads), each in a fresh process after a warm-up,
the median of `--repeat` runs taken in turn. The files are of random codes in YouTube-8M's shape:
120 to 300 frames of 1024 + 128 bytes, 271 KB a video, 1,000 videos a file. tf.data reads the same
files with `parse_single_sequence_example` and `decode_raw`, on one thread and with its own choice
of threads (AUTOTUNE). Ours is the whole import into a fresh store: checksums, rows, labels,
digests, fsync, commits, the index.

`raw write + fsync` is what the rows cost to write with nothing done to them: it is inside ours and
not inside tf.data's. `read + parse` is the part of ours that does what tf.data does.

Without TensorFlow here, `--tensorflow /path/to/python` names an interpreter that has it; without
either its rows are left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TENSORFLOW = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
def parse(record):
    context, lists = tf.io.parse_single_sequence_example(
        record,
        context_features={"id": tf.io.FixedLenFeature([], tf.string),
                          "labels": tf.io.VarLenFeature(tf.int64)},
        sequence_features={k: tf.io.FixedLenSequenceFeature([], tf.string)
                           for k in ("rgb", "audio")})
    return (context["id"], context["labels"],
            *(tf.io.decode_raw(lists[k], tf.uint8) for k in ("rgb", "audio")))
threads, *paths = sys.argv[1:]
if threads == "one":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    data = tf.data.TFRecordDataset(paths).map(parse)
else:
    data = tf.data.TFRecordDataset(paths).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.prefetch(tf.data.AUTOTUNE)
def once():
    for video in data:
        pass
"""

OURS = """
import os, sys, tempfile
from pathlib import Path
what, scratch, *paths = sys.argv[1:]
from mmf.store import FeatureStore
from mmf.store.exchange import youtube8m
from mmf.store.exchange.tfrecord import read_records
from mmf.store.exchange.youtube8m_import import import_youtube8m
def read():
    for path in paths:
        for record in read_records(Path(path)):
            youtube8m.read_video(record.data)
def write():
    for path in paths:
        with tempfile.TemporaryFile(dir=scratch, buffering=0) as file:
            for n in range(os.stat(path).st_size >> 18):
                file.write(block)
            os.fsync(file.fileno())
def whole():
    store = FeatureStore.create(tempfile.mkdtemp(dir=scratch))
    import_youtube8m(store, paths, workers=1)
block = os.urandom(1 << 18)
once = {"import": whole, "read + parse": read, "raw write + fsync": write}[what]
"""

TIMED = """
import time
once()
begun = time.process_time()
once()
print((time.process_time() - begun) * 1000)
"""


def make_file(path: Path, numbers: range) -> None:
    """A TFRecord file with the videos of these numbers."""
    import numpy as np

    from mmf.store.exchange import example
    from mmf.store.exchange.tfrecord import write_record

    rng = np.random.default_rng(numbers.start)
    with open(path, "wb") as file:
        for i in numbers:
            frames = int(np.clip(rng.normal(235, 50), 120, 300))
            rows = {
                k: rng.integers(0, 256, (frames, d), np.uint8)
                for k, d in (("rgb", 1024), ("audio", 128))
            }
            context = {"id": f"{i:04x}".encode(), "labels": rng.integers(0, 3862, 3)}
            write_record(file, example.build(context, rows))


def cpu_per_video(python: str, code: str, videos: int, *arguments: str) -> float:
    """CPU milliseconds per video of the second call of `once`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [python, "-c", code + TIMED, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(run.stdout.split()[-1]) / videos


def measure(videos: int, repeat: int, tensorflow: str, files: int = 1) -> dict[str, float]:
    """Median CPU milliseconds per video, by what was done."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="mmf-import-") as folder:
        paths = [str(Path(folder) / f"train{i:02}.tfrecord") for i in range(files)]
        for i, path in enumerate(paths):
            make_file(Path(path), range(i * videos, (i + 1) * videos))
        for _ in range(repeat):
            for threads in ("one", "auto") if tensorflow else ():
                ms = cpu_per_video(tensorflow, TENSORFLOW, videos * files, threads, *paths)
                found.setdefault(f"tf.data, threads {threads}", []).append(ms)
            for what in ("read + parse", "raw write + fsync", "import"):
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    given = (videos * files, what, scratch, *paths)
                    ms = cpu_per_video(sys.executable, OURS, *given)
                found.setdefault(what, []).append(ms)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1000, help="In each file.")
    parser.add_argument("--files", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--tensorflow", default=sys.executable, help="An interpreter that has it.")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    has = subprocess.run([given.tensorflow, "-c", "import tensorflow"], capture_output=True)
    if has.returncode:
        print("TensorFlow is not here; its rows are left out (--tensorflow PYTHON).")
    tensorflow = "" if has.returncode else given.tensorflow
    found = measure(given.videos, given.repeat, tensorflow, given.files)
    if given.json:
        print(json.dumps(found))
        return
    base = found.get("tf.data, threads one")
    print("| what | CPU ms/video | ÷ tf.data, one thread |\n|---|---|---|")
    for name, ms in found.items():
        print(f"| {name} | {ms:.3f} | {f'{ms / base:.2f}' if base else '–'} |")


if __name__ == "__main__":
    main()
