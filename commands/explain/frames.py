"""The frames that stand beside an explanation, of those videos whose files are found."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from mmf.fuse.explain.selection import Selected
    from mmf.fuse.explain.subject import Subject
    from mmf.store import FeatureStore, Item


def segment_frames(
    subject: "Subject", drawn: Sequence["Selected"], videos: str | None
) -> dict[str, dict[int, "np.ndarray"]]:
    """A frame for each segment of the items whose videos are found, from the segment's middle."""
    each = [(one.item, one.times) for one in drawn]
    asked = [(item, ((t.start + t.end) / 2).tolist(), t.begins) for item, t in each]
    found = item_frames(subject.store, asked, videos)
    return {item: dict(enumerate(pictures)) for item, pictures in found.items()}


def item_frames(
    store: "FeatureStore",
    asked: Sequence[tuple["Item", Sequence[float], float]],
    videos: str | None,
) -> dict[str, list["np.ndarray"]]:
    """Frames of the items whose videos are found, at the seconds that are asked for of each.

    The third of each is when its video begins, by its rows.
    """
    from mmf.extract.frames import Wanted, frames_at

    wanted = {}
    for item, times, begins in asked:
        path = file_of(store, item.video_id, videos)
        if path is not None:
            wanted[item.id] = Wanted(path=path, times=times, begins=begins)
    return dict(frames_at(wanted)) if wanted else {}


def file_of(store: "FeatureStore", video_id: str, videos: str | None) -> str | None:
    """The file of a video, if it is where it is said to be."""
    if videos is not None:
        found = os.path.join(videos, video_id)
        return found if os.path.isfile(found) else None
    return next((path for path in _paths(store, video_id) if os.path.isfile(path)), None)


def _paths(store: "FeatureStore", video_id: str) -> Iterator[str]:
    """Where the video was when its features were extracted."""
    for name in store.features:
        stored = store.stored(name)
        position = stored.position(video_id)
        path = None if position is None else stored.outcomes["path"][position].as_py()
        if path:
            yield path
