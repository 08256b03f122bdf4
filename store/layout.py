"""What the files of a store are called, and how rows lie in them.

::

    feats/
      mmf.json                              format and version
      features.zarr/                        a pure Zarr v3 group, nothing else inside
        zarr.json
        rgb/zarr.json                       one array (rows, *shape) per feature
        rgb/c.<slot>.0                      one uncompressed shard per slot
      log/<key>.<digest>.parquet            commit records: a row exists once a record names it
      index/<n>.json, index/<digest>.arrow  a cache of the log; see mmf.store.index
      head.json                             the newest of everything; see mmf.store.head
      snapshots/<id>.json                   what a training run pins
      denied/<n>.json                       hashes of the ids of deleted videos
      features/<name>/<n>.json              spec, array and geometry; the highest n stands
      catalog/<kind>/<name>/<n>.json        names the table of videos, labels or splits; likewise
      catalog/<kind>/<name>/<digest>.parquet
      lost/                                 what `mmf repair` has set aside
      tmp/                                  what is being written
      tensorboard/                          curves of the jobs that wrote it; nothing reads them

`mmf.store.files` says how they come to be. A file's digest is in its name (Parquet), in the file
itself (JSON) or in the record that names it (shards): `verify` checks every byte.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmf import MmfError
from mmf.store.files import Files, json_bytes, read_sealed
from mmf.store.spec import FeatureSpec

FORMAT = {"format": "mmf-feature-store", "version": 1}
CHUNK_BYTES = 1 << 20
CHUNKS_PER_SLOT = 256
GROUP = "features.zarr"
_MOST_CHUNK_BYTES = 64 << 20
_MOST_CHUNKS_PER_SLOT = 1 << 16
_ARRAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[0-9]{1,9})?")  # the feature's, or one more
_SHARD = re.compile(_ARRAY.pattern + r"/c(\.[0-9]{1,10}){1,9}")


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How the rows of one array lie in chunks and slots; fixed when the feature is created."""

    rows_per_chunk: int
    chunks_per_slot: int = CHUNKS_PER_SLOT

    @classmethod
    def of(cls, spec: FeatureSpec) -> "Geometry":
        """Chunks of about 1 MiB, 256 of them in a slot."""
        return cls(rows_per_chunk=max(1, CHUNK_BYTES // spec.row_bytes))

    def check(self, spec: FeatureSpec) -> None:
        """Raise MmfError where mmf does not make such arrays; one may come from a stranger."""
        largest = max(spec.row_bytes, _MOST_CHUNK_BYTES)
        if not (
            0 < self.rows_per_chunk * spec.row_bytes <= largest
            and 0 < self.chunks_per_slot <= _MOST_CHUNKS_PER_SLOT
        ):
            raise MmfError(
                f"feature {spec.name!r}: {self.chunks_per_slot} chunks of {self.rows_per_chunk} "
                "rows are no slot that mmf writes. Do not use this store."
            )

    @property
    def slot_rows(self) -> int:
        """The most rows that one slot holds."""
        return self.rows_per_chunk * self.chunks_per_slot


def checked_array(name: str) -> str:
    """The name of an array, which is a folder's; MmfError where it is another path."""
    if not _ARRAY.fullmatch(name):
        raise MmfError(f"{name!r} is no name of an array of a store. Do not use this store.")
    return name


def checked_shard(name: str) -> str:
    """The name of a shard below the group; MmfError where it is another path."""
    if not _SHARD.fullmatch(name):
        raise MmfError(f"{name!r} is no name of a shard of a store. Do not use this store.")
    return name


def shuffled(seed: int, video_id: str) -> int:
    """A key by which videos stand in no order at all, the same for the same seed."""
    text = f"{seed}\0{video_id}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def array_json(spec: FeatureSpec, geometry: Geometry, rows: int) -> bytes:
    """The Zarr v3 metadata of a feature's array holding `rows` rows."""
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    body = {"name": "bytes"} if spec.dtype == "uint8" else little
    shape = list(spec.shape)
    attributes: dict[str, Any] = {"mmf": spec.to_json()}
    if spec.dtype == "uint8":  # CF: xarray turns codes into numbers by itself
        attributes["scale_factor"], attributes["add_offset"] = spec.scale_offset
    return json_bytes(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [rows, *shape],
            "data_type": spec.dtype,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [geometry.slot_rows, *shape]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": 0 if spec.dtype in ("uint8", "int32") else 0.0,
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": [geometry.rows_per_chunk, *shape],
                        "codecs": [body],
                        "index_codecs": [little, {"name": "crc32c"}],
                        "index_location": "end",
                    },
                }
            ],
            "dimension_names": [
                f"{spec.name}_row",
                *(f"{spec.name}_{i}" for i in range(len(shape))),
            ],
            "attributes": attributes,
        },
        indent=1,
    )


