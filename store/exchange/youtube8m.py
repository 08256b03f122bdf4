"""What a YouTube-8M record says of a video, and how it is written.

Frame level: a SequenceExample with ``rgb`` and ``audio``, a string of uint8 codes per second. Video
level: an Example with the floats ``mean_rgb`` and ``mean_audio``. The id is ``id``, in the first
version ``video_id``. Segments (third version) are ``segment_start_times``, ``segment_end_times``,
``segment_labels`` and ``segment_scores``, one entry for each rating. MediaPipe's extractor writes
floats under keys of its own; they are quantised as its own converter does.
(google/youtube-8m `readers.py`; mediapipe `media_sequence.h`, `youtube8m/feature_extraction.pbtxt`)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmf import MmfError
from mmf.store.exchange import example as wire
from mmf.store.feature_store import FeatureStore
from mmf.store.spec import FeatureSpec
from mmf.store.track import Track

RECIPE = {"backbone": "youtube8m"}
ID_KEYS = ("id", "video_id", "example/id", "clip/media_id", "clip/data_path")
LABEL_KEYS = ("labels", "clip/label/index")
FRAME_KEYS = {"rgb": ("rgb", "RGB/feature/floats"), "audio": ("audio", "AUDIO/feature/floats")}
VIDEO_KEYS = ("mean_rgb", "mean_audio")
MAX_LABEL = 1 << 20
SEGMENT_KEYS = tuple(f"segment_{k}" for k in ("start_times", "end_times", "labels", "scores"))
_SECONDS = np.arange(1024, dtype=np.float64)
_SECONDS.flags.writeable = False

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Video:
    """One record: rows of one video, its labels and the ratings of its segments."""

    tracks: Mapping[str, Track]  # by feature; uint8 codes, or float32
    labels: tuple[int, ...] | None = None  # None: not labelled
    segments: Mapping[Interval, Mapping[int, bool]] = field(default_factory=dict)
    video_id: str


def feature_spec(name: str, width: int) -> FeatureSpec:
    """The feature that YouTube-8M's rows of this name are: a frame a second, or one per video."""
    frames = name in FRAME_KEYS
    return FeatureSpec(
        name=name,
        modality=name.removeprefix("mean_"),
        shape=(width,),
        dtype="uint8" if frames else "float32",
        rate=1.0 if frames else None,
        recipe=RECIPE,
    )


def features_of(store: FeatureStore) -> list[str]:
    """The features of a store that hold YouTube-8M's rows, what tells most of the store first."""
    names = ("rgb", "mean_rgb", "audio", "mean_audio")
    return [f for f in names if f in store.features and store.features[f].recipe == RECIPE]


def read_video(data: bytes) -> Video:
    """Read one record; MmfError where it is no YouTube-8M record."""
    example = wire.parse(data)
    video = _id(example)
    tracks = {}
    for name, keys in FRAME_KEYS.items():
        for key in keys:
            rows = example.rows(key)
            if rows is not None and len(rows):
                times = _times(example, key, len(rows))
                tracks[name] = Track(video_id=video, values=rows, times=times)
                break
    for name in VIDEO_KEYS:
        value = example.value(name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and len(value):
            tracks[name] = Track(video_id=video, values=value[None], times=np.zeros(1))
    if not tracks:
        held = ", ".join([*example.context, *example.lists]) or "nothing"
        raise MmfError(f"video {video!r} has no rgb, audio, mean_rgb or mean_audio; it has {held}.")
    return Video(
        video_id=video,
        tracks=tracks,
        labels=_labels(example),
        segments=_segments(example),
    )


def write_video(video: Video) -> bytes:
    """The record of a video, in the order of keys that YouTube-8M's own files have."""
    context: dict[str, Any] = {"id": video.video_id.encode()}
    if video.labels is not None:
        context["labels"] = np.array(video.labels, np.int64)
    if video.segments:
        rated = [(*at, c, s) for at, of in video.segments.items() for c, s in sorted(of.items())]
        starts, ends, classes, scores = zip(*rated, strict=True)
        context["segment_start_times"] = np.array(starts, np.int64)
        context["segment_end_times"] = np.array(ends, np.int64)
        context["segment_labels"] = np.array(classes, np.int64)
        context["segment_scores"] = np.array(scores, np.float32)
    for name in VIDEO_KEYS:
        if name in video.tracks:
            context[name] = video.tracks[name].values[0].astype(np.float32)
    lists = {n: video.tracks[n].values for n in FRAME_KEYS if n in video.tracks}
    return wire.build(context, lists)


def _id(example: wire.Example) -> str:
    for key in ID_KEYS:
        value = example.value(key)
        if isinstance(value, list) and len(value) == 1 and value[0]:
            try:
                return value[0].decode()
            except UnicodeDecodeError:
                raise MmfError(f"the record's {key!r} is {value[0][:64]!r}, not UTF-8.") from None
    raise MmfError(f"the record has no id (none of {', '.join(ID_KEYS)}).")


def _times(example: wire.Example, key: str, rows: int) -> np.ndarray:
    """Seconds of the rows: MediaPipe's timestamps in microseconds, else one row a second."""
    if key.endswith("/floats"):
        stamps = example.rows(key.replace("/floats", "/timestamp"))
        if stamps is not None:
            if stamps.shape != (rows, 1) or stamps.dtype != np.int64:
                raise MmfError(f"{key!r} has {rows} rows and timestamps of shape {stamps.shape}.")
            return stamps[:, 0] / 1e6
    return _SECONDS[:rows] if rows <= len(_SECONDS) else np.arange(rows, dtype=np.float64)


def _labels(example: wire.Example) -> tuple[int, ...] | None:
    for key in LABEL_KEYS:
        value = example.value(key)
        if isinstance(value, np.ndarray) and value.dtype.kind == "i":
            return _checked(value)
    return None


def _checked(labels: np.ndarray) -> tuple[int, ...]:
    found = tuple(labels.tolist())
    if found and not (min(found) >= 0 and max(found) <= MAX_LABEL):
        raise MmfError(f"labels {min(found)} to {max(found)}; expected 0 to {MAX_LABEL}.")
    return found


def _segments(example: wire.Example) -> dict[Interval, dict[int, bool]]:
    """What is rated in each segment: class → whether it is there."""
    columns = [example.value(k) for k in SEGMENT_KEYS]
    found = [c for c in columns if isinstance(c, np.ndarray)]
    if not found:
        return {}
    if len({len(c) for c in found}) != 1 or len(found) != len(SEGMENT_KEYS):
        needed = ", ".join(SEGMENT_KEYS)
        raise MmfError(f"{needed}: expected all four, with as many values in each.")
    starts, ends, labels, scores = found
    if (starts >= ends).any():
        raise MmfError("a segment ends before it starts.")
    segments: dict[Interval, dict[int, bool]] = {}
    rows = zip(starts.tolist(), ends.tolist(), _checked(labels), scores.tolist(), strict=True)
    for start, end, label, score in rows:
        segments.setdefault((float(start), float(end)), {})[label] = score >= 0.5
    return segments
