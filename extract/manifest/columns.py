"""The columns of a manifest: whatever its file holds → the types that a job reads.

A list may be of millions of videos. What is as it should be stays as it is; the rest goes value by
value, a piece at a time, so that a column is never a list of Python's objects.
"""

import json
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError

AT_ONCE = 1 << 16  # values that are objects at a time
# of a path: what joining and normalising may change, and what is not plain ASCII
_ODD_PATH = r"[^\x01-\x7f]|//|(^|/)\.{1,2}(/|$)|/$|^$"
_PATHS = ("path", "captions")


def converted(source: str, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column `name` of the manifest `source` in its type; MmfError says where it cannot be.

    Paths become those from here; a path is bytes, as the system has it.
    """
    convert, kind, expected = COLUMNS[name]
    folder = os.path.dirname(source)
    if _IS_READY.get(name, _never)(column):
        return column
    if name in _PATHS:
        if _is_text(column) and folder.isascii() and (name == "captions" or _has_all(column)):
            return _joined_column(folder, column, kind)
        convert = partial(_joined_value, folder, convert, kind)
    pieces = []
    for begin in range(0, len(column), AT_ONCE):
        values = column.slice(begin, AT_ONCE).to_pylist()
        for row, value in enumerate(values):
            try:
                values[row] = convert(value)
            except (ValueError, TypeError, OverflowError) as error:
                raise MmfError(
                    f"manifest {source!r}, row {begin + row + 1}, column {name!r}: {value!r}; "
                    f"expected {expected}."
                ) from error
        pieces.append(pa.array(values, kind))
    return pa.chunked_array(pieces, kind)


def described(table: pa.Table) -> pa.Table:
    """The ids of a manifest's table, and the columns of its owner's own as texts.

    Lists and bytes are left out.
    """
    kinds = {n: table.schema.field(n).type for n in table.column_names if n not in COLUMNS}
    kept = [n for n, kind in kinds.items() if not (_is_list(kind) or _is_bytes(kind))]
    texts = [_texts(table[name]) for name in kept]
    return pa.table([table["video_id"], *texts], names=["video_id", *kept])


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if _is_text(column):
        return column
    pieces = []
    for begin in range(0, len(column), AT_ONCE):
        values = column.slice(begin, AT_ONCE).to_pylist()
        texts = [None if value is None else str(value) for value in values]
        pieces.append(pa.array(texts, pa.string()))
    return pa.chunked_array(pieces, pa.string())


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind) and not pa.types.is_struct(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _name(value: Any) -> str:
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else _text(value)
    if text is None:
        raise ValueError
    return text


def _seconds(value: Any) -> float | None:
    if value is None or value == "":
        return None
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError
    return seconds


def _bytes(value: Any) -> int | None:
    if value is None or value == "":
        return None
    if int(value) < 0 or int(value) != float(value):
        raise ValueError
    return int(value)


def _digest(value: Any) -> str | None:
    text = _text(value)
    if text is not None and (len(text) != 64 or int(text, 16) < 0):
        raise ValueError
    return text and text.lower()


def _labels(value: Any) -> list[str] | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if value.startswith("["):
            value = json.loads(value)
        else:
            value = value.split(";")
    values = value if isinstance(value, list) else [value]
    return [str(label).strip() for label in values if str(label).strip()]


# what a column may hold, as an error says it
COLUMNS: dict[str, tuple[Callable[[Any], Any], pa.DataType, str]] = {
    "video_id": (_name, pa.string(), "an id that is not empty"),
    "path": (_name, pa.binary(), "a path that is not empty"),
    "captions": (_text, pa.string(), "a path"),
    "start": (_seconds, pa.float64(), "seconds"),
    "end": (_seconds, pa.float64(), "seconds"),
    "labels": (_labels, pa.list_(pa.string()), "labels separated by ';'"),
    "split": (_text, pa.string(), "the name of a split"),
    "size": (_bytes, pa.int64(), "a number of bytes"),
    "sha256": (_digest, pa.string(), "64 hexadecimal digits"),
}


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(column.type == pa.string())


def _no_empty(column: pa.ChunkedArray) -> bool:
    return _is_text(column) and pc.min(pc.binary_length(column)).as_py() != 0


def _has_all(column: pa.ChunkedArray) -> bool:
    return column.null_count == 0 and _no_empty(column)


def _all_finite(column: pa.ChunkedArray) -> bool:
    return column.type == pa.float64() and pc.all(pc.is_finite(column)).as_py() is not False


def _no_negative(column: pa.ChunkedArray) -> bool:
    return column.type == pa.int64() and pc.all(pc.greater_equal(column, 0)).as_py() is not False


def _never(column: pa.ChunkedArray) -> bool:
    return False


_IS_READY: dict[str, Callable[[pa.ChunkedArray], bool]] = {
    "video_id": _has_all,
    "split": _no_empty,
    "start": _all_finite,
    "end": _all_finite,
    "size": _no_negative,
}


def _joined_column(folder: str, column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Plain paths by columns, the others one by one."""
    pieces = []
    for begin in range(0, len(column), AT_ONCE):
        for piece in column.slice(begin, AT_ONCE).chunks:
            pieces.append(_joined_piece(folder, piece, kind))
    return pa.chunked_array(pieces, kind)


def _joined_piece(folder: str, piece: pa.Array, kind: pa.DataType) -> pa.Array:
    odd, absolute = pc.match_substring_regex(piece, _ODD_PATH), pc.starts_with(piece, "/")
    if not pc.any(odd).as_py() and pc.all(absolute).as_py():
        return piece.cast(kind)  # the very bytes, without a copy
    normal = os.path.normpath(folder)
    before = "" if normal == "." else os.path.join(normal, "")
    joined = pc.if_else(absolute, piece, pc.binary_join_element_wise(before, piece, "")).cast(kind)
    one = partial(_joined_value, folder, _text, kind)
    by_hand = pa.array([one(path) for path in piece.filter(odd).to_pylist()], kind)
    return pc.replace_with_mask(joined, odd, by_hand)


def _joined_value(
    folder: str, convert: Callable[[Any], str | None], kind: pa.DataType, value: Any
) -> str | bytes | None:
    path = convert(value)
    if path is None:
        return None
    path = _joined(folder, path)
    return os.fsencode(path) if kind == pa.binary() else path


def _joined(folder: str, path: str) -> str:
    if "://" in path:  # a URL, to be fetched
        return path
    return os.path.normpath(os.path.join(folder, path))
