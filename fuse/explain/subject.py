"""A trained run and the items that it is asked about: what every explanation begins with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError, unknown
from mmf.fuse.data import choose_device
from mmf.fuse.inference.prediction import items_of
from mmf.fuse.network import Network
from mmf.fuse.run import Run
from mmf.store import FeatureStore
from mmf.store.items import Items

_NAMES = 10_000  # of items, most that are searched for one like an unknown name


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A run, its network in eval mode, and the items that it is asked about."""

    run: Run
    network: Network
    store: FeatureStore
    items: Items

    @property
    def label_set(self) -> str | None:
        """The run's, where the store has it."""
        name = self.run.config.label_set
        return name if name in self.store.label_sets else None


def open_subject(
    run: str | Path | Run,
    store: str | Path | None = None,
    *,
    split: str | None = None,
    items: Sequence[str] = (),
    device: str = "auto",
) -> Subject:
    """A trained run, on a split or on the items that are named.

    A name is that of an item, or of a video, whose items are then all meant. Without names and
    without a split they are those of the test split.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    place = _open_store(opened, store)
    opened.check_features(place)
    every = items_of(place, opened, split if items or split else "test")
    found = _named(every, items) if items else every
    network = opened.trained().to(choose_device(device))
    return Subject(run=opened, network=network, store=place, items=found)


def _open_store(run: Run, store: str | Path | None) -> FeatureStore:
    if store is not None:
        return FeatureStore(store)
    try:
        return FeatureStore(run.config.store)
    except MmfError as error:
        raise MmfError(
            f"run {str(run.path)!r} was trained on a store that cannot be opened now: {error} If "
            "it has moved, say with --store where it is."
        ) from error


def _named(items: Items, names: Sequence[str]) -> Items:
    """The items of these names, and all items of videos of these names; in their own order."""
    videos = [*names, *(name.rpartition("@")[0] for name in names)]
    at = np.flatnonzero(pc.is_in(items.video_ids, pa.array(videos, pa.string())))
    asked, kept = frozenset(names), list[int]()
    found: set[str] = set()
    for number, item in zip(at.tolist(), items.take(at), strict=True):
        meant = asked & {item.id, item.video_id}
        found |= meant
        kept += [number] if meant else []
    for name in names:
        if name not in found:
            raise _not_there(items, name)
    return items.take(np.array(kept, dtype=np.int64))


def _not_there(items: Items, name: str) -> MmfError:
    """An error that says what is like the name, and lists what there is where that is short."""
    if len(items) <= _NAMES:
        known = {item.id for item in items}
        error = unknown("item", name, known)
        if len(known) <= 20:
            return error
        return MmfError(f"{str(error).partition(' Known:')[0]} There are {len(known)} items.")
    return MmfError(f"unknown item {name!r}, of {len(items)}. A name is VIDEO or VIDEO@START-END.")
