"""The frames that stand beside an explanation, of those videos whose files are found."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np

    from mmf.fuse.explain.selection import Selected
    from mmf.fuse.explain.subject import Subject
    from mmf.store import FeatureStore


def segment_frames(
    subject: "Subject", drawn: Sequence["Selected"], videos: str | None
) -> dict[str, dict[int, "np.ndarray"]]:
    """A frame for each segment of the items whose videos are found, from the segment's middle."""
    asked = {}
    for selected in drawn:
        times = selected.times
        middles = ((times.start + times.end) / 2).tolist()
        asked[selected.item.id] = Asked(
            video_id=selected.item.video_id, times=middles, begins=times.begins
        )
    found = frames_of(subject.store, asked, videos)
    return {item: dict(enumerate(pictures)) for item, pictures in found.items()}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Seconds of a video of which frames are wanted."""

    video_id: str
    times: Sequence[float]
    begins: float  # the first row of any feature


def frames_of(
    store: "FeatureStore", asked: Mapping[str, Asked], videos: str | None
) -> dict[str, list["np.ndarray"]]:
    """The frames at these seconds of the videos that are found, by the key of what was asked."""
    from mmf.extract.frames import Wanted, frames_at

    wanted = {}
    for key, one in asked.items():
        path = file_of(store, one.video_id, videos)
        if path is not None:
            wanted[key] = Wanted(path=path, times=one.times, begins=one.begins)
    return frames_at(wanted) if wanted else {}


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


def say_lacking(drawn: int, found: int, videos: str | None) -> None:
    """Say how many pictures have no frames, where some have none."""
    if lacking := drawn - found:
        where = f"in {videos!r}" if videos else "where they were extracted; --videos names a folder"
        click.echo(f"without frames: {lacking} of {drawn} pictures, whose videos are not {where}")
