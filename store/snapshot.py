"""Snapshots: the records, features and tables that were visible at one moment, kept by name.

A training run pins one. `gc` keeps what a snapshot names; a deleted video leaves it all the same.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmf import unknown
from mmf.store import head
from mmf.store.files import Files, open_files, read_sealed, sealed

FOLDER = "snapshots"


def identify(value: Mapping[str, Any]) -> str:
    """The id of what is visible: of its records, arrays and tables."""
    arrays = sorted(feature["array"] for feature in value["features"].values())
    tables = sorted(f"{name}/{table['file']}" for name, table in value["catalog"].items())
    text = "\n".join([*sorted(value["records"]), *arrays, *tables])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def pin(files: Files, value: Mapping[str, Any]) -> str:
    """Keep what is visible under its id."""
    name = identify(value)
    path = files.root / FOLDER / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        part = files.write_new(sealed(dict(value)))
        if not files.place(part, path):
            part.unlink()
        head.note(files)
    return name


def read(files: Files, name: str) -> dict[str, Any]:
    """What a snapshot names; UnknownName if there is none."""
    path = files.root / FOLDER / f"{name}.json"
    if not path.is_file():
        raise unknown("snapshot", name, listed(files))
    return read_sealed(path)


def listed(files: Files) -> list[str]:
    """Ids of the snapshots of a store."""
    return sorted(p.stem for p in (files.root / FOLDER).glob("*.json"))


def rename_record(files: Files, old: str, new: str | None) -> None:
    """Name another record in the place of one, or none, in every snapshot."""
    for path in sorted((files.root / FOLDER).glob("*.json")):
        value = read_sealed(path)
        if old in value["records"]:
            names = [n for n in value["records"] if n != old]
            value["records"] = sorted([*names, *([new] if new else [])])
            files.put(path, sealed(value))


def forget(store: str | Path | Files, names: Iterable[str]) -> None:
    """Let go of snapshots: from now on `gc` may take what only they name."""
    files = open_files(store)
    for name in names:
        read(files, name)
        files.remove(files.root / FOLDER / f"{name}.json")
        head.note(files, forgotten=[name])
