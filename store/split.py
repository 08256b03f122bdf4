"""Divide videos into train, val and test: the same videos always fall the same way."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from mmf import MmfError, unknown
from mmf.store.feature_store import FeatureStore

NAMES = ("train", "val", "test")


def assign(
    groups: Mapping[str, str],
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    seed: int = 0,
    strata: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Split by video, for the group of each video; a group stays on one side.

    Groups are taken in the order of a hash of (seed, group) and go where the videos given out so
    far fall most short of their fraction; while there are groups, no split stays empty. With
    `strata` (a class by video), each stratum is divided by itself, so that a small class reaches
    every split; a group counts for the stratum of its first video, and strata with fewer groups
    than there are splits are divided as one.
    """
    _check(fractions)
    members: dict[str, list[str]] = {}
    for video in sorted(groups):
        members.setdefault(groups[video], []).append(video)
    stratum = {group: (strata or {}).get(videos[0], "") for group, videos in members.items()}
    sizes = Counter(stratum.values())
    stratum = {g: s if sizes[s] >= len(fractions) else "" for g, s in stratum.items()}
    left = Counter(stratum.values())
    counts = {s: [0] * len(fractions) for s in left}
    found: dict[str, str] = {}
    for group in sorted(members, key=lambda g: _hash(seed, g)):
        at = _most_short(
            counts[stratum[group]], len(members[group]), left[stratum[group]], fractions
        )
        counts[stratum[group]][at] += len(members[group])
        left[stratum[group]] -= 1
        found.update(dict.fromkeys(members[group], NAMES[at]))
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


def _most_short(
    counts: Sequence[int], videos: int, groups_left: int, fractions: Sequence[float]
) -> int:
    """The split for the next group of `videos`; the last groups go to splits that have none yet."""
    total = sum(counts) + videos
    short = [f * total - n for f, n in zip(fractions, counts, strict=True)]
    empty = [i for i, n in enumerate(counts) if n == 0 and fractions[i] > 0]
    among = empty if 0 < groups_left <= len(empty) else range(len(counts))
    return max(among, key=lambda i: (short[i], -i))


def _check(fractions: Sequence[float]) -> None:
    if not 1 < len(fractions) <= len(NAMES) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise MmfError(
            f"fractions {', '.join(map(str, fractions))}: expected two or three numbers that add "
            "up to 1, for train, val and test (--fractions 0.8,0.1,0.1)."
        )


def _hash(seed: int, group: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{group}".encode(errors="surrogateescape")).digest()
