"""What a run learns from: which features, items, splits, classes and task; said in full or refused.

Items stay columns throughout, so that millions are planned in seconds.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.fuse.config import TrainConfig
from mmf.fuse.splits import NONE, assign_open, by_split, some_videos
from mmf.fuse.text.tokens import check_tokens
from mmf.store import FeatureSpec, FeatureStore
from mmf.store.items import Items
from mmf.store.places import distinct, places

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run learns from."""

    specs: dict[str, FeatureSpec]
    classes: tuple[str, ...]
    task: str  # single or multi
    loss: str  # ce or bce
    items: dict[str, Items]  # of train and val
    assigned: pa.Table  # the split of videos (`SPLITS`), where decided here and not in the store

    def positives(self) -> tuple[int, ...]:
        """How many training items each class is a label of."""
        classes = pc.list_flatten(self.items["train"].column("labels")).to_numpy()
        counts = np.bincount(classes, minlength=len(self.classes))
        return tuple(counts.tolist())

    def digest(self) -> str:
        """A hash of the items and their labels, by split."""
        found = hashlib.sha256("\n".join(self.classes).encode())
        for split, part in self.items.items():
            found.update(f"\n{split} {len(part)}\n".encode())
            _hash_strings(found, part.video_ids)
            for name in ("start", "end"):
                found.update(pc.fill_null(part.column(name), np.nan).to_numpy())
            for name in ("labels", "unrated", "rated"):
                lists = part.column(name)
                found.update(pc.fill_null(pc.list_value_length(lists), -1).to_numpy())
                found.update(pc.list_flatten(lists).to_numpy())
        return found.hexdigest()


def videos_digest(video_ids: pa.ChunkedArray) -> str:
    """A hash of a set of videos."""
    found = hashlib.sha256()
    _hash_strings(found, distinct(video_ids))
    return found.hexdigest()


