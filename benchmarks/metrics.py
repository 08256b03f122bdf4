"""The metrics of very many items: memory and time, for scores that are made as they are given.

    uv run python benchmarks/metrics.py --items 1100000 --classes 3862

Measured are CPU seconds, and the most memory beside what the process held at first. An item has 3.4
labels on average, of classes whose frequency falls with their rank.
"""

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np

from mmf.fuse.evaluation.accumulator import Accumulator

NAMES = ("gap@20", "map@20", "map", "perr", "hit@1")


def batches(items: int, classes: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scores float32 and labels bool, each (B, C)."""
    generator = np.random.default_rng(0)
    share = 1 / np.arange(1, classes + 1)
    share /= share.sum()
    for start in range(0, items, size):
        n = min(size, items - start)
        labels = np.zeros((n, classes), bool)
        numbers = np.minimum(1 + generator.poisson(2.4, n), classes)
        labels[
            np.repeat(np.arange(n), numbers), generator.choice(classes, numbers.sum(), p=share)
        ] = True
        scores = generator.random((n, classes), np.float32)
        scores *= 0.6
        scores[labels] = generator.random(np.count_nonzero(labels), np.float32) ** 0.2
        yield scores, labels


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Print what the metrics took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=1_100_000)
    parser.add_argument("--classes", type=int, default=3862)
    parser.add_argument("--batch", type=int, default=1024)
    given = parser.parse_args()
    accumulator, adding = Accumulator(NAMES), 0.0
    some = next(batches(given.batch, given.classes, given.batch))
    Accumulator(NAMES).add(*some)  # what is loaded on first use
    before = peak_bytes()
    for scores, labels in batches(given.items, given.classes, given.batch):
        started = time.process_time()
        accumulator.add(scores, labels)
        adding += time.process_time() - started
    held, started = peak_bytes(), time.process_time()
    result = accumulator.result()
    took = time.process_time() - started
    for name, value in result.items():
        print(f"{name} {value:.6f}")
    print(f"adding {adding:.1f} CPU s, the result {took:.1f} CPU s")
    print(f"{(held - before) / 1e9:.2f} GB kept, {(peak_bytes() - before) / 1e9:.2f} GB at most")


if __name__ == "__main__":
    main()
