"""Pictures of maps over steps, beside the frames: of `attention`, `sensitivity`, `similarity`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmf.commands.explain.frames import Asked, frames_of, say_lacking
from mmf.commands.explain.items import can_draw

if TYPE_CHECKING:
    from mmf.fuse.explain.maps.figure import MapPicture
    from mmf.fuse.explain.subject import Subject

_FRAMES = 10  # of a picture


def draw_all(
    subject: "Subject",
    pictures: Mapping[str, tuple["MapPicture", str, float]],
    folder: Path,
    videos: str | None,
) -> int:
    """Write the picture of each item, (it, its video, the video's first second); how many."""
    if pictures and not can_draw():
        return 0
    from mmf.fuse.explain.maps.figure import draw
    from mmf.store.exchange.output import file_name

    asked = {}
    for item, (picture, video_id, begins) in pictures.items():
        start, end = picture.span
        each = (end - start) / _FRAMES
        times = [start + each * (i + 0.5) for i in range(_FRAMES)] if each else [start]
        asked[item] = Asked(video_id=video_id, times=times, begins=begins)
    frames = frames_of(subject.store, asked, videos)
    for item, (picture, _, _) in pictures.items():
        beside = dict(zip(asked[item].times, frames.get(item, ()), strict=False))
        draw(picture, folder / f"{file_name(item)}.png", beside)
    say_lacking(len(pictures), len(frames), videos)
    return len(pictures)
