"""Raw video: what a policy asks for against everything. Wall time, and are the scores the same?

    python benchmarks/adaptive.py ../shared/data/videos [--rates 0.1 0.3 1 learned] [--repeat 3]

The clips are real, their labels their folders. Sound (MobileNetV2) is heard throughout and is what
is decided from; a policy that decides by chance asks for the pictures (ResNet-50, random weights,
two a second) at a rate, so that every share of them can be measured; `learned` is AdaMML's network
of the published size, whose rate is what it happened to learn. `full` extracts every row and
then predicts, with the same decisions. Both are what `mmf predict RUN VIDEO…` does, without the
start of Python; they take turns, and the median of the repetitions is shown. `deciding` is what the
policy itself took: counting rows without decoding, and its forward passes. At a rate of 1, what
asking costs shows as a whole.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mmf.commands.adaptive import Adaptive
from mmf.commands.media_given import extract_as_trained, manifest_of
from mmf.extract import JobOptions, extract, parse_feature
from mmf.fuse import TrainConfig, train
from mmf.fuse.inference.ensemble import Ensemble
from mmf.fuse.inference.prediction import items_of
from mmf.store import FeatureStore

FEATURES = ("rgb=rgb:{},fps=2,weights=random:0", "audio=audio:mobilenet_v2,weights=random:0")
ROLES = {"clues": ["audio"], "modalities": ["rgb", "audio"]}
LEARNED = "learned"


@dataclass(kw_only=True)
class Measured:
    """What the repetitions of one rate took, in seconds."""

    full: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    deciding: list[float] = field(default_factory=list)
    rows: tuple[int, int] = (0, 0)  # of rgb: computed, and all
    away: float = 0.0  # the largest difference of two scores

    def line(self, rate: str) -> str:
        """A row of the table."""
        full, asked = statistics.median(self.full), statistics.median(self.asked)
        deciding = statistics.median(self.deciding)
        return (
            f"| {rate} | {self.rows[0]} of {self.rows[1]} | {full:.1f} | {asked:.1f} | "
            f"{full / asked:.2f} | {deciding:.2f} | {deciding / full:.1%} | {self.away:.1g} |"
        )


def trained(store: FeatureStore, out: Path, rate: str) -> Path:
    """A run that asks for pictures at this rate; its recognition learns a little."""
    options = {**ROLES, "cost": {"rgb": 1.0, "audio": 0.05}}
    if rate != LEARNED:
        options = {**ROLES, "decisions": "random", "rate": {"rgb": float(rate), "audio": 1.0}}
    config = TrainConfig(
        store=store.path, out=out, fusion="policy", fusion_options=options, epochs=5
    )
    return Path(train(config))


def measure(run: Path, videos: Sequence[str], repeat: int) -> Measured:
    """Both ways in turn, each with a network and folder of its own."""
    found = Measured()
    for _ in range(repeat):
        with tempfile.TemporaryDirectory(prefix="mmf-adaptive-") as folder:
            began = time.perf_counter()
            ensemble = Ensemble([run], device="cpu")
            place = extract_as_trained(ensemble.specs.values(), videos, Path(folder) / "all.mmf")
            store = FeatureStore(place)
            items = items_of(store, ensemble.runs[0], None)
            every = [one.scores(ensemble.loss) for one in ensemble.score(store, items)]
            found.full.append(time.perf_counter() - began)
            began = time.perf_counter()
            ensemble = Ensemble([run], device="cpu")
            adaptive = Adaptive(ensemble, videos, Path(folder))
            asked = [one.scores(ensemble.loss) for one in adaptive.scored()]
            found.asked.append(time.perf_counter() - began)
            found.deciding.append(adaptive.deciding)
            computed = sum(job.spent.forward["rgb"].rows for job in adaptive.asked)
            found.rows = (computed, sum(c.rows["rgb"] for c in adaptive.counted.values()))
            away = np.abs(np.concatenate(every) - np.concatenate(asked)).max()
            found.away = max(found.away, float(away))
    return found


def main() -> None:
    """Extract once, train a run for each rate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--rates", nargs="+", default=["0.1", "0.3", "1", LEARNED])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--backbone", default="resnet50")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmf-adaptive-") as folder:
        home, manifest = Path(folder), manifest_of(options.videos)
        requests = [parse_feature(text.format(options.backbone)) for text in FEATURES]
        extract(manifest, home / "learn.mmf", requests, JobOptions(max_failure_rate=1.0))
        store = FeatureStore(home / "learn.mmf")
        ids = [one.video_id for one in manifest.inputs()]
        store.label({id_: [str(Path(id_).parent)] for id_ in ids})
        videos = [one.path for one in manifest.inputs()]
        print("| rate | rows of rgb | full s | asked s | ratio | deciding s | of full | diff. |")
        print("|--:|--:|--:|--:|--:|--:|--:|--:|")
        for rate in options.rates:
            run = trained(store, home / f"run-{rate}", rate)
            print(measure(run, videos, options.repeat).line(rate), flush=True)


if __name__ == "__main__":
    main()
