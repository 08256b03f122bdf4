"""The feature store as a user sees it."""

import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError, unknown
from mmf.store import layout
from mmf.store.batch import Batch, batches, epoch_order, fill
from mmf.store.catalog import Catalog, Item, ItemKey
from mmf.store.feature import FeatureSpec, RecipeMismatch, Track, differing_field
from mmf.store.log import Log
from mmf.store.slot import read_into
from mmf.store.writer import Writer

logger = logging.getLogger(__name__)
_OPEN_SHARDS = 256  # file descriptors kept


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A feature as the store holds it."""

    spec: FeatureSpec
    array: str  # its name in the Zarr group
    geometry: layout.Geometry

    @cached_property
    def dtype(self) -> np.dtype:
        """Of the stored rows, little-endian."""
        return np.dtype(self.spec.dtype).newbyteorder("<")


class FeatureStore:
    """A folder of features, labels and splits.

    What it shows is what was committed when it was opened, or at the last `refresh`; its own
    commits show at once.

    >>> store = FeatureStore.create(tmp / "feats")
    >>> spec = FeatureSpec(name="text", modality="text", shape=(2,), dtype="float32")
    >>> store.add(spec, [Track(video_id="v1", values=[[1.0, 2.0]], times=[0.5])])
    >>> store.read("text", "v1").values
    array([[1., 2.]], dtype=float32)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        layout.check(self.path)
        self.catalog = Catalog(self.path)
        self._stored: dict[str, Stored] = {}
        self._shards: OrderedDict[Path, int] = OrderedDict()
        self._log = Log(self.path)
        self._load_features()

    @classmethod
    def create(cls, path: str | Path) -> "FeatureStore":
        """Make a store, or open the one that is there."""
        layout.create(Path(path))
        return cls(path)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.path)!r}, features={sorted(self.features)})"

    def __del__(self) -> None:
        for fd in getattr(self, "_shards", {}).values():
            os.close(fd)

    def refresh(self) -> None:
        """Show what others have committed since."""
        self._load_features()
        self._log.refresh()
        self.__dict__.pop("_positions", None)

    # features

    @property
    def features(self) -> dict[str, FeatureSpec]:
        """Spec of every feature, by name."""
        return {name: stored.spec for name, stored in self._stored.items()}

    def stored(self, feature: str) -> Stored:
        """Where and how the feature lies; UnknownName if there is none."""
        if feature not in self._stored:
            raise unknown("feature", feature, self._stored)
        return self._stored[feature]

    def create_feature(self, spec: FeatureSpec, *, replace: bool = False) -> FeatureSpec:
        """Make a feature, or take the one that is there if its recipe is the same.

        With `replace`, the feature begins anew, empty, in an array of its own; the old rows stay
        on disk, seen by no one. Raises RecipeMismatch, which names the differing field.
        """
        folder = self.path / "features" / spec.name
        number, value = layout.current(folder)
        if value is not None and not replace:
            old = FeatureSpec.from_json(value["spec"])
            self._refuse_another_recipe(old, spec)
            self._warn_of_another_environment(old, spec)
            self._load_features()
            return old
        array = spec.name if number == 0 else f"{spec.name}.{number + 1}"
        geometry = layout.Geometry.of(spec)
        home = self.path / layout.GROUP / array
        home.mkdir(exist_ok=True)
        part = layout.write_new(self.path / "tmp", layout.array_json(spec, geometry, 0))
        if not layout.place(part, home / "zarr.json"):
            # left by a kill between here and `publish`, or another writer's: it holds no rows yet
            os.replace(part, home / "zarr.json")
        value = {"spec": spec.to_json(), "array": array, **vars(geometry)}
        if not layout.publish(folder, self.path / "tmp", value, after=number):
            return self.create_feature(spec)  # another writer was first: the same recipe?
        self.refresh()
        return spec

    def _refuse_another_recipe(self, old: FeatureSpec, new: FeatureSpec) -> None:
        if old.fingerprint != new.fingerprint:
            raise RecipeMismatch(
                f"store {str(self.path)!r} holds feature {new.name!r} made otherwise: "
                f"{differing_field(old.identity, new.identity)}. "
                "Choose another --name, or pass --replace to begin it anew."
            )

    def _warn_of_another_environment(self, old: FeatureSpec, new: FeatureSpec) -> None:
        if new.environment and (field := differing_field(old.environment, new.environment)):
            logger.warning("feature %r was begun in another environment: %s.", new.name, field)

    def _load_features(self) -> None:
        for folder in sorted((self.path / "features").iterdir()):
            _, value = layout.current(folder)
            if value is not None:
                self._stored[folder.name] = Stored(
                    spec=FeatureSpec.from_json(value["spec"]),
                    array=value["array"],
                    geometry=layout.Geometry(
                        rows_per_chunk=value["rows_per_chunk"],
                        chunks_per_slot=value["chunks_per_slot"],
                    ),
                )

    # writing

    def writer(self) -> Writer:
        """A bucket for rows of many videos and features, which commits them together."""
        return Writer(self)

    def add(self, spec: FeatureSpec, tracks: Iterable[Track], *, replace: bool = False) -> None:
        """Store a feature computed elsewhere: all of its tracks in one atomic commit.

        A second call with the same spec adds more videos. A video that is there already is an
        error; `replace` begins the feature anew.
        """
        self.create_feature(spec, replace=replace)
        present = self.state(spec.name)
        writer = self.writer()
        seen: set[str] = set()
        try:
            for track in tracks:
                if present.get(track.video_id) == "done" or track.video_id in seen:
                    raise MmfError(
                        f"video {track.video_id!r} has feature {spec.name!r} already. "
                        "Leave it out, or pass replace=True to begin the feature anew."
                    )
                seen.add(track.video_id)
                writer.put(spec.name, track)
        except BaseException:
            writer.discard()
            raise
        writer.commit()

    def label(
        self,
        labels: Mapping[ItemKey, Sequence[str]],
        *,
        split: Mapping[str, str] | None = None,
        name: str = "default",
        unrated: Mapping[ItemKey, Sequence[str]] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Label items: a video id, or (video id, start, end) in seconds; and split videos.

        `unrated` lists, by item, the classes of which nothing is known; all others are negative.
        """
        self.catalog.add_labels(name, labels, unrated=unrated, classes=classes)
        if split:
            self.catalog.add_splits(name, split)

    # what is there

    @property
    def label_sets(self) -> tuple[str, ...]:
        """Names of the label sets."""
        return self.catalog.label_sets

    def classes(self, name: str = "default") -> tuple[str, ...]:
        """The classes of a label set, in the order of their numbers."""
        return self.catalog.labels(name)[1]

    def outcomes(self, feature: str) -> pa.Table:
        """What became of each video for a feature; columns of `mmf.store.log.SCHEMA`."""
        return self._log.visible(self.stored(feature).array)

    def state(self, feature: str) -> dict[str, str]:
        """done, skipped or failed, by video."""
        table = self.outcomes(feature)
        return dict(zip(table["video_id"].to_pylist(), table["status"].to_pylist(), strict=True))

    def videos(self) -> pa.Table:
        """Every video: its id, its status per feature, the columns of its manifest."""
        table = self.catalog.videos()
        ids = {*table["video_id"].to_pylist(), *self.catalog.splits("default")}
        states = {f: self.state(f) for f in self.features}
        rows = pa.table({"video_id": sorted(ids.union(*states.values()))})
        for feature, state in states.items():
            statuses = [state.get(v) for v in rows["video_id"].to_pylist()]
            rows = rows.append_column(feature, pa.array(statuses, pa.string()))
        at = pc.index_in(rows["video_id"], table["video_id"])
        for name in table.column_names[1:]:
            if name not in rows.column_names:
                rows = rows.append_column(name, pc.take(table[name], at))
        if "split" not in rows.column_names:
            splits = self.catalog.splits("default")
            column = pa.array([splits.get(v) for v in rows["video_id"].to_pylist()], pa.string())
            rows = rows.append_column("split", column)
        return rows

    def failures(self) -> pa.Table:
        """Videos that could not be used: video_id, feature, reason, stage, message, attempts."""
        names = ["video_id", "feature", "reason", "stage", "message", "attempts"]
        parts = [self.outcomes(f) for f in sorted(self.features)]
        parts = [p.filter(pc.equal(p["status"], "failed")).select(names) for p in parts]
        return (
            pa.concat_tables(parts)
            if parts
            else pa.table({n: pa.array([], pa.string()) for n in names})
        )

    def items(
        self,
        split: str | None = None,
        *,
        label_set: str = "default",
        split_set: str | None = None,
        features: Sequence[str] = (),
        require: Literal["all", "any"] = "any",
    ) -> list[Item]:
        """The labelled items of a split (None: of all), ordered by video and start.

        With `features`, only items whose video has rows of any (or all) of them.
        """
        table, _ = self.catalog.labels(label_set)
        splits = self.catalog.splits(split_set or label_set)
        kept = self._having(table["video_id"], features, require)
        return [
            Item(
                video_id=row["video_id"],
                start=row["start"],
                end=row["end"],
                split=splits.get(row["video_id"]),
                labels=tuple(row["labels"]),
                unrated=tuple(row["unrated"]),
            )
            for row, keep in zip(table.to_pylist(), kept, strict=True)
            if keep and (split is None or splits.get(row["video_id"]) == split)
        ]

    def all_items(self, features: Sequence[str] = ()) -> list[Item]:
        """Every video that has rows of any of the features, labelled or not, as a whole item."""
        ids: set[str] = set()
        for feature in features or self.features:
            table = self.outcomes(feature)
            ids.update(table.filter(pc.greater(table["rows"], 0))["video_id"].to_pylist())
        return [Item(video_id=v) for v in sorted(ids)]

    def _having(
        self, ids: pa.ChunkedArray, features: Sequence[str], require: Literal["all", "any"]
    ) -> np.ndarray:
        if not features:
            return np.ones(len(ids), dtype=bool)
        found = []
        for feature in features:
            table = self.outcomes(feature)
            some = table.filter(pc.greater(table["rows"], 0))["video_id"]
            found.append(pc.is_in(ids, some).to_numpy(zero_copy_only=False))
        return np.all(found, axis=0) if require == "all" else np.any(found, axis=0)

    # reading

    def read(self, feature: str, video_id: str) -> Track:
        """The rows of one video: values float32 (int32 stays), times in seconds."""
        stored = self.stored(feature)
        position = self._position(feature).get(video_id)
        if position is None or self.outcomes(feature)["status"][position].as_py() != "done":
            raise MmfError(
                f"video {video_id!r} has no rows of feature {feature!r}{self._why(feature, video_id)}."
            )
        rows = self.outcomes(feature)["rows"][position].as_py()
        values = np.empty((rows, *stored.spec.shape), dtype=stored.dtype)
        self.read_rows(feature, position, 0, values)
        times = self._log.times(stored.array, position)
        return Track(video_id=video_id, values=stored.spec.decode(values), times=times)

    def batch(
        self,
        items: Sequence[Item],
        features: Sequence[str],
        *,
        label_set: str | None = "default",
        max_steps: int | None = None,
    ) -> Batch:
        """These very items as one batch; `label_set` None leaves the labels out."""
        classes = len(self.classes(label_set)) if label_set else 0
        return fill(self, items, features, classes=classes, max_steps=max_steps)

    def batches(
        self,
        features: Sequence[str],
        split: str | None = None,
        batch_size: int = 128,
        seed: int = 0,
        *,
        epoch: int = 0,
        shuffle: bool = True,
        label_set: str = "default",
        split_set: str | None = None,
        require: Literal["all", "any"] = "any",
        max_steps: int | None = None,
        start_batch: int = 0,
    ) -> Iterator[Batch]:
        """One epoch of the labelled items of a split, for any model.

        The order is a pure function of (seed, epoch) and the items; `start_batch` begins in the
        middle at no cost. `max_steps` keeps at most so many evenly spaced rows of an item.
        """
        items = self.items(
            split, label_set=label_set, split_set=split_set, features=features, require=require
        )
        if shuffle:
            items = [items[i] for i in epoch_order(len(items), seed=seed, epoch=epoch)]
        classes = len(self.classes(label_set))
        left = items[start_batch * batch_size :]
        return batches(self, left, features, size=batch_size, classes=classes, max_steps=max_steps)

    def spans(self, feature: str, items: Sequence[Item]) -> np.ndarray:
        """Int64 (B, 3): position of the item's video in `outcomes`, first row, number of rows.

        An interval has the rows whose times lie in [start, end); where none does, the row that
        was current at its start.
        """
        positions, rows = self._position(feature), self._rows(feature)
        spans = np.zeros((len(items), 3), dtype=np.int64)
        for i, item in enumerate(items):
            position = positions.get(item.video_id)
            if position is None:
                continue
            spans[i] = position, 0, rows[position]
            if item.start is not None and rows[position]:
                spans[i, 1:] = self._interval(feature, position, item)
        return spans

    def _interval(self, feature: str, position: int, item: Item) -> tuple[int, int]:
        times = self._log.times(self.stored(feature).array, position)
        first, last = (int(n) for n in np.searchsorted(times, [item.start, item.end]))
        rate = self.stored(feature).spec.rate
        if first == last and first > 0 and rate and item.start < times[first - 1] + 1 / rate:  # type: ignore[operator]
            first -= 1
        return first, last - first

    def read_rows(self, feature: str, position: int, first: int, target: np.ndarray) -> None:
        """Fill `target` with stored rows of the video at `position`, from its row `first` on."""
        stored = self.stored(feature)
        row = self.outcomes(feature).slice(position, 1)
        slots = [row["slot"][0].as_py(), *(row["more_slots"][0].as_py() or ())]
        start = row["start"][0].as_py() + first
        done = 0
        for slot in slots:
            n = min(len(target) - done, stored.geometry.slot_rows - start)
            if n > 0:
                fd = self._shard(stored, slot)
                read_into(fd, target[done : done + n], start * stored.spec.row_bytes)
                done += n
            start = max(0, start - stored.geometry.slot_rows)

    def _shard(self, stored: Stored, slot: int) -> int:
        path = self.path / layout.GROUP / stored.array / layout.shard_name(slot, stored.spec)
        if path not in self._shards:
            try:
                self._shards[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise MmfError(
                    f"the store {str(self.path)!r} has lost {str(path)!r}. Restore it from a copy."
                ) from None
            if len(self._shards) > _OPEN_SHARDS:
                os.close(self._shards.popitem(last=False)[1])
        self._shards.move_to_end(path)
        return self._shards[path]

    def _position(self, feature: str) -> dict[str, int]:
        return self._positions.setdefault(
            feature, {v: i for i, v in enumerate(self.outcomes(feature)["video_id"].to_pylist())}
        )

    @cached_property
    def _positions(self) -> dict[str, dict[str, int]]:
        return {}

    def _rows(self, feature: str) -> np.ndarray:
        return self.outcomes(feature)["rows"].to_numpy()

    def _why(self, feature: str, video_id: str) -> str:
        position = self._position(feature).get(video_id)
        if position is None:
            return ""
        row = self.outcomes(feature).slice(position, 1).to_pylist()[0]
        return f" ({row['status']}: {row['reason']})"

    # identity

    def snapshot(self) -> str:
        """An id of what is visible: records, features and tables."""
        names = sorted(p.name for p in self._log.records)
        arrays = sorted(s.array for s in self._stored.values())
        text = "\n".join([*names, *arrays, *self.catalog.state()])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def content_hash(self) -> str:
        """A hash of the visible rows and outcomes, whatever their order on disk or their commits."""
        total = hashlib.sha256()
        for feature in sorted(self.features):
            table, array = self.outcomes(feature), self.stored(feature).array
            total.update(f"{feature}\0{self.features[feature].fingerprint}\n".encode())
            for position, row in enumerate(table.to_pylist()):
                times = self._log.times(array, position) if row["rows"] else np.empty(0)
                fields = [row[c] for c in ("video_id", "status", "reason", "rows", "crc32c")]
                total.update(f"{fields!r}{hashlib.sha256(times.tobytes()).hexdigest()}\n".encode())
        return total.hexdigest()
