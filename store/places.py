"""Where videos stand in a column of ids, of millions too."""

from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Ids: TypeAlias = pa.Array | pa.ChunkedArray


def places(video_ids: Ids, ordered: Ids) -> np.ndarray:
    """Where each of these videos stands in `ordered` distinct ids, int64; -1 where it does not."""
    if not len(ordered):
        return np.full(len(video_ids), -1, dtype=np.int64)
    if _column(video_ids).equals(_column(ordered)):  # a hundred times as fast as to search
        return np.arange(len(video_ids))
    found = pc.search_sorted(ordered, video_ids).to_numpy(zero_copy_only=False).astype(np.int64)
    np.minimum(found, len(ordered) - 1, out=found)
    same = pc.equal(pc.take(ordered, found), video_ids).to_numpy(zero_copy_only=False)
    return np.where(same, found, -1)


def at_places(values: Ids, at: np.ndarray) -> Ids:
    """The values at these places; null where a place is -1."""
    return pc.take(values, pa.array(at, mask=at < 0))


def firsts(ordered: Ids) -> np.ndarray:
    """Where each video first stands in `ordered` ids, int64."""
    ids = _column(ordered)
    fresh = pc.not_equal(ids[1:], ids[:-1]).to_numpy()
    return np.flatnonzero(np.concatenate([np.ones(min(len(ids), 1), dtype=bool), fresh]))


def distinct(video_ids: Ids) -> pa.ChunkedArray:
    """Each of these videos once, in order."""
    ids = _column(video_ids)
    if pc.all(pc.less(ids[:-1], ids[1:])).as_py() is not False:  # true or, of one at most, null
        return ids
    return pa.chunked_array([pc.unique(ids).sort()])


def _column(ids: Ids) -> pa.ChunkedArray:
    return ids if isinstance(ids, pa.ChunkedArray) else pa.chunked_array([ids])
