"""Windows of videos: intervals of one length, from the start of each to its end."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store import FeatureStore
from mmf.store.items import Items

_VIDEOS = 64  # of a part


def windows(
    store: FeatureStore,
    features: Sequence[str],
    videos: pa.ChunkedArray,
    *,
    window: float,
    hop: float | None = None,
) -> Iterator[Items]:
    """[0, window), [hop, hop + window), … in seconds, of each video as far as it has rows.

    The last one may reach beyond the last row, as YouTube-8M's segments do; a video without rows is
    there as a whole. `hop` is `window` where none is given. Some dozens of videos at a time.
    """
    hop = window if hop is None else hop
    for name, value in (("window", window), ("hop", hop)):
        if not (value > 0 and np.isfinite(value)):
            raise MmfError(f"{name} = {value:g}: expected seconds, more than 0.")
    videos = pc.unique(videos)
    for first in range(0, len(videos), _VIDEOS):
        ids = videos[first : first + _VIDEOS]
        ends = _ends(store, [name for name in features if name in store.features], ids)
        counts = np.ceil(ends / hop - 1e-9).astype(np.int64)
        each = np.maximum(counts, 1)
        number = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        starts, whole = number * hop, np.repeat(counts == 0, each)
        table = Items.of_videos(ids.take(pa.array(np.repeat(np.arange(len(ids)), each)))).table
        for column, values in (("start", starts), ("end", starts + window)):
            at = table.schema.get_field_index(column)
            table = table.set_column(at, column, pa.array(values, pa.float64(), mask=whole))
        yield Items(table)


def _ends(store: FeatureStore, features: Sequence[str], videos: pa.Array) -> np.ndarray:
    """Seconds up to which each video has rows of any of the features; 0 without any."""
    ends = np.zeros(len(videos))
    for name in features:
        feature = store.stored(name)
        # a row stands for the time up to the next; without a rate, for a moment
        lasts = 1 / feature.spec.rate if feature.spec.rate else 1e-6
        for i, position in enumerate(feature.positions(videos).tolist()):
            if position >= 0 and feature.rows[position]:
                ends[i] = max(ends[i], float(feature.times(position)[-1]) + lasts)
    return ends
