"""What is measured of the items: they themselves, or their rows, their views, or whole videos.

item    as it is labelled: a whole video, or an interval of one
row     every stored row by itself, as an item of one row, against the labels of its item; row k of
        one feature stands with row k of the others, which must come as often
view    the views of a video by themselves, and the mean of the scores of those chosen. A feature
        extracted with views N_t × N_s has so many rows: row ``t N_s + s`` is crop s of clip t.
        Features that have no views stand whole beside each one
video   the mean of the scores of a video's items, against the union of their labels; a class is
        rated where it is positive in one item or rated in all

Scores are probabilities, by softmax or sigmoid, and it is they that are averaged (Feichtenhofer et
al., SlowFast, ICCV 2019, and its code sum the softmax of views), never features or logits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter

import numpy as np
import torch

from mmf import MmfError, unknown
from mmf.fuse.data import with_rows
from mmf.fuse.evaluation.subject import Subject
from mmf.fuse.inference.ensemble import Ensemble
from mmf.fuse.inference.scoring import Scored, exact, logits, parts, score
from mmf.fuse.losses import of_mean
from mmf.fuse.network import Network
from mmf.store import Batch, FeatureSpec, Item
from mmf.store.items import Items

LEVELS = ("item", "row", "view", "video")

_ROWS = 256  # of one forward pass
_VIDEOS = 64  # that are given at once


def scored(subject: Subject, level: str = "item", views: Sequence[int] = ()) -> Iterator[Scored]:
    """The scores of a subject at a level, some at a time; of these views only, none being all.

    `Scored.logits` are those whose probabilities are the mean. Raises MmfError where the run's
    features or its head have no such level.
    """
    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    if views and level != "view":
        raise MmfError(f"views are of the level 'view'; this is {level!r}. Leave one of them.")
    if level in ("item", "video"):
        found = _of_items(subject)
        return found if level == "item" else _of_videos(found, subject.run.loss)
    if isinstance(subject.network, Ensemble):
        raise MmfError(
            f"level {level!r} takes an item apart, and runs are averaged item by item. Measure "
            "them by item or by video, or one run by itself."
        )
    if subject.network.by_video:
        raise MmfError(
            f"run {str(subject.run.path)!r} reads the items of a video in their order, so none of "
            f"their {level}s can stand alone. Measure it by item or by video."
        )
    if level == "row":
        return _of_rows(subject, subject.network)
    return _of_views(subject, subject.network, views)


def _of_items(subject: Subject) -> Iterator[Scored]:
    network, store, items = subject.network, subject.store, subject.items
    if isinstance(network, Ensemble):
        return network.score(store, items, label_set=subject.label_set)
    config, label_set = subject.run.config, subject.label_set
    return score(network, store, items, subject.specs, config, label_set=label_set)


def _of_rows(subject: Subject, network: Network) -> Iterator[Scored]:
    specs = subject.specs
    rates = {spec.rate for spec in specs.values()}
    if len(rates) > 1:
        each = ", ".join(f"{n} {s.rate or 'irregular'}" for n, s in specs.items())
        raise MmfError(
            f"the rows of the run's features do not come at one rate ({each}, in rows per second), "
            "so they cannot stand one by one. Measure by item, or leave features out (--without)."
        )
    network = exact(network)
    for batch in _batches(subject, max_steps=None):
        counts = np.max([batch.lengths[name] for name in specs], axis=0)
        items = np.repeat(np.arange(len(batch)), counts)
        row = np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)
        for start in range(0, len(items), _ROWS):
            at = slice(start, start + _ROWS)
            part = _part(batch, items[at], dict.fromkeys(specs, row[at]))
            yield _scored(part, logits(network, part, specs))
        if len(none := np.flatnonzero(counts == 0)):
            part = _part(batch, none, {})
            yield _scored(part, np.zeros((len(none), len(subject.run.classes))))


def _of_views(subject: Subject, network: Network, views: Sequence[int]) -> Iterator[Scored]:
    specs, number = subject.specs, _number_of_views(subject)
    chosen = list(views) or list(range(number))
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(number)):
        raise MmfError(
            f"views {', '.join(map(str, chosen))}: expected numbers from 0 to {number - 1}, each "
            "once."
        )
    having = [name for name, spec in specs.items() if _views(spec)]
    network = exact(network)
    for batch in _batches(subject, max_steps=subject.run.config.max_steps):
        for name in having:
            _check_views(batch, name, number)
        every = np.arange(len(batch))
        each = []
        for view in chosen:
            part = _part(batch, every, dict.fromkeys(having, np.full(len(batch), view)))
            each.append(logits(network, part, specs))
        mean = of_mean(torch.from_numpy(np.stack(each)), subject.run.loss)
        yield _scored(batch, mean.numpy())


def _number_of_views(subject: Subject) -> int:
    numbers = {name: n for name, spec in subject.specs.items() if (n := _views(spec))}
    if not numbers:
        raise MmfError(
            f"none of the features {', '.join(subject.specs)} is of views. Extract one with "
            "--views 10x3, or measure by row."
        )
    if len(set(numbers.values())) > 1:
        each = ", ".join(f"{name} {n}" for name, n in numbers.items())
        raise MmfError(f"the features differ in their views ({each}); measure by item.")
    return next(iter(numbers.values()))


def _views(spec: FeatureSpec) -> int:
    """How many rows are the views of a video, by the feature's recipe; 0 where they are not."""
    signal = spec.recipe.get("signal")
    if not isinstance(signal, Mapping):
        return 0
    return int(signal.get("views", 0)) * int(signal.get("crops", 1))


