"""Check every byte that was committed against what was committed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa

from mmf import MmfError
from mmf.store import layout, log
from mmf.store.reader import FeatureStore
from mmf.store.stored import StoredFeature


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is not as it was committed."""

    path: str  # of the file, below the store
    what: str


def verify(path: str | Path) -> list[Problem]:
    """Problems of the store at `path`, none where it is whole.

    Files are compared with their digests; rows with the crc32c of their video; the metadata that
    other tools read with what the log says.
    """
    root = Path(path)
    problems = [*_fixed_files(root), *_sealed_json(root), *_named_by_digest(root)]
    if problems:
        return problems  # what is damaged cannot say what else there should be
    store = FeatureStore(root)
    problems += _shards(root)
    for name in sorted(store.features):
        problems += _feature(store.stored(name))
    return problems


def _fixed_files(root: Path) -> Iterator[Problem]:
    expected = {"mmf.json": layout.json_bytes(layout.FORMAT)}
    expected[f"{layout.GROUP}/zarr.json"] = layout.group_json()
    for name, data in expected.items():
        if not (root / name).is_file():
            yield Problem(path=name, what="is missing")
        elif (root / name).read_bytes() != data:
            yield Problem(path=name, what="has changed")


def _sealed_json(root: Path) -> Iterator[Problem]:
    kinds = ("features/*/*.json", "catalog/*/*/*.json", "index/*.json")
    for path in sorted(p for kind in kinds for p in root.glob(kind)):
        try:
            value = layout.read_sealed(path)
        except MmfError:
            yield Problem(path=str(path.relative_to(root)), what="has changed")
            continue
        if "file" in value and value == layout.current(path.parent)[1]:
            table = path.with_name(value["file"])
            if not table.is_file():
                yield Problem(path=str(table.relative_to(root)), what="is missing")


def _named_by_digest(root: Path) -> Iterator[Problem]:
    kinds = ("log/*", "catalog/*/*/*.parquet", "index/*.arrow")
    for path in sorted(p for kind in kinds for p in root.glob(kind)):
        if path.stem.split(".")[-1] != layout.digest(path.read_bytes()):
            yield Problem(path=str(path.relative_to(root)), what="has changed")


def _shards(root: Path) -> Iterator[Problem]:
    for record in sorted((root / "log").glob("*.parquet")):
        for shard in log.shards_of(log.read_record(record)):
            name = f"{layout.GROUP}/{shard.name}"
            if not (root / name).is_file():
                yield Problem(path=name, what=f"is missing; {record.name} names it")
                continue
            with open(root / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                    yield Problem(path=name, what="has changed")


def _feature(feature: StoredFeature) -> Iterator[Problem]:
    array = f"{layout.GROUP}/{feature.array}"
    metadata = feature.folder / "zarr.json"
    if not metadata.is_file():
        yield Problem(path=f"{array}/zarr.json", what="is missing")
    elif metadata.read_bytes() != feature.metadata():
        yield Problem(path=f"{array}/zarr.json", what="does not describe the committed rows")
    for position, row in enumerate(feature.outcomes.to_pylist()):
        if row["status"] != "done":
            continue
        try:
            values = np.empty((row["rows"], *feature.spec.shape), dtype=feature.dtype)
            feature.read_rows(position, 0, values)
            feature.times(position)
            whole = int(google_crc32c.value(values)) == row["crc32c"]
        except (MmfError, OSError, pa.ArrowException) as error:
            yield Problem(path=array, what=f"video {row['video_id']!r} cannot be read: {error}")
            continue
        if not whole:
            yield Problem(path=array, what=f"the rows of video {row['video_id']!r} have changed")
