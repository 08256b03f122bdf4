"""What a run learns from: which features, items, splits, classes and task; said in full or refused.

Where the store has no split, one is made by videos: within each class they are ordered by a hash of
their ids and dealt out, so it depends on the ids and labels and on nothing else. It is saved with
the run.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mmf import MmfError
from mmf.fuse.config import TrainConfig
from mmf.store import FeatureSpec, FeatureStore, Item
from mmf.store.split import assign

logger = logging.getLogger(__name__)

SHARES = (0.7, 0.15, 0.15)  # of train, val and test where the store has no split
_ALIASES = {
    "training": "train",
    "valid": "val",
    "validate": "val",  # YouTube-8M's
    "validation": "val",
    "dev": "val",
    "testing": "test",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run learns from."""

    specs: dict[str, FeatureSpec]
    classes: tuple[str, ...]
    task: str  # single or multi
    loss: str  # ce or bce
    items: dict[str, list[Item]]  # of train and val
    assigned: dict[str, str]  # video → split, where it was decided here and not in the store

    def digest(self) -> str:
        """A hash of the items and their labels, by split."""
        lines = [
            f"{s} {i.id} {i.labels} {i.unrated}{'' if i.rated is None else f' of {i.rated}'}"
            for s, part in self.items.items()
            for i in part
        ]
        return hashlib.sha256("\n".join([*self.classes, *lines]).encode()).hexdigest()


def videos_digest(items: Iterable[Item]) -> str:
    """A hash of the videos that the items are of."""
    return hashlib.sha256("\n".join(sorted({i.video_id for i in items})).encode()).hexdigest()


def make_plan(store: FeatureStore, config: TrainConfig, assigned: Mapping[str, str]) -> Plan:
    """The plan of a run; `assigned` is the split that an earlier start of it has saved.

    Raises MmfError where there is nothing to learn from: no features, no labels, none of the
    labels' videos, an empty split, or one without a positive label.
    """
    specs = choose_features(store, config.features)
    classes = _classes(store, config.label_set)
    items = _usable(store, config, tuple(specs))
    task = _task(items, classes, config.task)
    assigned = dict(assigned) or _assign(items)
    parts = by_split(items, assigned)
    for split in ("train", "val"):
        _check_split(split, parts[split], items)
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
    specs = {name: store.stored(name).spec for name in names or sorted(store.features)}
    for name, spec in specs.items():
        if spec.dtype == "int32":
            others = [n for n, s in store.features.items() if s.dtype != "int32"]
            raise MmfError(
                f"feature {name!r} holds int32 token ids, which no fusion takes. "
                f"Choose others with --features: {', '.join(sorted(others)) or 'there are none'}."
            )
    return specs


def by_split(items: Iterable[Item], assigned: Mapping[str, str]) -> dict[str, list[Item]]:
    """The items of each split; what a run has assigned goes before what the store says."""
    parts: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        split = assigned.get(item.video_id, item.split)
        if split is not None:
            parts[split_name(split)].append(replace(item, split=split_name(split)))
    return parts


def split_name(split: str) -> str:
    """train, val or test for their usual other names; any other name as it is."""
    return _ALIASES.get(split.lower(), split)


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and that there are more."""
    names = list(names)
    return ", ".join(map(repr, names[:most])) + (", …" if len(names) > most else "")


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


def _usable(store: FeatureStore, config: TrainConfig, features: tuple[str, ...]) -> Sequence[Item]:
    """The labelled items whose video has a row of some feature; the others are said."""
    items_with = partial(
        store.items, label_set=config.label_set, split_set=config.split_set or None
    )
    labelled, items = items_with(), items_with(features=features)
    names = ", ".join(features)
    if not items:
        there = (i.video_id for i in store.all_items(features))
        raise MmfError(
            f"none of the {len(labelled)} labelled items has rows of {names}: the labels name "
            f"{some(i.video_id for i in labelled)}; the store has rows of "
            f"{some(there) or 'no video'}. Are the ids the same?"
        )
    if len(items) < len(labelled):
        kept = {i.id for i in items}
        lost = [i.id for i in labelled if i.id not in kept]
        logger.warning(
            "%d of %d labelled items have no rows of %s and are left out: %s",
            *(len(lost), len(labelled), names, some(lost)),
        )
    videos = {i.video_id for i in labelled}
    unlabelled = [i.video_id for i in store.all_items(features) if i.video_id not in videos]
    if unlabelled:
        logger.warning(
            "%d videos have rows and no labels, and are not used: %s",
            *(len(unlabelled), some(unlabelled)),
        )
    for feature in features:
        number = len(items_with(features=(feature,)))
        if number < len(items):
            logger.warning("%d of %d items have %s; it is masked.", number, len(items), feature)
    return items


def _task(items: Sequence[Item], classes: Sequence[str], asked: str) -> str:
    odd = [i.id for i in items if len(i.labels) != 1 or i.unrated or i.rated is not None]
    if asked == "multi" or (asked == "auto" and odd):
        return "multi"
    if odd:
        raise MmfError(
            f"task 'single' needs exactly one label per item; {len(odd)} of {len(items)} have "
            f"none, several or unrated ones: {some(odd)}. Use --task multi."
        )
    if len(classes) < 2:
        raise MmfError(
            f"every item is of the one class {classes[0]!r}: there is nothing to tell apart. "
            "Label items of a second class, or items with none."
        )
    return "single"


def _assign(items: Sequence[Item]) -> dict[str, str]:
    """Splits for videos that the store leaves open: all of them, or a validation part of train."""
    named = Counter(split_name(i.split) for i in items if i.split is not None)
    if not named:
        logger.warning(
            "the store has no split, so videos are split into train, val and test "
            "(70, 15 and 15 %) by a hash of their ids; `mmf split` makes your own"
        )
        return _deal(items, SHARES)
    if without := sum(i.split is None for i in items):
        logger.warning("%d of %d items are in no split and are not used", without, len(items))
    if "train" not in named:
        raise MmfError(f"no item is in split 'train'; the splits are {', '.join(sorted(named))}.")
    if "val" in named:
        return {}
    logger.warning(
        "the store has no val split, so 20 % of the training videos, "
        "chosen by a hash of their ids, serve for early stopping"
    )
    training = [i for i in items if i.split is not None and split_name(i.split) == "train"]
    return _deal(training, (0.8, 0.2))


def _deal(items: Sequence[Item], shares: Sequence[float]) -> dict[str, str]:
    """The videos of each class divided by these shares of train, val and test."""
    first = {i.video_id: i.labels[:1] for i in reversed(items)}
    return assign({v: v for v in first}, shares, strata={v: str(c) for v, c in first.items()})


def _check_split(split: str, part: Sequence[Item], items: Sequence[Item]) -> None:
    if not part:
        videos = len({i.video_id for i in items})
        raise MmfError(
            f"split {split!r} is empty: {len(items)} labelled items of {videos} videos have rows. "
            "Label more videos, or split them yourself with `mmf split`."
        )
    if not any(i.labels for i in part):
        raise MmfError(
            f"split {split!r} has no positive label in its {len(part)} items; "
            "nothing can be learned or measured there."
        )


def _warn_of_unseen(items: Sequence[Item], classes: Sequence[str]) -> None:
    seen = {label for item in items for label in item.labels}
    unseen = [name for c, name in enumerate(classes) if c not in seen]
    if unseen:
        logger.warning(
            "%d of %d classes have no training item: %s", len(unseen), len(classes), some(unseen)
        )