def _check_views(batch: Batch, name: str, number: int) -> None:
    lengths = batch.lengths[name]
    odd = np.flatnonzero((lengths > 0) & (lengths != number))
    if len(odd):
        raise MmfError(
            f"item {batch.items[int(odd[0])].id!r} has {lengths[odd[0]]} rows of {name!r}; "
            f"expected its {number} views. Views are of whole videos: is it an interval?"
        )


def _batches(subject: Subject, *, max_steps: int | None) -> Iterator[Batch]:
    columns, names = Items.of(subject.items), tuple(subject.specs)
    for at in parts(columns, by_video=False):
        yield subject.store.batch(
            columns.take(at), names, label_set=subject.label_set, max_steps=max_steps
        )


def _part(batch: Batch, items: np.ndarray, rows: Mapping[str, np.ndarray]) -> Batch:
    """These items of a batch, with one row each of the features in `rows`, all of the others."""
    values, lengths = {}, {}
    for name, every in batch.values.items():
        if name in rows:
            there = rows[name] < batch.lengths[name][items]
            values[name] = every[items, np.where(there, rows[name], 0)][:, None]
            lengths[name] = there.astype(np.int32)
        else:
            values[name], lengths[name] = every[items], batch.lengths[name][items]
    return Batch(
        items=Items.of(batch.items).take(items),
        values=values,
        lengths=lengths,
        labels=batch.labels[items],
        rated=batch.rated[items],
    )


def _scored(batch: Batch, found: np.ndarray) -> Scored:
    return Scored(
        items=batch.items,
        logits=found,
        labels=batch.labels,
        rated=batch.rated,
        there=with_rows(batch),
    )


def _of_videos(found: Iterable[Scored], loss: str) -> Iterator[Scored]:
    """The items of each video as one; they stand together."""
    items = (
        (video, part, i)
        for part in found
        for i, video in enumerate(Items.of(part.items).video_ids.to_pylist())
    )
    videos = ((video, [*its]) for video, its in groupby(items, itemgetter(0)))
    while some := list(islice(videos, _VIDEOS)):
        pooled = [_pooled([(part, i) for _, part, i in its], loss) for _, its in some]
        means, labels, rated, there = (np.stack(c) for c in zip(*pooled, strict=True))
        yield Scored(
            items=[Item(video_id=video) for video, _ in some],
            logits=means,
            labels=labels,
            rated=rated,
            there=there,
        )


def _pooled(items: Sequence[tuple[Scored, int]], loss: str) -> tuple[np.ndarray, ...]:
    """Logits, labels, rated and there of one video, from the items that have rows."""
    having = [(part, i) for part, i in items if part.there[i]]
    given = [(part.logits[i], part.labels[i], part.rated[i]) for part, i in having or items[:1]]
    each, labels, rated = (np.stack(column) for column in zip(*given, strict=True))
    positive = (labels * rated).max(0)
    mean = of_mean(torch.from_numpy(each)[:, None], loss)[0].numpy()
    return mean, positive, rated.all(0) | (positive > 0), np.array(bool(having))
