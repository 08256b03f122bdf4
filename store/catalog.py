"""What is said of videos beside their features: columns of a manifest, labels of items, splits.

Labels belong to items: a whole video, or an interval of one. A label set has its own list of
classes; a split maps videos to train, val and test. There may be several of each, by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmf import MmfError, unknown
from mmf.store import layout
from mmf.store.log import table_bytes

LABELS = pa.schema(
    [
        ("video_id", pa.string()),
        ("start", pa.float64()),  # seconds; null: the whole video
        ("end", pa.float64()),
        ("labels", pa.list_(pa.int32())),  # positive classes
        ("unrated", pa.list_(pa.int32())),  # classes of which nothing is known
    ]
)
SPLITS = pa.schema([("video_id", pa.string()), ("split", pa.string())])

ItemKey = str | tuple[str, float, float]


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is labelled and predicted: a whole video, or an interval of one in seconds."""

    video_id: str
    start: float | None = None
    end: float | None = None
    split: str | None = None
    labels: tuple[int, ...] = ()
    unrated: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """``video_id``, or ``video_id@start-end``."""
        if self.start is None or self.end is None:
            return self.video_id
        return f"{self.video_id}@{self.start:.12g}-{self.end:.12g}"


class Catalog:
    """The tables of one store, read as they are asked for and replaced as a whole."""

    def __init__(self, root: Path):
        self._root = root

    @property
    def label_sets(self) -> tuple[str, ...]:
        """Names of the label sets."""
        return self._names("labels")

    @property
    def split_sets(self) -> tuple[str, ...]:
        """Names of the splits."""
        return self._names("splits")

    def labels(self, name: str) -> tuple[pa.Table, tuple[str, ...]]:
        """A label set: its table and its classes."""
        table, about = self._read("labels", name, LABELS)
        return table, tuple(about.get("classes", ()))

    def splits(self, name: str) -> dict[str, str]:
        """Split by video; empty where there is none of this name."""
        if name not in self.split_sets:
            return {}
        table, _ = self._read("splits", name, SPLITS)
        return dict(zip(table["video_id"].to_pylist(), table["split"].to_pylist(), strict=True))

    def videos(self) -> pa.Table:
        """The manifests' columns, a row per video; all but video_id are strings."""
        if "default" not in self._names("videos"):
            return pa.schema([("video_id", pa.string())]).empty_table()
        return self._read("videos", "default", None)[0]

    def add_labels(
        self,
        name: str,
        labels: Mapping[ItemKey, Sequence[str]],
        *,
        unrated: Mapping[ItemKey, Sequence[str]] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Set the labels of items; other items of the set keep theirs.

        New classes are appended in the order of their names, or as `classes` lists them; with
        `classes`, a label that it does not list is an error.
        """
        unrated = unrated or {}

        def merged(table: pa.Table, about: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
            used = [[v] if isinstance(v, str) else v for v in (*labels.values(), *unrated.values())]
            known = _classes(about.get("classes", []), used, classes)
            at = {c: i for i, c in enumerate(known)}
            rows = {_key(r["video_id"], r["start"], r["end"]): r for r in table.to_pylist()}
            for item, given in labels.items():
                names = [given] if isinstance(given, str) else given
                video, start, end = (item, None, None) if isinstance(item, str) else item
                if start is not None and not start < end:  # type: ignore[operator]
                    raise MmfError(f"item {item!r}: its end must lie after its start.")
                rows[_key(video, start, end)] = {
                    "video_id": video,
                    "start": start,
                    "end": end,
                    "labels": sorted({at[n] for n in names}),
                    "unrated": sorted({at[n] for n in unrated.get(item, ())}),
                }
            ordered = [rows[k] for k in sorted(rows)]
            return pa.Table.from_pylist(ordered, schema=LABELS), {"classes": known}

        self._replace("labels", name, LABELS, merged)

    def add_splits(self, name: str, splits: Mapping[str, str]) -> None:
        """Set the split of videos; other videos keep theirs."""

        def merged(table: pa.Table, about: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
            old = dict(zip(table["video_id"].to_pylist(), table["split"].to_pylist(), strict=True))
            rows = sorted({**old, **splits}.items())
            columns = [pa.array([r[i] for r in rows], pa.string()) for i in range(2)]
            return pa.Table.from_arrays(columns, schema=SPLITS), about

        self._replace("splits", name, SPLITS, merged)

    def add_videos(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Set the columns that a manifest has of its videos; `video_id` is one of them."""

        def merged(table: pa.Table, about: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
            known = {r["video_id"]: r for r in table.to_pylist()}
            for row in rows:
                new = {k: str(v) for k, v in row.items() if v is not None}
                known[row["video_id"]] = {**known.get(row["video_id"], {}), **new}
            names = ["video_id", *sorted({k for r in known.values() for k in r} - {"video_id"})]
            schema = pa.schema([(n, pa.string()) for n in names])
            return pa.Table.from_pylist([known[k] for k in sorted(known)], schema=schema), about

        empty = pa.schema([("video_id", pa.string())])
        self._replace("videos", "default", empty, merged)

    def state(self) -> list[str]:
        """What stands, a line per table: kind, name and digest."""
        lines = []
        for kind in ("labels", "splits", "videos"):
            for name in self._names(kind):
                _, value = layout.current(self._root / "catalog" / kind / name)
                lines.append(f"{kind}/{name}/{value['file']}")
        return lines

    def _names(self, kind: str) -> tuple[str, ...]:
        folder = self._root / "catalog" / kind
        return tuple(sorted(p.name for p in folder.iterdir())) if folder.is_dir() else ()

    def _read(
        self, kind: str, name: str, schema: pa.Schema | None
    ) -> tuple[pa.Table, dict[str, Any]]:
        folder = self._root / "catalog" / kind / name
        if name not in self._names(kind):
            what = {"labels": "label set", "splits": "split", "videos": "table"}[kind]
            raise unknown(what, name, self._names(kind))
        _, value = layout.current(folder)
        if value is None:
            return (schema or pa.schema([])).empty_table(), {}
        return pq.read_table(folder / value["file"], page_checksum_verification=True), value[
            "about"
        ]

    def _replace(self, kind: str, name: str, schema: pa.Schema, merge: Any) -> None:
        """Merge into what stands and publish the result; again where another writer was first."""
        if "/" in name or name.startswith(".") or not name:
            raise MmfError(f"{kind} cannot be called {name!r}: expected a name without '/'.")
        folder = self._root / "catalog" / kind / name
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            number, _ = layout.current(folder)
            table, about = self._read(kind, name, schema)
            table, about = merge(table, about)
            data = table_bytes(table)
            target = folder / f"{layout.digest(data)}.parquet"
            part = layout.write_new(self._root / "tmp", data)
            if not layout.place(part, target):
                part.unlink()
            value = {"file": target.name, "about": about, "rows": len(table)}
            if layout.publish(folder, self._root / "tmp", value, after=number):
                return


def _key(video: str, start: float | None, end: float | None) -> tuple[str, float, float]:
    return (video, -1.0 if start is None else start, -1.0 if end is None else end)


def _classes(
    old: Sequence[str], used: Sequence[Sequence[str]], given: Sequence[str] | None
) -> list[str]:
    names = {n for row in used for n in row}
    if given is not None and (strange := sorted(names - {*given, *old})):
        raise unknown("class", strange[0], given)
    fresh = [c for c in given if c not in old] if given is not None else sorted(names - {*old})
    return [*old, *fresh]
