"""What a job has yet to do: rows of its manifest, grouped by the features that they lack.

A job may be of millions of videos. Their ids are compared with the store's as columns, and a video
becomes an object when its turn comes.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf.extract.chosen import Chosen
from mmf.extract.manifest import Manifest
from mmf.extract.pipeline import Task
from mmf.store import FeatureStore
from mmf.store.standing import RANKED, ranks
from mmf.store.stored_feature import StoredFeature

STATES = (*RANKED, "missing")  # what can have become of a video
FAILED, MISSING = STATES.index("failed"), STATES.index("missing")
_IDS_AT_ONCE = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Lacking(Collection[Task]):
    """Videos that lack the same features: how many is known, and each is made when asked for.

    It can be gone through again and again, always in the manifest's order.
    """

    manifest: Manifest
    rows: np.ndarray  # of the manifest's table, in order
    attempts: np.ndarray | None = None  # of each, this one included; None: the first
    chosen: Mapping[str, Chosen] = field(default_factory=dict)  # by video: some of its rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Task]:
        for number, source in enumerate(self.manifest.inputs(self.rows)):
            attempts = 1 if self.attempts is None else int(self.attempts[number])
            chosen = self.chosen.get(source.video_id)
            yield Task(source=source, attempts=attempts, chosen=chosen)

    def __contains__(self, task: object) -> bool:
        return any(task == one for one in self)


Groups = dict[tuple[str, ...], Lacking]  # by the features that are lacking


def ids(manifest: Manifest, rows: np.ndarray) -> Iterator[pa.Array]:
    """The ids of these rows, many at a time."""
    for batch in manifest.batches(["video_id"], rows, most=_IDS_AT_ONCE):
        yield batch["video_id"]


def states(stored: StoredFeature, video_ids: Iterable[pa.Array]) -> np.ndarray:
    """What became of each of these videos, int8: its place in STATES."""
    found = np.append(ranks(stored.outcomes).astype(np.int8), np.int8(MISSING))
    # a video that is not there has position -1: the last
    parts = [found[stored.positions(part)] for part in video_ids]
    return np.concatenate([np.empty(0, dtype=np.int8), *parts])


def lacking(
    manifest: Manifest,
    rows: np.ndarray,
    features: Mapping[str, StoredFeature | None],
    *,
    chosen: Mapping[str, Chosen],
) -> Groups:
    """The videos at `rows` that have no outcome of some features; None is one of no video."""
    found = {
        name: None if stored is None else states(stored, ids(manifest, rows)) == MISSING
        for name, stored in features.items()
    }
    return {
        names: Lacking(manifest=manifest, rows=rows[at], chosen=chosen)
        for names, at in _parted(len(rows), found).items()
    }


def failed(
    manifest: Manifest,
    rows: np.ndarray,
    features: Mapping[str, StoredFeature | None],
    *,
    chosen: Mapping[str, Chosen],
) -> Groups:
    """The videos at `rows` that failed for some features, with how often they were tried."""
    found = dict.fromkeys(features, np.zeros(len(rows), dtype=bool))
    tried = np.zeros(len(rows), dtype=np.int32)
    for name, stored in features.items():
        if stored is None:
            continue
        found[name] = states(stored, ids(manifest, rows)) == FAILED
        at = stored.positions(_taken(manifest, rows[found[name]]))
        attempts = pc.fill_null(stored.outcomes["attempts"], 0).to_numpy()[at]
        tried[found[name]] = np.maximum(tried[found[name]], attempts)
    return {
        names: Lacking(manifest=manifest, rows=rows[at], attempts=1 + tried[at], chosen=chosen)
        for names, at in _parted(len(rows), found).items()
    }


def _taken(manifest: Manifest, rows: np.ndarray) -> pa.ChunkedArray:
    return pa.chunked_array(ids(manifest, rows), pa.string())


def _parted(
    videos: int, found: Mapping[str, np.ndarray | None]
) -> dict[tuple[str, ...], np.ndarray]:
    """Names → the numbers that `found` (None: all) has under just these; by the first number."""
    parts: dict[tuple[str, ...], np.ndarray] = {(): np.arange(videos, dtype=np.int32)}
    for name, here in found.items():
        if here is None:
            parts = {(*names, name): numbers for names, numbers in parts.items()}
            continue
        parts = {
            **{(*names, name): numbers[here[numbers]] for names, numbers in parts.items()},
            **{names: numbers[~here[numbers]] for names, numbers in parts.items()},
        }
    some = [(names, numbers) for names, numbers in parts.items() if names and len(numbers)]
    return dict(sorted(some, key=lambda part: int(part[1][0])))


def count(
    store: FeatureStore, feature: str, manifest: Manifest, rows: np.ndarray
) -> dict[str, int]:
    """How many of the videos at `rows` are in each of STATES."""
    found = states(store.stored(feature), ids(manifest, rows))
    return dict(zip(STATES, np.bincount(found, minlength=len(STATES)).tolist(), strict=True))
