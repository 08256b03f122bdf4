"""The frames that stand beside an explanation, of those videos whose files are found."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from mmf.fuse.explain.selection import Selected
    from mmf.fuse.explain.subject import Subject
    from mmf.store import FeatureStore


def segment_frames(
    subject: "Subject", drawn: Sequence["Selected"], videos: str | None
) -> dict[str, dict[int, "np.ndarray"]]:
    """A frame for each segment of the items whose videos are found, from the segment's middle."""
    from mmf.extract.frames import Wanted, frames_at

    wanted = {}
    for selected in drawn:
        path, times = file_of(subject.store, selected.item.video_id, videos), selected.times
        if path is not None:
            middles = ((times.start + times.end) / 2).tolist()
            wanted[selected.item.id] = Wanted(path=path, times=middles, begins=times.begins)
    found = frames_at(wanted) if wanted else {}
    return {item: dict(enumerate(pictures)) for item, pictures in found.items()}


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
