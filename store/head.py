"""What there must be: the newest of everything, so that a file that is gone is missed.

A record names the records that its writer saw and that no other one names; so every record but
the newest is named in another. ``head.json`` names the newest ones, the newest version of every
table, and the snapshots. It is written after what it names: a kill in between leaves that one
unnamed until the next commit of anybody, and so would a system without file locks where two
writers end at the same moment. Nothing but `verify` and `repair` reads it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmf import MmfError
from mmf.store.files import Files, current, sealed, unsealed

FILE = "head.json"


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest of everything, as of the last commit."""

    records: frozenset[str] = frozenset()  # that no other record names
    gone: frozenset[str] = frozenset()  # removed on purpose, though a record names them
    versions: Mapping[str, int] = field(default_factory=dict)  # folder → newest version
    features: Mapping[str, Any] = field(default_factory=dict)  # their newest versions' values
    snapshots: frozenset[str] = frozenset()


def read(files: Files) -> Head:
    """The head, empty where there is none; MmfError where it is damaged."""
    path = files.root / FILE
    return _parsed(path.read_bytes() if path.exists() else None, path)


def _parsed(data: bytes | None, path: Path) -> Head:
    if data is None:
        return Head()
    value = unsealed(data, path)
    sets = {name: frozenset(value[name]) for name in ("records", "gone", "snapshots")}
    return Head(versions=value["versions"], features=value["features"], **sets)


def note(
    files: Files,
    *,
    newest: Collection[str] = (),
    seen: Collection[str] = (),
    gone: Collection[str] = (),
    forgotten: Collection[str] = (),
) -> None:
    """Bring the head up to what has been published.

    `newest` are records that no other names, `seen` those that others do, `gone` those that have
    been removed on purpose; `forgotten` are snapshots that have been.
    """

    def noted(data: bytes | None) -> bytes:
        try:
            old = _parsed(data, files.root / FILE)
        except MmfError:
            old = Head()  # a commit goes on; `verify` has more to tell
        removed = old.gone.union(gone)
        there = dict(_versions(files))  # another machine may know of newer ones
        versions = {
            f: max(there.get(f, 0), old.versions.get(f, 0)) for f in {**old.versions, **there}
        }
        snapshots = old.snapshots.union(p.stem for p in (files.root / "snapshots").glob("*.json"))
        return _bytes(
            Head(
                records=old.records.union(newest).difference(removed).difference(seen),
                gone=removed,
                versions=versions,
                features=dict(_features(files, old, versions)),
                snapshots=snapshots.difference(forgotten),
            )
        )

    files.update(files.root / FILE, noted)


def _bytes(head: Head) -> bytes:
    value = {
        "records": sorted(head.records),
        "gone": sorted(head.gone),
        "versions": dict(head.versions),
        "features": dict(head.features),
        "snapshots": sorted(head.snapshots),
    }
    return sealed(value)


def folders(files: Files) -> Iterator[Path]:
    """Every folder of numbered versions."""
    yield from sorted(p for p in (files.root / "features").glob("*") if p.is_dir())
    yield from sorted(p for p in (files.root / "catalog").glob("*/*") if p.is_dir())
    if (files.root / "denied").is_dir():
        yield files.root / "denied"


def _versions(files: Files) -> Iterator[tuple[str, int]]:
    for folder in folders(files):
        newest = max(folder.glob("*.json"), default=None)
        if newest is not None:
            yield folder.relative_to(files.root).as_posix(), int(newest.stem)


def _features(files: Files, old: Head, versions: Mapping[str, int]) -> Iterator[tuple[str, Any]]:
    for folder, number in versions.items():
        kind, _, name = folder.partition("/")
        if kind != "features":
            continue
        if old.versions.get(folder) == number and name in old.features:
            yield name, old.features[name]
        else:
            yield name, current(files.root / folder)[1]


def prune(files: Files, named: Collection[str]) -> None:
    """Forget of the removed records those that no record names any more."""

    def pruned(data: bytes | None) -> bytes:
        old = _parsed(data, files.root / FILE)
        return _bytes(replace(old, gone=old.gone.intersection(named)))

    files.update(files.root / FILE, pruned)
