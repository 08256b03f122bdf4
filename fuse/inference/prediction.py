"""What a run, or several, say of items: a table of the best classes of each, part by part."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.fuse.evaluation.thresholds import FILE, thresholds
from mmf.fuse.inference.ensemble import Ensemble
from mmf.fuse.inference.scoring import Scored
from mmf.fuse.run import Run
from mmf.fuse.splits import by_split, split_name
from mmf.store import FeatureStore
from mmf.store.items import Items

SCHEMA = pa.schema(
    [
        ("item", pa.string()),  # video_id, or video_id@start-end
        ("video_id", pa.string()),
        ("start", pa.float64()),  # seconds; null: the whole video
        ("end", pa.float64()),
        ("classes", pa.list_(pa.string())),  # best first; null where there is no prediction
        ("scores", pa.list_(pa.float32())),  # their probabilities
        ("reason", pa.string()),  # why there is no prediction; null where there is one
    ]
)
ABOVE = pa.field("above", pa.list_(pa.bool_()))  # where the run has thresholds: is it reached?
_ROWS = 4096  # of a part


def predict(
    run: str | Path,
    store: str | Path,
    split: str | None = None,
    *,
    top: int | None = 20,
    device: str = "auto",
) -> pa.Table:
    """The run's predictions, a row per item (`SCHEMA`), with the `top` classes of each (None: all).

    The items are those of a split; without one, every labelled item and every video that has no
    label. An item without a row of any of the run's features has a reason and no scores.
    """
    ensemble, place = Ensemble([run], device=device), FeatureStore(store)
    items = items_of(place, ensemble.runs[0], split)
    return pa.concat_tables(predictions(ensemble, place, [items], top=top))


def predictions(
    ensemble: Ensemble, store: FeatureStore, items: Iterable[Items], *, top: int | None = 20
) -> Iterator[pa.Table]:
    """The same of several runs and of items that come in parts, some thousand rows at a time.

    With thresholds (`thresholds_of`) there is a column more, `ABOVE`, beside classes and scores.
    """
    scored = (one for part in items for one in ensemble.score(store, part))
    return tables(ensemble, scored, top=top)


def tables(
    ensemble: Ensemble, scored: Iterable[Scored], *, top: int | None = 20
) -> Iterator[pa.Table]:
    """The predictions that these scores are."""
    if top is not None and top < 1:
        raise MmfError(f"top = {top}: expected at least 1 class.")
    reason, least = f"no rows of {', '.join(ensemble.specs)}", thresholds_of(ensemble)
    schema = SCHEMA if least is None else SCHEMA.append(ABOVE)
    ready, rows = [schema.empty_table()], 0
    for one in scored:
        columns = _of_items(one, reason) | _best(one, ensemble, top, least)
        ready.append(pa.table(columns, schema=schema))
        rows += len(one.items)
        if rows >= _ROWS:
            yield pa.concat_tables(ready).combine_chunks()
            ready, rows = [], 0
    if ready:
        yield pa.concat_tables(ready).combine_chunks()


def thresholds_of(ensemble: Ensemble) -> np.ndarray | None:
    """Float32 (C,): where each class is said, by the thresholds kept in the run; inf: nowhere.

    None where none were chosen, and for several runs, whose mean is of another scale.
    """
    if len(ensemble.runs) > 1 or not (ensemble.runs[0].path / FILE).exists():
        return None
    kept = thresholds(ensemble.runs[0].path)
    found = [kept[name] for name in ensemble.classes]
    return np.array([np.inf if t is None else t for t in found], dtype=np.float32)


def items_of(store: FeatureStore, run: Run, split: str | None) -> Items:
    """The items of a split; or every labelled item, and every video that has no label."""
    labelled: Items | None = None
    if run.config.label_set in store.label_sets:
        labelled = store.items(
            label_set=run.config.label_set, split_set=run.config.split_set or None
        )
    if split is not None:
        found = {} if labelled is None else by_split(labelled, run.assigned)
        if split_name(split) not in found:
            there = ", ".join(sorted(found)) or "none"
            raise MmfError(f"split {split!r} has no item; splits: {there}.")
        return found[split_name(split)]
    videos = _videos(store)
    if labelled is not None:
        videos = videos.filter(pc.invert(pc.is_in(videos, pc.unique(labelled.video_ids))))
    parts = [] if labelled is None else [labelled.table]
    items = Items(pa.concat_tables([*parts, Items.of_videos(videos).table]))
    if not len(items):
        raise MmfError(f"store {str(store.path)!r} has no videos.")
    return items


def _videos(store: FeatureStore) -> pa.Array:
    """The ids of `store.videos()`, without what else that table says of each."""
    known = [store.catalog.videos()["video_id"]]
    known += [store.stored(name).outcomes["video_id"] for name in store.features]
    if "default" in store.label_sets:
        known.append(store.catalog.labels("default")[0]["video_id"])
    split = pa.array([*store.catalog.splits("default")], pa.string())
    return pc.unique(pa.chunked_array([split, *(c for ids in known for c in ids.chunks)])).sort()


def _of_items(part: Scored, reason: str) -> dict[str, Any]:
    """The columns that say which items they are, and why there is no prediction."""
    items = Items.of(part.items)
    starts = items.column("start")
    whole = starts.null_count == len(starts)
    return {
        "item": items.video_ids if whole else [item.id for item in part.items],
        "video_id": items.video_ids,
        "start": starts,
        "end": items.column("end"),
        "reason": pc.if_else(pa.array(part.there), None, reason),
    }


def _best(
    part: Scored, ensemble: Ensemble, top: int | None, least: np.ndarray | None
) -> dict[str, pa.ListArray]:
    """The columns of the best classes of each item; null where it has no row."""
    there, scores = part.there, part.scores(ensemble.loss)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    values = np.take_along_axis(scores, order, 1)
    offsets = np.concatenate([[0], np.cumsum(there * order.shape[1])]).astype(np.int32)

    def lists(flat: pa.Array) -> pa.ListArray:
        return pa.ListArray.from_arrays(offsets, flat, mask=pa.array(~there))

    names = pa.array(ensemble.classes, pa.string())
    columns = {
        "classes": lists(names.take(pa.array(order[there].ravel()))),
        "scores": lists(pa.array(values[there].ravel())),
    }
    if least is not None:
        columns["above"] = lists(pa.array((values >= least[order])[there].ravel()))
    return columns
