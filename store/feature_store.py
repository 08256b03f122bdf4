"""The feature store as a user sees it."""

import errno
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store import head, layout, overview
from mmf.store import snapshot as snapshots
from mmf.store.batch import Batch, Reading, fill
from mmf.store.catalog import Catalog
from mmf.store.denied import Denied
from mmf.store.features import Features
from mmf.store.files import Files, open_files
from mmf.store.items import Item, ItemKey, Items
from mmf.store.loader import Loader
from mmf.store.log import Log
from mmf.store.places import distinct, places
from mmf.store.spec import FeatureSpec
from mmf.store.stored_feature import StoredFeature
from mmf.store.track import Track
from mmf.store.writer import Writer

logger = logging.getLogger(__name__)


class FeatureStore:
    """A folder of features, labels and splits.

    What it shows is what was committed when it was opened, or at the last `refresh`; its own
    commits show at once. With `snapshot`, it shows what that pinned, for ever, and takes nothing.

    >>> store = FeatureStore.create(tmp / "feats")
    >>> spec = FeatureSpec(name="text", modality="text", shape=(2,), dtype="float32")
    >>> store.add(spec, [Track(video_id="v1", values=[[1.0, 2.0]], times=[0.5])])
    >>> store.read("text", "v1").values
    array([[1., 2.]], dtype=float32)
    """

    def __init__(self, path: str | Path | Files, *, snapshot: str | None = None):
        self.files = open_files(path)
        self.path = self.files.root  # opened as a store, it is this one, also where that is far
        layout.check(self.files)
        self._pinned = snapshots.read(self.files, snapshot) if snapshot else None
        self._snapshot = snapshot
        self.catalog = Catalog(self.files, pinned=self._pinned and self._pinned["catalog"])
        self._log = Log(self.files, only=self._pinned and self._pinned["records"])
        self._features = Features(self.files, self._log, self._pinned and self._pinned["features"])

    @classmethod
    def create(cls, path: str | Path | Files) -> "FeatureStore":
        """Make a store, or open the one that is there."""
        files = open_files(path)
        layout.create(files)
        return cls(files)

    def __repr__(self) -> str:
        return f"FeatureStore({self.files.name!r}, features={sorted(self.features)})"

    def refresh(self) -> None:
        """Show what others have committed since."""
        self.files.sync()
        self._log.refresh()
        self._features.load()

    def index(self, *, only_if_due: bool = False) -> None:
        """Gather the log in one file, so that opening the store stays a matter of a moment.

        Commits do so by themselves now and then; nothing but the time to open depends on it.
        """
        if only_if_due:
            self._log.write_index_if_due()
        else:
            self._log.write_index()

    # features

    @property
    def features(self) -> dict[str, FeatureSpec]:
        """Spec of every feature, by name."""
        return {name: stored.spec for name, stored in self._features.items()}

    def stored(self, feature: str) -> StoredFeature:
        """Where and how the feature lies; UnknownName if there is none."""
        return self._features[feature]

    def create_feature(self, spec: FeatureSpec, *, replace: bool = False) -> FeatureSpec:
        """Make a feature, or take the one that is there if its recipe is the same.

        With `replace`, the feature begins anew, empty, in an array of its own; the old rows stay
        on disk, seen by no one. Raises RecipeMismatch, which names the differing field.
        """
        self._refuse_if_pinned()
        if self._features.create(spec, replace=replace):
            head.note(self.files)
            self.refresh()
            return spec
        self.stored(spec.name).grow()  # a kill may have come between a record and this
        self.writer().absorb(spec.name)  # … or between a compaction and its end
        return self.stored(spec.name).spec

    def check_feature(self, spec: FeatureSpec) -> None:
        """Raise RecipeMismatch where `create_feature` would, and make nothing."""
        if spec.name in self.features:
            self._features.check_recipe(self.features[spec.name], spec)

    def before(self, feature: str) -> list[str]:
        """The arrays that compaction has put the feature's own in the place of, and gc has left."""
        return self._features.before(feature)

    def array_of(self, feature: str, array: str) -> StoredFeature:
        """A feature as it lies in another array than its own."""
        return self._features.in_array(feature, array)

    def _refuse_if_pinned(self) -> None:
        if self._snapshot:
            raise MmfError(
                f"the store {self.files.name!r} is open at snapshot {self._snapshot!r} and takes "
                "nothing. Open it without `snapshot` to write."
            )

    # writing

    def writer(self) -> Writer:
        """A bucket for rows of many videos and features, which commits them together."""
        self._refuse_if_pinned()
        return Writer(self)

    def note(self) -> None:
        """Say in the store's head what this store knows to be the newest."""
        head.note(self.files, newest=self._log.newest, seen=self._log.seen)

    @property
    def newest(self) -> set[str]:
        """The records that no other one names."""
        return self._log.newest

    @property
    def denied(self) -> Denied:
        """The videos that were deleted: `video_id in store.denied`."""
        return self._log.denied

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
        return self.catalog.classes(name)

    def state(self, feature: str) -> dict[str, str]:
        """done, skipped or failed, by video."""
        table = self.stored(feature).outcomes
        return dict(zip(table["video_id"].to_pylist(), table["status"].to_pylist(), strict=True))

    def videos(self) -> pa.Table:
        """Every video: id, split, labels, status per feature, the columns of its manifest.

        Labels and splits are those called "default", labels of whole videos only.
        """
        return overview.videos(self)

    def failures(self) -> pa.Table:
        """Videos that could not be used: video_id, feature, reason, stage, message, attempts."""
        return overview.failures(self)

    def items(
        self,
        split: str | None = None,
        *,
        label_set: str = "default",
        split_set: str | None = None,
        features: Sequence[str] = (),
        require: Literal["all", "any"] = "any",
    ) -> Items:
        """The labelled items of a split (None: of all), ordered by video and start.

        With `features`, only items whose video has rows of any (or all) of them.
        """
        table, _ = self.catalog.labels(label_set)
        splits = self.catalog.split_of(split_set or label_set, table["video_id"])
        table = table.append_column("split", splits)
        kept = self._having(table["video_id"], features, require)
        if split is not None:
            kept &= pc.fill_null(pc.equal(splits, split), False).to_numpy(zero_copy_only=False)
        return Items(table if kept.all() else table.filter(pa.array(kept)))

    def all_items(self, features: Sequence[str] = ()) -> Items:
        """Every video that has rows of any of the features, labelled or not, as a whole item."""
        return Items.of_videos(self.with_rows(features))

    def with_rows(self, features: Sequence[str] = ()) -> pa.ChunkedArray:
        """The videos that have rows of any of the features (none: of all), in order."""
        columns = [self.stored(name).with_rows() for name in features or self.features]
        most = max(columns, key=len, default=pa.chunked_array([], pa.string()))
        others = [ids.filter(pa.array(places(ids, most) < 0)) for ids in columns]
        chunks = [chunk for ids in (most, *others) for chunk in ids.chunks]
        return distinct(pa.chunked_array(chunks, pa.string())) if any(map(len, others)) else most

    def _having(
        self, ids: pa.ChunkedArray, features: Sequence[str], require: Literal["all", "any"]
    ) -> np.ndarray:
        if not features:
            return np.ones(len(ids), dtype=bool)
        found = [self.stored(name).have_rows(ids) for name in features]
        return np.all(found, axis=0) if require == "all" else np.any(found, axis=0)

    # reading

    def read(self, feature: str, video_id: str) -> Track:
        """The rows of one video: values float32 (int32 stays), times in seconds.

        Raises MmfError where it has none, with the reason.
        """
        return self.stored(feature).read(video_id)

    def batch(
        self,
        items: Sequence[Item],
        features: Sequence[str],
        *,
        label_set: str | None = "default",
        max_steps: int | None = None,
        check: bool = False,
    ) -> Batch:
        """These very items as one batch; `label_set` None leaves the labels out.

        With `check`, the rows of every video are compared with their crc32c.
        """
        classes = len(self.classes(label_set)) if label_set else 0
        names = (features,) if isinstance(features, str) else features
        reading = Reading(features=names, classes=classes, max_steps=max_steps, check=check)
        return fill(self, items, reading)

    def batches(
        self,
        features: Sequence[str],
        split: str | None = None,
        batch_size: int = 128,
        seed: int = 0,
        *,
        epoch: int = 0,
        start_batch: int = 0,
        **options: Any,
    ) -> Iterator[Batch]:
        """One epoch of the labelled items of a split, for any model; `options` as for `loader`."""
        loader = self.loader(features, split, batch_size=batch_size, seed=seed, **options)
        return loader.epoch(epoch, start_batch=start_batch)

    def loader(
        self,
        features: Sequence[str],
        split: str | None = None,
        *,
        label_set: str = "default",
        split_set: str | None = None,
        require: Literal["all", "any"] = "any",
        **options: Any,
    ) -> Loader:
        """Batches of the labelled items of a split, epoch after epoch.

        `options` are those of `mmf.store.loader.Loader`: batch_size, seed, shuffle, window_bytes,
        rank, world_size; `max_steps` keeps at most so many evenly spaced rows of an item; `threads`
        read at once; `check` compares rows with their crc32c; `buffers` is memory to be shared.
        """
        features = (features,) if isinstance(features, str) else tuple(features)
        items = self.items(
            split, label_set=label_set, split_set=split_set, features=features, require=require
        )
        classes = len(self.classes(label_set))
        return Loader(store=self, items=items, features=features, classes=classes, **options)

    # identity

    def snapshot(self) -> str:
        """The id of what is visible: records, features and tables; `gc` keeps them from now on.

        `FeatureStore(path, snapshot=id)` shows exactly that again.
        """
        if self._snapshot:
            return self._snapshot
        visible = {
            "records": sorted(p.name for p in self._log.records),
            "features": self._features.versions,
            "catalog": self.catalog.state(),
        }
        try:
            return snapshots.pin(self.files, visible)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            logger.warning("the snapshot is not kept: %s. `gc` may take what it names.", error)
            return snapshots.identify(visible)

    def content_hash(self) -> str:
        """A hash of the visible rows and outcomes, whatever commits they came in."""
        return overview.content_hash(self)
