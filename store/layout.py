"""The files of a store, and the two ways in which one comes to be.

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

Committed files are never changed. They are written beside, fsynced, and get their name by `link`,
which is exclusive: of two writers one wins, the other looks again. A file's digest is in its name
(Parquet), in the file itself (JSON) or in the record that names it (shards): `verify` checks every
byte.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmf import MmfError
from mmf.store.feature import FeatureSpec

FORMAT = {"format": "mmf-feature-store", "version": 1}
CHUNK_BYTES = 1 << 20
CHUNKS_PER_SLOT = 256
GROUP = "features.zarr"
LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How the rows of one array lie in chunks and slots; fixed when the feature is created."""

    rows_per_chunk: int
    chunks_per_slot: int = CHUNKS_PER_SLOT

    @classmethod
    def of(cls, spec: FeatureSpec) -> "Geometry":
        """Chunks of about 1 MiB, 256 of them in a slot."""
        return cls(rows_per_chunk=max(1, CHUNK_BYTES // spec.row_bytes))

    @property
    def slot_rows(self) -> int:
        """The most rows that one slot holds."""
        return self.rows_per_chunk * self.chunks_per_slot


def digest(data: bytes) -> str:
    """The first 32 hexadecimal digits of the sha256, as used in file names."""
    return hashlib.sha256(data).hexdigest()[:32]


def shuffled(seed: int, video_id: str) -> int:
    """A key by which videos stand in no order at all, the same for the same seed."""
    text = f"{seed}\0{video_id}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """One way to write JSON, so that equal values are equal bytes.

    With `indent`, which takes 20 times as long, it is for people to read.
    """
    return (json.dumps(value, indent=indent, sort_keys=True) + "\n").encode()


def sealed(value: Any) -> bytes:
    """JSON with its own digest in it; `read_sealed` reads it back."""
    return json_bytes({"digest": digest(json_bytes(value)), "value": value})


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the system say which file they befell."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_new(tmp: Path, data: bytes) -> Path:
    """Write `data` to a fresh file in the folder `tmp`, down to the disk."""
    path = tmp / f"{uuid.uuid4().hex}.part"
    try:
        with naming(path), open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):  # the first error says more
            path.unlink()
        raise
    return path


def place(part: Path, target: Path) -> bool:
    """Give a finished file its name; False where the name is taken (the part is kept)."""
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    part.unlink()
    sync_folder(target.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(fd)
    finally:
        os.close(fd)


def publish(folder: Path, tmp: Path, value: Any, *, after: int) -> bool:
    """Write version `after` + 1 of what `folder` names; False where another writer was first."""
    folder.mkdir(parents=True, exist_ok=True)
    part = write_new(tmp, sealed(value))
    won = place(part, folder / f"{after + 1:06d}.json")
    if not won:
        part.unlink()
    return won


def current(folder: Path) -> tuple[int, Any]:
    """The number and the value of the version that stands; (0, None) where there is none."""
    newest = max(folder.glob("*.json"), default=None)
    if newest is None:
        return 0, None
    return int(newest.stem), read_sealed(newest)


def read_sealed(path: Path) -> Any:
    """The value of a file that `publish` wrote; MmfError where a byte of it has changed."""
    data = path.read_bytes()
    try:
        sealed = json.loads(data)
        whole = (
            json_bytes(sealed) == data and digest(json_bytes(sealed["value"])) == sealed["digest"]
        )
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise MmfError(
            f"{str(path)!r} is damaged: its digest does not match. Restore it from a copy."
        )
    return sealed["value"]


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


def put(tmp: Path, path: Path, data: bytes) -> None:
    """Put newer bytes in the place of a file."""
    os.replace(write_new(tmp, data), path)
    sync_folder(path.parent)


def describe(root: Path, array: str) -> tuple[FeatureSpec, Geometry]:
    """Spec and geometry of any array there is, also one that no feature uses now."""
    for path in sorted((root / "features" / array.partition(".")[0]).glob("*.json")):
        value = read_sealed(path)
        if value["array"] == array:
            return FeatureSpec.from_json(value["spec"]), Geometry(**value["geometry"])
    stated = json.loads((root / GROUP / array / "zarr.json").read_bytes())
    spec = FeatureSpec.from_json(stated["attributes"]["mmf"])
    rows = stated["codecs"][0]["configuration"]["chunk_shape"][0]
    slot_rows = stated["chunk_grid"]["configuration"]["chunk_shape"][0]
    return spec, Geometry(rows_per_chunk=rows, chunks_per_slot=slot_rows // rows)


def new_array(root: Path, feature: str) -> str:
    """Make the folder of one more array for a feature; nobody else has its name."""
    number = 2
    while True:
        try:
            (root / GROUP / f"{feature}.{number}").mkdir()
        except FileExistsError:
            number += 1
            continue
        return f"{feature}.{number}"


def next_slot(array: Path) -> int:
    """One more than the highest slot there is in the array's folder."""
    taken = (int(p.name.split(".")[1]) for p in array.glob("c.*"))
    return max(taken, default=-1) + 1


def grow(array: Path, tmp: Path, metadata: bytes, *, or_shrink: bool = False) -> None:
    """Put newer metadata in the place of an array's, unless its length is greater already.

    Only other tools read it; which rows exist is the log's affair.
    """
    with alone_in(array):
        old = (array / "zarr.json").read_bytes()
        if old != metadata and (or_shrink or _length(old) <= _length(metadata)):
            os.replace(write_new(tmp, metadata), array / "zarr.json")


def _length(metadata: bytes) -> int:
    try:
        return int(json.loads(metadata)["shape"][0])
    except (ValueError, KeyError, TypeError, IndexError):
        return 0  # damaged: anything is newer


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other writers of this machine out of `folder`, where the system can do that."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def create(root: Path) -> None:
    """Make the folders and fixed files of an empty store; nothing happens to an existing one."""
    if root.exists() and not (root / "mmf.json").exists() and any(root.iterdir()):
        known = {"tmp", "log", "catalog", "features", GROUP}  # a kill while it was being made
        if strange := sorted({p.name for p in root.iterdir()} - known):
            raise MmfError(
                f"{str(root)!r} is not a feature store and is not empty (it holds {strange[0]!r}). "
                "Choose another --store."
            )
    for folder in ("tmp", "log", "catalog", "features", GROUP):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for path, data in (
        (root / GROUP / "zarr.json", group_json()),
        (root / "mmf.json", json_bytes(FORMAT)),
    ):
        if not path.exists():
            part = write_new(root / "tmp", data)
            if not place(part, path):
                part.unlink()


def check(root: Path) -> None:
    """Raise MmfError unless `root` is a store that this version reads."""
    try:
        found = json.loads((root / "mmf.json").read_bytes())
    except FileNotFoundError:
        raise MmfError(
            f"there is no feature store at {str(root)!r}. "
            "`mmf extract` makes one; --store names another."
        ) from None
    except (OSError, ValueError) as error:
        raise MmfError(f"the store {str(root)!r} cannot be read: mmf.json: {error}.") from error
    if found != FORMAT:
        raise MmfError(f"the store {str(root)!r} is {found}; this version of mmf reads {FORMAT}.")