def _hash_strings(into: Any, strings: pa.ChunkedArray) -> None:
    """Their lengths and then their bytes: other strings have others, however they are cut."""
    into.update(pc.binary_length(strings).to_numpy())
    for chunk in strings.chunks:
        _, ends, data = chunk.buffers()
        edges = np.frombuffer(ends, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        if data is not None and len(chunk):
            into.update(memoryview(data)[edges[0] : edges[-1]])


def make_plan(store: FeatureStore, config: TrainConfig, assigned: pa.Table = NONE) -> Plan:
    """The plan of a run; `assigned` is the split that an earlier start of it has saved.

    Raises MmfError where there is nothing to learn from: no features, no labels, none of the
    labels' videos, an empty split, or one without a positive label.
    """
    specs = choose_features(store, config.features)
    check_tokens(specs, config.text)
    classes = _classes(store, config.label_set)
    items = _usable(store, config, tuple(specs))
    pa.default_memory_pool().release_unused()  # what Arrow has read them with
    task = _task(items, classes, config.task)
    assigned = assigned if len(assigned) else assign_open(items)
    parts = by_split(items, assigned)
    for split in ("train", "val"):
        _check_split(split, parts.get(split), items)
    if config.train_videos is not None:
        parts["train"] = _drawn(parts["train"], config.train_videos, config.seed)
    _warn_of_unseen(parts["train"], classes)
    loss = config.loss if config.loss != "auto" else {"single": "ce", "multi": "bce"}[task]
    return Plan(
        specs=specs,
        classes=classes,
        task=task,
        loss=loss,
        items={s: parts[s] for s in ("train", "val")},
        assigned=assigned,
    )


def choose_features(store: FeatureStore, names: Sequence[str]) -> dict[str, FeatureSpec]:
    """The specs of the named features, or of all by name."""
    if not store.features:
        raise MmfError(
            f"store {str(store.path)!r} has no features. Run `mmf extract --modality rgb` first."
        )
    return {name: store.stored(name).spec for name in names or sorted(store.features)}


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and that there are more."""
    first = list(islice(names, most + 1))
    return ", ".join(map(repr, first[:most])) + (", …" if len(first) > most else "")


def _classes(store: FeatureStore, label_set: str) -> tuple[str, ...]:
    if not store.label_sets:
        raise MmfError(
            f"store {str(store.path)!r} has no labels. Give them with "
            "`mmf label STORE LABELS.csv`, or extract from one folder per class."
        )
    classes = store.classes(label_set)
    if not classes:
        raise MmfError(f"label set {label_set!r} has no class; expected at least one label.")
    return classes


def _usable(store: FeatureStore, config: TrainConfig, features: tuple[str, ...]) -> Items:
    """The labelled items whose video has a row of some feature; the others are said."""
    labelled = store.items(label_set=config.label_set, split_set=config.split_set or None)
    having = {name: store.stored(name).have_rows(labelled.video_ids) for name in features}
    usable = np.any([*having.values()], axis=0)
    stored = store.with_rows(features)
    names = ", ".join(features)
    if not usable.any():
        raise MmfError(
            f"none of the {len(labelled)} labelled items has rows of {names}: the labels name "
            f"{some(i.video_id for i in labelled)}; the store has rows of "
            f"{_first(stored) or 'no video'}. Are the ids the same?"
        )
    if not usable.all():
        lost = labelled.take(np.flatnonzero(~usable))
        logger.warning(
            "%d of %d labelled items have no rows of %s and are left out: %s",
            *(len(lost), len(labelled), names, some(i.id for i in lost)),
        )
    unlabelled = stored.filter(pa.array(places(stored, distinct(labelled.video_ids)) < 0))
    if len(unlabelled):
        logger.warning(
            "%d videos have rows and no labels, and are not used: %s",
            *(len(unlabelled), _first(unlabelled)),
        )
    for name, here in having.items():
        if here.sum() < usable.sum():
            logger.warning("%d of %d items have %s; it is masked.", here.sum(), usable.sum(), name)
    return labelled if usable.all() else labelled.take(np.flatnonzero(usable))


def _first(ids: pa.ChunkedArray) -> str:
    return some(ids.slice(0, 4).to_pylist())


def _task(items: Items, classes: Sequence[str], asked: str) -> str:
    odd = (items.lengths("labels") != 1) | (items.lengths("unrated") > 0)
    odd = np.flatnonzero(odd | items.column("rated").is_valid().to_numpy())
    if asked == "multi" or (asked == "auto" and len(odd)):
        return "multi"
    if len(odd):
        raise MmfError(
            f"task 'single' needs exactly one label per item; {len(odd)} of {len(items)} have "
            f"none, several or unrated ones: {some(i.id for i in items.take(odd))}. "
            "Use --task multi."
        )
    if len(classes) < 2:
        raise MmfError(
            f"every item is of the one class {classes[0]!r}: there is nothing to tell apart. "
            "Label items of a second class, or items with none."
        )
    return "single"


def _check_split(split: str, part: Items | None, items: Items) -> None:
    if not part:
        videos = pc.count_distinct(items.video_ids).as_py()
        raise MmfError(
            f"split {split!r} is empty: {len(items)} labelled items of {videos} videos have rows. "
            "Label more videos, or split them yourself with `mmf split`."
        )
    if not part.lengths("labels").any():
        raise MmfError(
            f"split {split!r} has no positive label in its {len(part)} items; "
            "nothing can be learned or measured there."
        )


def _drawn(items: Items, number: int, seed: int) -> Items:
    """The items of so many training videos; more videos hold those of fewer, by the same seed."""
    there = pc.count_distinct(items.video_ids).as_py()
    if number > there:
        raise MmfError(
            f"train_videos = {number}: split 'train' has {there} videos with rows; expected at "
            "most as many."
        )
    drawn = some_videos(items, number, seed)
    _check_split("train", drawn, items)
    return drawn


def _warn_of_unseen(items: Items, classes: Sequence[str]) -> None:
    seen = set(pc.unique(pc.list_flatten(items.column("labels"))).to_pylist())
    unseen = [name for c, name in enumerate(classes) if c not in seen]
    if unseen:
        logger.warning(
            "%d of %d classes have no training item: %s", len(unseen), len(classes), some(unseen)
        )
