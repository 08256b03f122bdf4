"""How long the pages of a large run and of a large store take, and how large they are.

    python benchmarks/report.py [--videos 20000] [--classes 3862]

Made videos of two features, labelled with three classes each; all that is measured is the test
split, half of them. Beside it `mmf evaluate`'s own pass over the same items.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from mmf.fuse import TrainConfig, evaluate, train
from mmf.report import write_page
from mmf.report.run_page import RunPage
from mmf.report.store_page import store_page
from mmf.store import FeatureSpec, FeatureStore, Track


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--videos", type=int, default=20_000)
    words.add_argument("--classes", type=int, default=3862)
    given = words.parse_args()
    print("| page | seconds | MB |\n|---|--:|--:|")
    for name, (seconds, size) in measure(given.videos, given.classes).items():
        print(f"| {name} | {seconds:.1f} | {size / 1e6:.2f} |")


def measure(videos: int, classes: int) -> dict[str, tuple[float, int]]:
    """Seconds and bytes of each page; evaluate writes none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = made(folder / "made.mmf", videos, classes)
        config = TrainConfig(
            store=str(store.path), out=str(folder / "run"), steps=2, batch_size=64, device="cpu"
        )
        run = train(config)
        begun = time.perf_counter()
        evaluate(run)
        found = {"evaluate alone": (time.perf_counter() - begun, 0)}
        test = len(store.items("test"))
        pages = {
            f"a run, {test:,} items x {classes:,} classes": lambda: RunPage(run).page(),
            f"a store of {videos:,} videos": lambda: store_page(FeatureStore(store.path)),
        }
        for title, make in pages.items():
            begun = time.perf_counter()
            size = write_page(make(), folder / "page.html")
            found[title] = time.perf_counter() - begun, size
        return found


def made(path: Path, videos: int, classes: int) -> FeatureStore:
    """Rows around a mean of the first class; nothing is to be learned of them."""
    random, store = np.random.default_rng(0), FeatureStore.create(path)
    ids = [f"video {i:06}" for i in range(videos)]
    labels = random.integers(0, classes, (videos, 3))
    for name, size in (("rgb", 32), ("audio", 16)):
        spec = FeatureSpec(name=name, modality=name, shape=(size,), dtype="float32")
        tracks = (
            Track(
                video_id=video,
                values=random.normal(its[0] % 7, 1, (2 + its[1] % 5, size)),
                times=np.arange(2 + its[1] % 5, dtype=float),
            )
            for video, its in zip(ids, labels, strict=True)
        )
        store.add(spec, tracks)
    names = [f"class {i:04}" for i in range(classes)]
    given = {v: sorted({names[c] for c in its}) for v, its in zip(ids, labels, strict=True)}
    split = {v: ("train", "test", "test", "val")[i % 4] for i, v in enumerate(ids)}
    store.label(given, split=split, classes=names)
    return store


if __name__ == "__main__":
    main()
