"""What there must be: the newest of everything, so that a file that is gone is missed.

A record names the records that its writer saw and that no other one names; so every record but
the newest is named in another. ``head.json`` names the newest ones, the newest version of every
table, and the snapshots. It is written after what it names: a kill in between leaves that one
unnamed until the next commit of anybody, and so would a system without file locks where two
writers end at the same moment. Nothing but `verify` and `repair` reads it.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmf import MmfError
from mmf.store import layout

FILE = "head.json"


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest of everything, as of the last commit."""

    records: frozenset[str] = frozenset()  # that no other record names
    gone: frozenset[str] = frozenset()  # removed on purpose, though a record names them
    versions: Mapping[str, int] = field(default_factory=dict)  # folder → newest version
    features: Mapping[str, Any] = field(default_factory=dict)  # their newest versions' values
    snapshots: frozenset[str] = frozenset()


def read(root: Path) -> Head:
    """The head, empty where there is none; MmfError where it is damaged."""
    if not (root / FILE).exists():
        return Head()
    value = layout.read_sealed(root / FILE)
    sets = {name: frozenset(value[name]) for name in ("records", "gone", "snapshots")}
    return Head(versions=value["versions"], features=value["features"], **sets)


def note(
    root: Path,
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
    with layout.alone_in(root):
        try:
            old = read(root)
        except MmfError:
            old = Head()  # a commit goes on; `verify` has more to tell
        removed = old.gone.union(gone)
        records = old.records.union(newest).difference(removed).difference(seen)
        versions = {**old.versions, **dict(_versions(root))}
        snapshots = old.snapshots.union(p.stem for p in (root / "snapshots").glob("*.json"))
        head = Head(
            records=records,
            gone=removed,
            versions=versions,
            features=dict(_features(root, old, versions)),
            snapshots=snapshots.difference(forgotten),
        )
        if head != old:
            write(root, head)


def write(root: Path, head: Head) -> None:
    """Put a head in the place of the one there is."""
    value = {
        "records": sorted(head.records),
        "gone": sorted(head.gone),
        "versions": dict(head.versions),
        "features": dict(head.features),
        "snapshots": sorted(head.snapshots),
    }
    os.replace(layout.write_new(root / "tmp", layout.sealed(value)), root / FILE)


def folders(root: Path) -> Iterator[Path]:
    """Every folder of numbered versions."""
    yield from sorted(p for p in (root / "features").glob("*") if p.is_dir())
    yield from sorted(p for p in (root / "catalog").glob("*/*") if p.is_dir())
    if (root / "denied").is_dir():
        yield root / "denied"


def _versions(root: Path) -> Iterator[tuple[str, int]]:
    for folder in folders(root):
        newest = max(folder.glob("*.json"), default=None)
        if newest is not None:
            yield folder.relative_to(root).as_posix(), int(newest.stem)


def _features(root: Path, old: Head, versions: Mapping[str, int]) -> Iterator[tuple[str, Any]]:
    for folder, number in versions.items():
        kind, _, name = folder.partition("/")
        if kind != "features":
            continue
        if old.versions.get(folder) == number and name in old.features:
            yield name, old.features[name]
        else:
            yield name, layout.current(root / folder)[1]


def prune(root: Path, named: Collection[str]) -> None:
    """Forget of the removed records those that no record names any more."""
    with layout.alone_in(root):
        old = read(root)
        write(root, replace(old, gone=old.gone.intersection(named)))
