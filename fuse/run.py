"""A run: the folder that a training leaves, and the network in it.

config.json      the TrainConfig, and what it met: snapshot, features, classes, splits
splits.parquet   the split of each video for which the store had none, so that it stays the same
metrics.jsonl    a line per epoch
checkpoints/     the last two; each has the network as it was, the best so far, the optimiser
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mmf import MmfError, __version__
from mmf.fuse.config import TrainConfig
from mmf.fuse.network import Network
from mmf.fuse.splits import NONE
from mmf.fuse.training import checkpoint
from mmf.fuse.training.plan import Plan, videos_digest
from mmf.store import FeatureSpec, FeatureStore
from mmf.store.catalog import SPLITS
from mmf.store.records import table_bytes
from mmf.store.spec import differing_field

_FORMAT = 2
_SPLITS = "splits.parquet"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What config.json of a run says."""

    path: Path
    config: TrainConfig
    specs: dict[str, FeatureSpec]
    classes: tuple[str, ...]
    task: str
    loss: str
    assigned: pa.Table  # the split of videos (`SPLITS`), where the store left it open
    digest: str  # of the items and labels that it learns from
    trained_on: str  # digest of the videos of the train split
    snapshot: str  # of the store
    positives: tuple[int, ...] = ()  # of each class in training; none where an older run has none

    @classmethod
    def of(cls, path: Path, config: TrainConfig, store: FeatureStore, plan: Plan) -> "Run":
        """The run that this plan will be, before anything of it is written."""
        return cls(
            path=path,
            config=replace(config, features=tuple(plan.specs), out=""),
            specs=plan.specs,
            classes=plan.classes,
            task=plan.task,
            loss=plan.loss,
            assigned=plan.assigned,
            digest=plan.digest(),
            trained_on=videos_digest(plan.items["train"].video_ids),
            snapshot=store.snapshot(),
            positives=plan.positives(),
        )

    def write(self, plan: Plan, parameters: Mapping[str, int]) -> None:
        """Make the folder with its config.json: both, or neither."""
        part = self.path.with_name(f".{self.path.name}.begun")
        part.mkdir(parents=True, exist_ok=True)
        values = self._to_json(plan) | {"parameters": parameters}
        checkpoint.write_json(part / "config.json", values)
        if len(self.assigned):
            checkpoint.write_bytes(part / _SPLITS, table_bytes(self.assigned))
        part.rename(self.path)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """The run in a folder."""
        path = Path(path)
        try:
            values = json.loads((path / "config.json").read_text(encoding="utf-8"))
            data = values["data"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise MmfError(
                f"{str(path)!r} is not a run: expected the folder of a `mmf train`, "
                "with its config.json."
            ) from error
        if values.get("format") != _FORMAT:
            raise MmfError(
                f"run {str(path)!r} has format {values.get('format')!r}; mmf {__version__} reads "
                f"{_FORMAT}. Train it again, or use the mmf {values.get('mmf')} that wrote it."
            )
        try:
            return cls._of_json(path, values["config"], data)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, MmfError):
                raise
            raise MmfError(
                f"{str(path / 'config.json')!r} is not as mmf writes it: {error!r}. Train it again."
            ) from error

    @classmethod
    def _of_json(cls, path: Path, config: Mapping[str, Any], data: Mapping[str, Any]) -> "Run":
        return cls(
            path=path,
            config=TrainConfig.from_json(config),
            specs={n: FeatureSpec.from_json(s["spec"]) for n, s in data["features"].items()},
            classes=tuple(data["classes"]),
            task=data["task"],
            loss=data["loss"],
            assigned=_assigned(path, data["assigned"]),
            digest=data["digest"],
            trained_on=data["trained_on"],
            snapshot=data["snapshot"],
            positives=tuple(data.get("positives", ())),
        )

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return self.path / "checkpoints"

    def network(self) -> Network:
        """The network with its first weights, drawn from torch's generator."""
        shapes = {name: spec.shape for name, spec in self.specs.items()}
        tokens = [name for name, spec in self.specs.items() if spec.dtype == "int32"]
        return Network(self.config, shapes, self.classes, self.loss, tokens)

    def trained(self) -> Network:
        """The network with the weights that did best in validation, in eval mode, on the CPU."""
        path, _ = self._newest()
        with torch.random.fork_rng(devices=[]):
            network = self.network()
        network.load_state_dict(checkpoint.load_tensors(path, "best"))
        return network.eval()

    def best(self) -> dict[str, Any]:
        """The row of metrics.jsonl whose weights did best, among those that count."""
        return self._newest()[1]["best"]

    def _newest(self) -> tuple[Path, dict[str, Any]]:
        """The newest checkpoint that has weights which were measured."""
        found = checkpoint.newest(self.checkpoints)
        if found is None or found[1]["best"] is None:
            raise MmfError(
                f"run {str(self.path)!r} has no weights yet. "
                f"Continue it with `mmf train {self.path}/config.json --out {self.path} --resume`."
            )
        return found

    def check_features(self, store: FeatureStore) -> None:
        """Raise MmfError where the store made a feature of the run in another way.

        A feature that the store lacks altogether is missing for every video, which is allowed, as
        long as one is there.
        """
        there = [name for name in self.specs if name in store.features]
        if not there:
            raise MmfError(
                f"store {str(store.path)!r} has none of the run's features "
                f"({', '.join(self.specs)}); it has {', '.join(store.features) or 'none'}."
            )
        for name in there:
            here, run = store.features[name], self.specs[name]
            if here.fingerprint != run.fingerprint:
                raise MmfError(
                    f"feature {name!r} of store {str(store.path)!r} was made with another recipe "
                    f"than the one run {str(self.path)!r} was trained on: "
                    f"{differing_field(run.identity, here.identity)} (there: the run). "
                    "Extract it again with the run's recipe, or train anew."
                )

    def _to_json(self, plan: Plan) -> dict[str, Any]:
        features: Mapping[str, Any] = {
            name: {"fingerprint": spec.fingerprint, "spec": spec.to_json()}
            for name, spec in self.specs.items()
        }
        return {
            "format": _FORMAT,
            "mmf": __version__,
            "config": self.config.to_json(),
            "data": {
                "snapshot": self.snapshot,
                "digest": self.digest,
                "trained_on": self.trained_on,
                "features": features,
                "classes": list(self.classes),
                "positives": list(self.positives),
                "task": self.task,
                "loss": self.loss,
                "items": {split: len(part) for split, part in plan.items.items()},
                "assigned": len(self.assigned),
            },
            "environment": {"torch": torch.__version__, "python": platform.python_version()},
        }


