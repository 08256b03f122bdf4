"""Divide videos into train, val and test: the same videos always fall the same way."""

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from mmf import MmfError, unknown
from mmf.store.feature_store import FeatureStore
from mmf.store.places import Ids

NAMES = ("train", "val", "test")
_AT_ONCE = 4096


def assign(
    groups: Mapping[str, str],
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    seed: int = 0,
    strata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Split by video, for the group of each video; a group stays on one side.

    With `strata` (a class by video), each stratum is divided by itself, so that a small class
    reaches every split; a group counts for the stratum of its first video. See `deal`.
    """
    members: dict[str, list[str]] = {}
    for video in sorted(groups):
        members.setdefault(groups[video], []).append(video)
    number = {"": 0}
    of = [
        number.setdefault((strata or {}).get(videos[0], ""), len(number))
        for videos in members.values()
    ]
    sizes = [len(videos) for videos in members.values()]
    dealt = deal(pa.array([*members], pa.string()), of, fractions, seed=seed, sizes=sizes)
    each = zip(members.values(), dealt.tolist(), strict=True)
    return {video: NAMES[at] for videos, at in each for video in videos}


def deal(
    groups: Ids,
    strata: Sequence[int] | np.ndarray,
    fractions: Sequence[float],
    *,
    seed: int = 0,
    sizes: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """The split of each group, as its number in NAMES, int8; `sizes` in videos, None being 1 each.

    Groups are taken in the order of a hash of (seed, group) and go where the videos given out so
    far in their stratum fall most short of their fraction; while there are groups, no split stays
    empty. Strata with fewer groups than there are splits, and stratum 0, are divided as one.
    """
    _check(fractions)
    strata = np.asarray(strata, dtype=np.int64)
    strata = np.where(np.bincount(strata)[strata] < len(fractions), 0, strata)
    order = np.lexsort((_hashes(seed, groups), strata))
    sizes = np.ones(len(order), dtype=np.int8) if sizes is None else np.asarray(sizes)
    found = np.empty(len(order), dtype=np.int8)
    for stratum in np.split(order, np.flatnonzero(np.diff(strata[order])) + 1):
        found[stratum] = _deal_in_order(sizes[stratum].tolist(), fractions)
    return found


def _deal_in_order(sizes: Sequence[int], fractions: Sequence[float]) -> list[int]:
    """The splits of the groups of one stratum."""
    counts, total, found = [0] * len(fractions), 0, []
    for left, size in zip(range(len(sizes), 0, -1), sizes, strict=True):
        total += size
        short = [f * total - n for f, n in zip(fractions, counts, strict=True)]
        if left <= len(fractions):  # the last go to splits that have none yet
            empty = [i for i, n in enumerate(counts) if n == 0 and fractions[i] > 0]
            if left <= len(empty):
                short = [s if i in empty else -math.inf for i, s in enumerate(short)]
        at = short.index(max(short))
        counts[at] += size
        found.append(at)
    return found


def split(
    store: FeatureStore,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    by: str | None = None,
    seed: int = 0,
    name: str = "default",
) -> dict[str, str]:
    """Split every video of the store and keep that under `name`.

    `by` names a column of the manifests whose values are groups; without it each video stands for
    itself and the classes are divided evenly.
    """
    table = store.videos()
    videos = table["video_id"].to_pylist()
    if not videos:
        raise MmfError(
            f"the store {store.files.name!r} has no videos to split; extract some first."
        )
    strata = None
    if by is None:
        groups = {v: v for v in videos}
        labels = table["labels"].to_pylist()
        strata = {v: ";".join(names or ()) for v, names in zip(videos, labels, strict=True)}
    else:
        columns = [c for c in table.column_names if c not in store.features]
        if by not in columns:
            raise unknown("column", by, columns)
        values = table[by].to_pylist()
        # a video without a value is its own group
        groups = {v: v if x is None else f"{by}={x}" for v, x in zip(videos, values, strict=True)}
    found = assign(groups, fractions, seed=seed, strata=strata)
    store.catalog.add_splits(name, found)
    return found


def _check(fractions: Sequence[float]) -> None:
    if not 1 < len(fractions) <= len(NAMES) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise MmfError(
            f"fractions {', '.join(map(str, fractions))}: expected two or three numbers that add "
            "up to 1, for train, val and test (--fractions 0.8,0.1,0.1)."
        )


def _hashes(seed: int, groups: Ids) -> np.ndarray:
    """The first 8 bytes of a hash of each group, as numbers."""
    found, first = np.empty(len(groups), dtype=">u8"), f"{seed}\0".encode()
    names = groups.cast(pa.binary())
    for start in range(0, len(names), _AT_ONCE):
        part = (first + name for name in names.slice(start, _AT_ONCE).to_pylist())
        digests = b"".join(hashlib.blake2b(name).digest()[:8] for name in part)
        found[start : start + _AT_ONCE] = np.frombuffer(digests, dtype=">u8")
    return found.astype(np.uint64)
