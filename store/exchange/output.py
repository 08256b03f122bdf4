"""What every export does: choose videos, read them one by one, give a finished file its name."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np

from mmf import MmfError
from mmf.store.feature_store import FeatureStore
from mmf.store.files import sync_folder
from mmf.store.items import Item
from mmf.store.track import Track

_LONGEST = 180  # signs; with an ending and the mark of an unfinished one, a file's may have 255


def file_name(name: str) -> str:
    """The name of a video or an item as a file's: slashes and other signs as in URLs, and short."""
    quoted = quote(name, safe=" @")
    if len(quoted) <= _LONGEST:
        return quoted
    return f"{quoted[:_LONGEST]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends well, and is removed if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def chosen(store: FeatureStore, features: Sequence[str]) -> list[str]:
    """The features asked for, all where none are named; MmfError where there is none."""
    names = [store.stored(f).spec.name for f in features] or sorted(store.features)
    if not names:
        raise MmfError(f"the store {store.files.name!r} has no features to export.")
    return names


def stored_track(store: FeatureStore, feature: str, video_id: str) -> Track:
    """The rows of one video in the stored dtype, with their times."""
    stored = store.stored(feature)
    position = stored.position(video_id)
    batch = store.batch([Item(video_id=video_id)], [feature], label_set=None)
    rows = int(batch.lengths[feature][0])
    times = stored.times(position) if position is not None and rows else np.empty(0)
    return Track(video_id=video_id, values=batch.values[feature][0][:rows], times=times)


def videos_with_rows(store: FeatureStore, feature: str) -> Iterator[str]:
    """The videos that have rows of a feature, in the order of their ids."""
    stored = store.stored(feature)
    with_rows = np.flatnonzero(stored.rows)
    for at in range(0, len(with_rows), 4096):
        yield from stored.outcomes["video_id"].take(with_rows[at : at + 4096]).to_pylist()
