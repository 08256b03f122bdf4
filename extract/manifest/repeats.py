"""Which rows of a manifest's table are of one video, and which say again what another has said.

Found by sorting the ids, not with a set of them: a list may be of millions.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError

SHOWN = 20  # offenders that an error lists
_AT_ONCE = 1 << 18  # ids that are copied at a time


def distinct(source: str, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(the row of each video's first item, the rows that repeat an item), both in order.

    Raises MmfError where one id has several files, or an interval is none.
    """
    starts, ends = (_seconds(table, name) for name in ("start", "end"))
    _check_intervals(source, starts, ends)
    ids = table["video_id"]
    none = np.empty(0, dtype=np.int32)
    if pc.all(pc.less(ids[:-1], ids[1:])).as_py() is not False:  # true or, of one row, null
        return np.arange(len(ids), dtype=np.int32), none
    ids = ids.combine_chunks()
    order = pc.sort_indices(ids).to_numpy().astype(np.int32)  # stable: rows of one id in order
    first = np.flatnonzero(_differs_from_last(ids, order))
    if len(first) == len(order):
        return np.arange(len(order), dtype=np.int32), none
    many = np.diff(first, append=len(order))  # rows of each id
    before, run = order[np.repeat(first, many)], np.repeat(np.arange(len(many)), many)
    _check_files(source, table, order[order != before], before[order != before])
    shared = many[run] > 1
    rows, keys = order[shared], (ends[order[shared]], starts[order[shared]], run[shared])
    by = np.lexsort(keys)  # stable, too
    again = np.all([_same(key[by[1:]], key[by[:-1]]) for key in keys], axis=0)
    return np.sort(order[first]), np.sort(rows[by[1:][again]])


def _differs_from_last(ids: pa.Array, order: np.ndarray) -> np.ndarray:
    """Whether each id, in this order, is another than the one before; bool."""
    fresh = np.ones(len(order), dtype=bool)
    for begin in range(1, len(order), _AT_ONCE):
        some = ids.take(pa.array(order[begin - 1 : begin + _AT_ONCE]))
        differs = pc.not_equal(some[1:], some[:-1])
        fresh[begin : begin + _AT_ONCE] = differs.to_numpy(zero_copy_only=False)
    return fresh


def _seconds(table: pa.Table, name: str) -> np.ndarray:
    """A column of seconds; NaN where there are none."""
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    return pc.fill_null(table[name], np.nan).to_numpy()


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one == other) | ((one != one) & (other != other))


def _check_intervals(source: str, starts: np.ndarray, ends: np.ndarray) -> None:
    none = np.isnan(starts) & np.isnan(ends)
    bad = np.flatnonzero(~none & ~(starts < ends))
    if not len(bad):
        return
    row = int(bad[0])
    start, end = (None if np.isnan(s[row]) else float(s[row]) for s in (starts, ends))
    raise MmfError(
        f"manifest {source!r}, row {row + 1}: the interval from {start} to {end} is none. "
        "Expected start < end, or neither for the whole file."
    )


def _check_files(source: str, table: pa.Table, rows: np.ndarray, before: np.ndarray) -> None:
    """`rows` and those `before` them have the same ids; are they of the same files, too?"""
    same = _equal(table["path"], rows, before)
    if "sha256" in table.column_names:  # where both have one, it says more than a path
        known = _equal(table["sha256"], rows, before)
        same = pc.coalesce(known, same)
    clashing = np.sort(rows[~same.to_numpy(zero_copy_only=False)])
    if not len(clashing):
        return
    names = pc.unique(table["video_id"].take(pa.array(clashing)))
    shown = ", ".join(map(repr, names.slice(0, SHOWN).to_pylist()))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise MmfError(
        f"manifest {source!r} gives several files to one video_id: {shown}{more}. "
        "Give each file an id of its own."
    )


def _equal(column: pa.ChunkedArray, rows: np.ndarray, others: np.ndarray) -> pa.ChunkedArray:
    return pc.equal(column.take(pa.array(rows)), column.take(pa.array(others)))
