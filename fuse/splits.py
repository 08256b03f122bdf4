"""Which split an item is in: by the store, or decided here and saved with the run."""

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store import Item
from mmf.store.catalog import SPLITS
from mmf.store.items import Items
from mmf.store.order import epoch_order
from mmf.store.places import at_places, firsts, places
from mmf.store.split import NAMES, deal

logger = logging.getLogger(__name__)

NONE = SPLITS.empty_table()  # no video is assigned
SHARES = (0.7, 0.15, 0.15)  # of train, val and test where the store has no split
_ALIASES = {
    "training": "train",
    "valid": "val",
    "validate": "val",  # YouTube-8M's
    "validation": "val",
    "dev": "val",
    "testing": "test",
}


def split_name(split: str) -> str:
    """train, val or test for their usual other names; any other name as it is."""
    return _ALIASES.get(split.lower(), split)


def by_split(items: Sequence[Item], assigned: pa.Table = NONE) -> dict[str, Items]:
    """The items of each split; what a run has assigned goes before what the store says."""
    columns = Items.of(items)
    splits = columns.column("split")
    if len(assigned):
        at = places(columns.video_ids, assigned["video_id"])
        splits = pc.coalesce(at_places(assigned["split"], at), splits)
    names = pc.drop_null(pc.unique(splits))
    plain = pa.array([split_name(n) for n in names.to_pylist()], pa.string())
    splits = pc.take(plain, pc.index_in(splits, names))
    columns = columns.with_splits(splits)
    return {
        name: columns.take(np.flatnonzero(pc.fill_null(pc.equal(splits, name), False)))
        for name in pc.unique(plain).to_pylist()
    }


def some_videos(items: Items, number: int, seed: int) -> Items:
    """The items of `number` of their videos, drawn by a seed; of all where there are not more."""
    videos = pc.unique(items.video_ids)
    if number >= len(videos):
        return items
    drawn = videos.take(pa.array(epoch_order(len(videos), seed=seed, epoch=0)[:number]))
    return items.take(np.flatnonzero(pc.is_in(items.video_ids, drawn)))


def assign_open(items: Items) -> pa.Table:
    """Splits for videos that the store leaves open: all of them, or a validation part of train.

    A row for each of them, by id (`SPLITS`); the items are in the order of their videos.

    Within each class the videos are ordered by a hash of their ids and dealt out, so it depends on
    the ids and labels and on nothing else.
    """
    splits = items.column("split")
    named = {split_name(s) for s in pc.drop_null(pc.unique(splits)).to_pylist()}
    if not named:
        logger.warning(
            "the store has no split, so videos are split into train, val and test "
            "(70, 15 and 15 %) by a hash of their ids; `mmf split` makes your own"
        )
        return _deal(items, SHARES)
    if without := splits.null_count:
        logger.warning("%d of %d items are in no split and are not used", without, len(items))
    if "train" not in named:
        raise MmfError(f"no item is in split 'train'; the splits are {', '.join(sorted(named))}.")
    if "val" in named:
        return NONE
    logger.warning(
        "the store has no val split, so 20 % of the training videos, "
        "chosen by a hash of their ids, serve for early stopping"
    )
    return _deal(by_split(items)["train"], (0.8, 0.2))


def _deal(items: Items, shares: Sequence[float]) -> pa.Table:
    """The videos of each class divided by these shares of train, val and test."""
    videos = items.take(firsts(items.video_ids))  # of the items of one video, its first
    lengths = videos.lengths("labels")
    strata = np.ones(len(videos), dtype=np.int64)  # 1: without a label
    numbers = pc.list_flatten(videos.column("labels")).to_numpy()
    strata[lengths > 0] = 2 + numbers[(np.cumsum(lengths) - lengths)[lengths > 0]]
    dealt = deal(videos.video_ids, strata, shares)
    splits = pa.array(NAMES).take(pa.array(dealt))
    return pa.table({"video_id": videos.video_ids, "split": splits}, schema=SPLITS)
