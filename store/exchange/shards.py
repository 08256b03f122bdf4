"""YouTube-8M's partitions and shards: what a file's name says, and the papers' splits from it."""

import hashlib
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store.catalog import SPLITS
from mmf.store.feature_store import FeatureStore

SPLIT_OF = {"train": "train", "validate": "val", "test": "test"}  # partition → split


def partition(path: Path) -> str | None:
    """train, validate or test, as the name begins: ``trainAb.tfrecord`` is shard Ab of train."""
    found = re.match("(train|validate|test)", path.stem)
    return found[1] if found else None


def papers_split(
    store: FeatureStore,
    *,
    training: int = 3000,
    evaluation: int = 200,
    seed: int = 0,
    name: str = "default",
) -> dict[str, int]:
    """Split as the papers do; returns the number of shards in each split.

    All shards of the partition train and `training` of the partition validate are for training,
    `evaluation` of the others for testing, and what is left for validation. Which shards of
    validate those are, the papers do not say: here they are in the order of a hash of
    (seed, shard).
    """
    table = store.catalog.videos()
    if not {"partition", "shard"} <= {*table.column_names}:
        raise MmfError(
            f"the store {store.files.name!r} knows no partitions and shards; "
            "`mmf import youtube8m` keeps them from the files' names."
        )
    known = {
        p: sorted(
            pc.unique(table.filter(pc.equal(table["partition"], p))["shard"]).to_pylist(),
            key=lambda shard: hashlib.blake2b(f"{seed}\0{shard}".encode()).digest(),
        )
        for p in SPLIT_OF
    }
    validate = known["validate"]
    if len(validate) < training + evaluation:
        raise MmfError(
            f"the store has {len(validate)} shards of validate; {training} for training and "
            f"{evaluation} for evaluation were asked for (--shards TRAINING,EVALUATION)."
        )
    found = {
        "train": [*known["train"], *validate[:training]],
        "test": validate[training : training + evaluation],
        "val": validate[training + evaluation :],
    }
    for split, shards in found.items():
        kept = pc.and_(
            pc.is_in(table["shard"], pa.array(shards, pa.string())),
            pc.is_in(table["partition"], pa.array(["train", "validate"])),
        )
        videos = table.filter(kept)["video_id"]
        rows = pa.table([videos, pa.array([split] * len(videos), pa.string())], schema=SPLITS)
        store.catalog.add_split_rows(name, rows)
    return {split: len(shards) for split, shards in found.items()}
