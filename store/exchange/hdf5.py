"""Features as HDF5, in two layouts; and from HDF5, read as a file of a stranger.

``videos``::

    /rgb/<video>              rows (T, *shape) in the stored dtype
    /rgb.times/<video>        seconds, float64 (T,)

``concatenated``::

    /rgb/values, /rgb/times   all rows, one video after another
    /rgb/video_id, /rgb/start, /rgb/rows

A feature's group carries its recipe as JSON in the attribute ``mmf``. In a video's name the
characters ``%`` and ``/``, and the names ``.`` and ``..``, are written as in URLs (``a%2Fb``).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pyarrow.compute as pc

from mmf.store.exchange.output import chosen, finished, stored_track, videos_with_rows
from mmf.store.feature_store import FeatureStore

Layout = Literal["videos", "concatenated"]
TIMES = ".times"  # no feature's name has a dot


def export_hdf5(
    store: FeatureStore,
    out: str | Path,
    *,
    features: Sequence[str] = (),
    layout: Layout = "videos",
) -> Path:
    """Write ``OUT/features.h5``, a video at a time; returns its path."""
    path = Path(out) / "features.h5"
    names = chosen(store, features)
    with finished(path) as part, h5py.File(part, "w", libver="latest") as file:
        file.attrs["mmf.layout"] = layout
        for feature in names:
            group = file.create_group(feature)
            spec = store.features[feature]
            group.attrs["mmf"] = json.dumps(spec.to_json())
            if spec.dtype == "uint8":
                group.attrs["scale_factor"], group.attrs["add_offset"] = spec.scale_offset
            write = _write_videos if layout == "videos" else _write_concatenated
            write(store, feature, group)
    return path


def link_name(video_id: str) -> str:
    """The video's id as the name of a link."""
    if set(video_id) <= {"."}:
        return video_id.replace(".", "%2E")
    return video_id.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")


def _write_videos(store: FeatureStore, feature: str, group: Any) -> None:
    times = group.parent.create_group(feature + TIMES)
    for video in videos_with_rows(store, feature):
        track = stored_track(store, feature, video)
        group.create_dataset(link_name(video), data=track.values)
        times.create_dataset(link_name(video), data=track.times)


def _write_concatenated(store: FeatureStore, feature: str, group: Any) -> None:
    stored = store.stored(feature)
    total = int(stored.rows.sum())
    values = group.create_dataset("values", (total, *stored.spec.shape), stored.dtype)
    times = group.create_dataset("times", (total,), "f8")
    rows = stored.rows[stored.rows > 0].astype(np.int64)
    videos = stored.outcomes.filter(pc.greater(stored.outcomes["rows"], 0))["video_id"]
    group.create_dataset("video_id", data=videos.to_pylist(), dtype=h5py.string_dtype())
    group.create_dataset("start", data=np.cumsum(rows) - rows)
    group.create_dataset("rows", data=rows)
    at = 0
    for video in videos_with_rows(store, feature):
        track = stored_track(store, feature, video)
        values[at : at + len(track)], times[at : at + len(track)] = track.values, track.times
        at += len(track)
