"""What a run, or several, say of items: a table of the best classes of each, part by part."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
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
    """The same of several runs and of items that come in parts, some thousand rows at a time."""
    if top is not None and top < 1:
        raise MmfError(f"top = {top}: expected at least 1 class.")
    classes = pa.array(ensemble.classes, pa.string())
    reason = f"no rows of {', '.join(ensemble.specs)}"
    ready, rows = [SCHEMA.empty_table()], 0
    for part in items:
        for scored in ensemble.score(store, part):
            ready.append(_table(scored, scored.scores(ensemble.loss), classes, top, reason))
            rows += len(scored.items)
            if rows >= _ROWS:
                yield pa.concat_tables(ready).combine_chunks()
                ready, rows = [], 0
    if ready:
        yield pa.concat_tables(ready).combine_chunks()


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
    videos = store.videos()["video_id"]
    if labelled is not None:
        videos = videos.filter(pc.invert(pc.is_in(videos, pc.unique(labelled.video_ids))))
    parts = [] if labelled is None else [labelled.table]
    items = Items(pa.concat_tables([*parts, Items.of_videos(videos).table]))
    if not len(items):
        raise MmfError(f"store {str(store.path)!r} has no videos.")
    return items


def _table(
    part: Scored, scores: np.ndarray, classes: pa.Array, top: int | None, reason: str
) -> pa.Table:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    there, none = part.there, pa.array(~part.there)
    offsets = np.concatenate([[0], np.cumsum(there * best.shape[1])]).astype(np.int32)
    best, values = best[there], np.take_along_axis(scores, best, 1)[there]
    columns = Items.of(part.items)
    whole = columns.column("start").combine_chunks()
    ids = [item.id for item in part.items] if whole.null_count < len(whole) else columns.video_ids
    return pa.table(
        {
            "item": ids,
            "video_id": columns.video_ids,
            "start": columns.column("start"),
            "end": columns.column("end"),
            "classes": pa.ListArray.from_arrays(offsets, classes.take(best.ravel()), mask=none),
            "scores": pa.ListArray.from_arrays(offsets, values.ravel(), mask=none),
            "reason": pc.if_else(none, reason, None),
        },
        schema=SCHEMA,
    )