def load(run: str | Path) -> Network:
    """The trained network of a run: ``network(features, masks) -> logits (B, C)``.

    `network.features` and `network.classes` name its inputs and outputs. Features are numbers
    (dequantised), as `FeatureStore.read` gives them.
    """
    return Run.open(run).trained()


def _assigned(path: Path, kept: int | Mapping[str, str]) -> pa.Table:
    """The splits that a run has decided; once they stood in config.json, by video."""
    if isinstance(kept, Mapping):
        videos = sorted(kept)
        return pa.table([videos, [kept[v] for v in videos]], schema=SPLITS)
    if not kept:
        return NONE
    try:
        return pq.read_table(path / _SPLITS, schema=SPLITS, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise MmfError(
            f"the splits {str(path / _SPLITS)!r} of {kept} videos cannot be read: {error}. Without "
            "them nobody knows what the run was trained on; train it again."
        ) from error


def next_free(fusion: str, parent: Path = Path("runs")) -> Path:
    """``runs/<fusion>-N`` with the lowest N above all that are there."""
    numbers = [
        int(p.name.rpartition("-")[2])
        for p in parent.glob(f"{fusion}-*")
        if p.name.rpartition("-")[2].isdigit() and p.name.rpartition("-")[0] == fusion
    ]
    return parent / f"{fusion}-{max(numbers, default=0) + 1}"