def group_json() -> bytes:
    """The Zarr v3 metadata of the group of all features."""
    return json_bytes({"zarr_format": 3, "node_type": "group", "attributes": {}}, indent=1)


def shard_name(slot: int, spec: FeatureSpec) -> str:
    """The file of a slot in its array's folder: ``c.<slot>`` and a zero for each row dimension."""
    return ".".join(["c", str(slot), *("0" for _ in spec.shape)])


def describe(files: Files, array: str) -> tuple[FeatureSpec, Geometry]:
    """Spec and geometry of any array there is, also one that no feature uses now."""
    for path in sorted((files.root / "features" / array.partition(".")[0]).glob("*.json")):
        value = read_sealed(path)
        if value["array"] == array:
            return FeatureSpec.from_json(value["spec"]), Geometry(**value["geometry"])
    stated = json.loads((files.root / GROUP / array / "zarr.json").read_bytes())
    spec = FeatureSpec.from_json(stated["attributes"]["mmf"])
    rows = stated["codecs"][0]["configuration"]["chunk_shape"][0]
    slot_rows = stated["chunk_grid"]["configuration"]["chunk_shape"][0]
    return spec, Geometry(rows_per_chunk=rows, chunks_per_slot=slot_rows // rows)


def new_array(files: Files, feature: str, spec: FeatureSpec, geometry: Geometry) -> str:
    """Make one more array, without rows, for a feature; nobody else has its name."""
    part, number = files.write_new(array_json(spec, geometry, 0)), 2
    while True:
        home = files.root / GROUP / f"{feature}.{number}"
        home.mkdir(exist_ok=True)
        if files.place(part, home / "zarr.json"):
            return home.name
        number += 1


def grow(files: Files, array: Path, metadata: bytes, *, or_shrink: bool = False) -> None:
    """Put newer metadata in the place of an array's, unless its length is greater already.

    Only other tools read it; which rows exist is the log's affair.
    """

    def newer(old: bytes | None) -> bytes | None:
        return metadata if or_shrink or _length(old) <= _length(metadata) else None

    files.update(array / "zarr.json", newer)


def _length(metadata: bytes | None) -> int:
    try:
        return int(json.loads(metadata or b"")["shape"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return 0  # damaged: anything is newer


def create(files: Files) -> None:
    """Make the folders and fixed files of an empty store; nothing happens to an existing one."""
    folders = ("tmp", "log", "catalog", "features", GROUP)
    there = files.names()
    # a kill while it was being made leaves some of them
    if "mmf.json" not in there and (strange := sorted(there.difference(folders))):
        raise MmfError(
            f"{files.name!r} is not a feature store and is not empty (it holds {strange[0]!r}). "
            "Choose another --store."
        )
    for folder in folders:
        (files.root / folder).mkdir(parents=True, exist_ok=True)
    for path, data in (
        (files.root / GROUP / "zarr.json", group_json()),
        (files.root / "mmf.json", json_bytes(FORMAT)),
    ):
        if not path.exists():
            part = files.write_new(data)
            if not files.place(part, path):
                part.unlink()


def check(files: Files) -> None:
    """Raise MmfError unless there is a store that this version reads."""
    try:
        found = json.loads((files.root / "mmf.json").read_bytes())
    except FileNotFoundError:
        raise MmfError(
            f"there is no feature store at {files.name!r}. "
            "`mmf extract` makes one; --store names another."
        ) from None
    except (OSError, ValueError) as error:
        raise MmfError(f"the store {files.name!r} cannot be read: mmf.json: {error}.") from error
    if found != FORMAT:
        raise MmfError(f"the store {files.name!r} is {found}; this version of mmf reads {FORMAT}.")
