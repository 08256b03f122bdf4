"""A store as YouTube-8M's TFRecords, which its readers take as their own.

``OUT/<shard>.tfrecord`` where an import kept the shards, with the records in their old order; else
``OUT/data-00000-of-00004.tfrecord``, … in the order of the ids.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf import MmfError
from mmf.store.exchange import youtube8m
from mmf.store.exchange.import_catalog import SEGMENTS
from mmf.store.exchange.output import finished, stored_track
from mmf.store.exchange.tfrecord import write_record
from mmf.store.feature_store import FeatureStore
from mmf.store.spec import FeatureSpec
from mmf.store.track import Track

VIDEOS_PER_FILE = 1024


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """What an export wrote."""

    files: int
    videos: int


def export_youtube8m(
    store: FeatureStore,
    out: str | Path,
    *,
    features: Mapping[str, str] | None = None,
    level: Literal["frame", "video"] = "frame",
    label_set: str = "default",
) -> ExportResult:
    """Write frame-level SequenceExamples, or video-level Examples.

    `features` maps YouTube-8M's keys (rgb, audio) to features of the store; by default they are
    called so. Numbers are quantised as YouTube-8M's are; video-level means are of what the codes
    mean, unless the store has mean_rgb and mean_audio. Labels are the numbers that the classes are
    called, else their positions, which vocabulary.csv then names.
    """
    keys = [*youtube8m.FRAME_KEYS, *(youtube8m.VIDEO_KEYS if level == "video" else ())]
    named = features or {k: k for k in keys if k in store.features}
    _check(store, named)
    labels = _Labels(store, label_set)
    folder = Path(out)
    written = 0
    files = _files(store, sorted({*named.values()}))
    for name, ids in files.items():
        with finished(folder / f"{name}.tfrecord") as part, open(part, "wb") as file:
            for video in ids:
                tracks = _tracks(store, named, video, level)
                record = labels.of(youtube8m.Video(video_id=video, tracks=tracks))
                write_record(file, youtube8m.write_video(record))
        written += len(ids)
    if labels.named:
        with (
            finished(folder / "vocabulary.csv") as part,
            open(part, "w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([("Index", "Name"), *enumerate(labels.classes)])
    return ExportResult(files=len(files), videos=written)


def _check(store: FeatureStore, named: Mapping[str, str]) -> None:
    if not named:
        raise MmfError(
            f"the store {store.files.name!r} has no feature called rgb or audio. Say which are "
            "meant: --feature rgb=NAME."
        )
    for key, feature in named.items():
        if key not in youtube8m.FRAME_KEYS and key not in youtube8m.VIDEO_KEYS:
            raise MmfError(f"--feature {key}={feature}: YouTube-8M's keys are rgb and audio.")
        shape = store.stored(feature).spec.shape
        if len(shape) != 1:
            raise MmfError(f"feature {feature!r} has rows of shape {shape}; expected vectors.")


def _files(store: FeatureStore, features: list[str]) -> dict[str, list[str]]:
    """The videos of each file, in order."""
    parts = []
    for feature in features:
        table = store.stored(feature).outcomes
        parts.append(table.filter(pc.greater(table["rows"], 0)).select(["video_id", "path"]))
    table = pa.concat_tables(parts).group_by("video_id").aggregate([("path", "min")])
    catalog = store.catalog.videos()
    shard = pa.nulls(len(table), pa.string())
    if "shard" in catalog.column_names:
        shard = catalog["shard"].take(pc.index_in(table["video_id"], catalog["video_id"]))
    offset = pc.struct_field(pc.extract_regex(table["path_min"], r"@(?P<at>\d{1,18})$"), "at")
    table = pa.table(
        {"video_id": table["video_id"], "shard": shard, "offset": offset.cast(pa.int64())}
    )
    table = table.sort_by([(c, "ascending") for c in ("shard", "offset", "video_id")])
    files: dict[str, list[str]] = {}
    for video, name in zip(table["video_id"].to_pylist(), table["shard"].to_pylist(), strict=True):
        files.setdefault(name or "", []).append(video)
    rest = sorted(files.pop("", []))
    n = -(-len(rest) // VIDEOS_PER_FILE)
    for i in range(n):
        own = rest[i * VIDEOS_PER_FILE : (i + 1) * VIDEOS_PER_FILE]
        files[f"data-{i:05d}-of-{n:05d}"] = own
    return files


def _tracks(
    store: FeatureStore, named: Mapping[str, str], video: str, level: str
) -> dict[str, Track]:
    tracks = {}
    for key, feature in named.items():
        track = stored_track(store, feature, video)
        if not len(track):
            continue
        spec = store.features[feature]
        if key in youtube8m.VIDEO_KEYS:
            tracks[key] = replace(track, values=spec.decode(track.values))
        elif level == "frame":
            tracks[key] = replace(track, values=_codes(spec, track.values))
        elif f"mean_{key}" not in named:
            mean = spec.decode(track.values).mean(axis=0, dtype=np.float64)[None]
            name = f"mean_{key}"
            tracks[name] = Track(video_id=video, values=mean, times=np.zeros(1))
    return tracks


def _codes(spec: FeatureSpec, values: np.ndarray) -> np.ndarray:
    """Stored rows as YouTube-8M's codes, unchanged where they are that."""
    theirs = youtube8m.feature_spec("rgb", spec.shape[0])
    if (spec.dtype, spec.quantisation) == (theirs.dtype, theirs.quantisation):
        return values
    return theirs.encode(spec.decode(values))


class _Labels:
    """Labels and ratings of videos, as YouTube-8M's numbers."""

    def __init__(self, store: FeatureStore, label_set: str):
        self.classes: tuple[str, ...] = ()
        self.named = False  # the classes are called otherwise than by numbers
        self._whole: dict[str, tuple[int, ...]] = {}
        self._segments: dict[str, dict[youtube8m.Interval, dict[int, bool]]] = {}
        if label_set in store.label_sets:
            self.classes = store.classes(label_set)
            numbers = self._numbers(self.classes)
            table, _ = store.catalog.labels(label_set)
            whole = table.filter(pc.is_null(table["start"]))
            for video, labels in zip(
                *(whole[c].to_pylist() for c in ("video_id", "labels")), strict=True
            ):
                self._whole[video] = tuple(numbers[i] for i in labels)
        if SEGMENTS in store.label_sets:
            self._read_segments(store)

    def of(self, video: youtube8m.Video) -> youtube8m.Video:
        """The video with its labels."""
        name = video.video_id
        return replace(video, labels=self._whole.get(name), segments=self._segments.get(name, {}))

    def _numbers(self, classes: tuple[str, ...]) -> list[int]:
        if all(c.isascii() and c.isdigit() for c in classes):
            return [int(c) for c in classes]
        self.named = True
        return list(range(len(classes)))

    def _read_segments(self, store: FeatureStore) -> None:
        table, classes = store.catalog.labels(SEGMENTS)
        numbers = self._numbers(classes)
        for row in table.filter(pc.is_valid(table["rated"])).to_pylist():
            rated = {numbers[c]: c in row["labels"] for c in row["rated"]}
            at = (row["start"], row["end"])
            self._segments.setdefault(row["video_id"], {})[at] = rated
