"""Check every byte that was committed against what was committed."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from mmf import MmfError
from mmf.store import denied, head, layout, log, records
from mmf.store import snapshot as snapshots
from mmf.store.files import Files, current, digest, json_bytes, open_files, read_sealed
from mmf.store.rows import Rows


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is not as it was committed."""

    path: str  # of the file, below the store
    what: str


def verify(path: str | Path | Files) -> list[Problem]:
    """Problems of the store at `path`, none where it is whole.

    Files are compared with their digests; rows with the crc32c of their video; the metadata that
    other tools read with what the log says.
    """
    files = open_files(path)
    files.sync(afresh=True)
    problems = [*_fixed_files(files), *_sealed_json(files), *_named_by_digest(files)]
    problems += _missing(files)
    if problems:
        return problems  # what is damaged cannot say what else there should be
    return [*_committed(files), *_metadata(files)]


def _fixed_files(files: Files) -> Iterator[Problem]:
    expected = {"mmf.json": json_bytes(layout.FORMAT)}
    expected[f"{layout.GROUP}/zarr.json"] = layout.group_json()
    for name, data in expected.items():
        if not (files.root / name).is_file():
            yield Problem(path=name, what="is missing")
        elif (files.root / name).read_bytes() != data:
            yield Problem(path=name, what="has changed")


def _sealed_json(files: Files) -> Iterator[Problem]:
    kinds = (
        *("features/*/*.json", "catalog/*/*/*.json", "index/*.json"),
        *("denied/*.json", "snapshots/*.json", "canary/*/*.json", head.FILE),
    )
    for path in sorted(p for kind in kinds for p in files.root.glob(kind)):
        try:
            value = read_sealed(path)
        except MmfError:
            yield Problem(path=str(path.relative_to(files.root)), what="has changed")
            continue
        if "file" in value and path == max(path.parent.glob("*.json")):
            table = path.with_name(value["file"])
            if not table.is_file():
                yield Problem(path=str(table.relative_to(files.root)), what="is missing")


def _named_by_digest(files: Files) -> Iterator[Problem]:
    kinds = ("log/*", "catalog/*/*/*.parquet", "index/*.arrow")
    for path in sorted(p for kind in kinds for p in files.root.glob(kind)):
        if path.stem.split(".")[-1] != digest(path.read_bytes()):
            yield Problem(path=str(path.relative_to(files.root)), what="has changed")


def _missing(files: Files) -> Iterator[Problem]:
    """Files that the head, another record or a snapshot names, and that are not there."""
    newest, named = _head(files), set[str]()
    there = {p.name for p in (files.root / "log").glob("*.parquet")}
    if newest is None:
        if there or any(head.folders(files)):
            yield Problem(path=head.FILE, what="is missing")
        newest = head.Head()
    for name in sorted(there):
        with suppress(MmfError):  # its digest tells already
            named.update(records.seen_by(records.read_record(files.root / "log" / name)))
    named.update(newest.records)
    named -= newest.gone
    for folder, last in newest.versions.items():
        numbers = [last] if folder == denied.FOLDER else range(1, last + 1)
        names = {p.stem for p in (files.root / folder).glob("*.json")}
        missing = [n for n in numbers if f"{n:06d}" not in names]
        yield from (Problem(path=f"{folder}/{n:06d}.json", what="is missing") for n in missing)
    for snapshot in sorted(newest.snapshots.union(snapshots.listed(files))):
        path = files.root / snapshots.FOLDER / f"{snapshot}.json"
        if not path.is_file():
            yield Problem(path=str(path.relative_to(files.root)), what="is missing")
            continue
        with suppress(MmfError):
            value = read_sealed(path)
            named.update(value["records"])
            tables = [f"catalog/{n}/{t['file']}" for n, t in value["catalog"].items()]
            for table in tables:
                if not (files.root / table).is_file():
                    yield Problem(path=table, what=f"is missing; snapshot {snapshot} names it")
    yield from (Problem(path=f"log/{name}", what="is missing") for name in sorted(named - there))


def _head(files: Files) -> head.Head | None:
    """The head; None where there is none. Where it is damaged it names nothing."""
    if not (files.root / head.FILE).is_file():
        return None
    try:
        return head.read(files)
    except MmfError:
        return head.Head()


def _committed(files: Files) -> Iterator[Problem]:
    """Each record's shards, and then its rows, while the shards' bytes are at hand."""
    arrays: dict[str, Rows] = {}
    for record in sorted((files.root / "log").glob("*.parquet")):
        table = records.read_record(record)
        for shard in records.shards_of(table):
            name = f"{layout.GROUP}/{shard.name}"
            if not files.has(files.root / name):
                yield Problem(path=name, what=f"is missing; {record.name} names it")
            elif files.crc32c(files.root / name) != shard.crc32c:
                yield Problem(path=name, what="has changed")
        for row in table.drop_columns(["times"]).to_pylist():
            if row["status"] == "done":
                yield from _video(files, arrays, row)


def _video(files: Files, arrays: dict[str, Rows], row: Mapping[str, Any]) -> Iterator[Problem]:
    array, video = row["array"], row["video_id"]
    path = f"{layout.GROUP}/{array}"
    try:
        spec, geometry = layout.describe(files, array)
        if array not in arrays:
            arrays[array] = Rows(files, array, spec, geometry)
        values = np.empty((row["rows"], *spec.shape), np.dtype(spec.dtype).newbyteorder("<"))
        arrays[array].read([row["slot"], *(row["more_slots"] or ())], row["start"], values)
    except (MmfError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        yield Problem(path=path, what=f"video {video!r} cannot be read: {error}")
        return
    if int(google_crc32c.value(values)) != row["crc32c"]:
        yield Problem(path=path, what=f"the rows of video {video!r} have changed")


def _metadata(files: Files) -> Iterator[Problem]:
    committed = log.Log(files)
    standing = (current(p)[1] for p in sorted((files.root / "features").iterdir()))
    arrays = {value["array"] for value in standing if value is not None}
    for array in sorted(arrays.union(committed.arrays)):
        path = files.root / layout.GROUP / array / "zarr.json"
        name = str(path.relative_to(files.root))
        if not path.is_file():
            yield Problem(path=name, what="is missing")
            continue
        try:
            spec, geometry = layout.describe(files, array)
        except (MmfError, ValueError, KeyError, TypeError, IndexError):
            yield Problem(path=name, what="has changed")
            continue
        length = committed.length(array, geometry.slot_rows)
        if path.read_bytes() != layout.array_json(spec, geometry, length):
            yield Problem(path=name, what="does not describe the committed rows")
