"""Which outcome of a video stands, where several were committed.

Among the rows of one (array, video) done stands before skipped before failed, then more attempts
before fewer, then the lowest key of a record. So the order in which records arrive does not matter.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

RANKED = ["done", "skipped", "failed"]  # what stands before what
_FEW = 100_000  # rows that are sorted in a moment


def ranks(outcomes: pa.Table) -> np.ndarray:
    """How good each outcome is, the lowest the best: its place in RANKED."""
    return pc.index_in(outcomes["status"], pa.array(RANKED)).to_numpy(zero_copy_only=False)


def resolve(table: pa.Table, records: Sequence[str]) -> pa.Table:
    """Of the rows of one array, the one that stands for each video, in the order of the ids."""
    key_rank = np.argsort(np.argsort(np.array(records or [""])))[table["record"].to_numpy()]
    table = table.append_column("_rank", pa.array(ranks(table)))
    table = table.append_column("_key", pa.array(key_rank))
    order = [
        ("video_id", "ascending"),
        ("_rank", "ascending"),
        ("attempts", "descending"),
        ("_key", "ascending"),
    ]
    table = table.sort_by(order).drop_columns(["_rank", "_key"]).combine_chunks()
    ids = table["video_id"]
    if len(table) > 1:
        first = np.ones(len(table), dtype=bool)
        same = pc.equal(ids.slice(1), ids.slice(0, len(table) - 1))
        first[1:] = ~same.to_numpy(zero_copy_only=False)
        table = table.filter(pa.array(first))
    return table.combine_chunks()


def merge(old: pa.Table | None, fresh: pa.Table, records: Sequence[str]) -> pa.Table:
    """Both resolved: one table of what stands; a few rows among many copy none of the many."""
    if old is None or not len(old):
        return fresh
    if len(fresh) * 8 > len(old) or len(old) < _FEW:
        return resolve(pa.concat_tables([old, fresh]), records)
    places = pc.search_sorted(old["video_id"], fresh["video_id"]).to_numpy(zero_copy_only=False)
    there = pc.take(old["video_id"], np.minimum(places, len(old) - 1))
    found = pc.equal(there, fresh["video_id"]).to_numpy(zero_copy_only=False)
    parts, at = [], 0
    for i, (place, doubled) in enumerate(zip(places.tolist(), found.tolist(), strict=True)):
        parts.append(old.slice(at, place - at))
        both = [fresh.slice(i, 1), *([old.slice(place, 1)] if doubled else ())]
        parts.append(min(both, key=lambda row: _standing(row, records)))
        at = place + doubled
    parts = [p for p in [*parts, old.slice(at)] if len(p)]
    return pa.concat_tables(parts)


def _standing(row: pa.Table, records: Sequence[str]) -> tuple[int, int, str]:
    """The lowest stands."""
    status, attempts, record = (row[c][0].as_py() for c in ("status", "attempts", "record"))
    return RANKED.index(status), -attempts, records[record]
