"""What stands on a report's page of the videos themselves: frames, sound, captions, thumbnails."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmf.commands.explain.frames import Asked, file_of, frames_of, segment_frames

if TYPE_CHECKING:
    import numpy as np

    from mmf.extract.glimpses import Heard
    from mmf.report.media import Clip, Times
    from mmf.store import FeatureStore, Item

_FRAMES = 4  # of an item
_THUMBNAIL = 96  # pixels
_BYTES = 2_500_000  # of all thumbnails; base64 makes a third more of them


@dataclass(frozen=True, kw_only=True)
class Videos:
    """The videos where they were extracted, or in a folder."""

    folder: str | None = None

    def clips(self, store: "FeatureStore", items: Sequence["Item"]) -> Mapping[str, "Clip | str"]:
        """Frames, sound and captions of the items whose videos are found; or why there are none."""
        from mmf.extract.frames import Wanted, frames_at
        from mmf.extract.glimpses import heard

        paths = {item.id: file_of(store, item.video_id, self.folder) for item in items}
        there = {item.id: path for item in items if (path := paths[item.id])}
        spans = {item.id: self._span(store, item) for item in items}
        wanted = {
            key: Wanted(path=path, times=_inside(*spans[key], _FRAMES))
            for key, path in there.items()
        }
        frames = frames_at(wanted, _THUMBNAIL * 2) if wanted else {}
        sounds = heard(there) if there else {}
        found: dict[str, Clip | str] = {}
        for item in items:
            if item.id not in there:
                found[item.id] = f"video gone: {self._where(store, item.video_id)}"
            elif item.id not in frames and item.id not in sounds:
                found[item.id] = f"video unusable: {there[item.id]}"
            else:
                times = wanted[item.id].times
                shown = list(zip(times, frames.get(item.id, []), strict=False))
                found[item.id] = _clip(shown, sounds.get(item.id), spans[item.id])
        return found

    def thumbnails(self, store: "FeatureStore", video_ids: Sequence[str]) -> Mapping[str, bytes]:
        """A frame from the middle of each video that is found, as many as there is room for."""
        from mmf.extract.frames import Wanted, frames_at

        wanted = {}
        for video in video_ids:
            if path := file_of(store, video, self.folder):
                begin, end = self._whole(store, video)
                wanted[video] = Wanted(path=path, times=[(begin + end) / 2])
        frames = frames_at(wanted, _THUMBNAIL) if wanted else {}
        found: dict[str, bytes] = {}
        room = _BYTES
        for video, (frame,) in frames.items():
            data = _picture(frame, quality=55)
            if (room := room - len(data)) < 0:
                break
            found[video] = data
        return found

    def segments(self, subject: Any, drawn: Sequence[Any]) -> Mapping[str, Mapping[int, Any]]:
        """Of each selected item whose video is found, a frame of each of its segments."""
        return segment_frames(subject, drawn, self.folder)

    def frames(
        self, store: "FeatureStore", times: "Mapping[str, Times]"
    ) -> "Mapping[str, list[np.ndarray]]":
        """By the same keys, the frames at these seconds of the videos that are found."""
        asked = {key: Asked(**vars(one)) for key, one in times.items()}
        return frames_of(store, asked, self.folder)

    def _span(self, store: "FeatureStore", item: "Item") -> tuple[float, float]:
        if item.start is not None and item.end is not None:
            return item.start, item.end
        return self._whole(store, item.video_id)

    def _whole(self, store: "FeatureStore", video: str) -> tuple[float, float]:
        """From 0 to the end of a video in seconds, as far as a feature knows it."""
        end = 0.0
        for name in store.features:
            stored = store.stored(name)
            position = stored.position(video)
            if position is None:
                continue
            end = max(end, stored.outcomes["duration"][position].as_py() or 0.0)
            if not end and stored.rows[position]:
                end = float(stored.times(position)[-1])
        return 0.0, end

    def _where(self, store: "FeatureStore", video: str) -> str:
        """Where the video was, or should be."""
        if self.folder is not None:
            return os.path.join(self.folder, video)
        for name in store.features:
            stored = store.stored(name)
            position = stored.position(video)
            path = None if position is None else stored.outcomes["path"][position].as_py()
            if path:
                return str(path)
        return f"{video} (nobody has kept its path; --videos names a folder)"


def _inside(start: float, end: float, number: int) -> list[float]:
    """So many times evenly inside an interval."""
    return [start + (end - start) * (i + 0.5) / number for i in range(number)]


def _clip(
    frames: Sequence[tuple[float, "np.ndarray"]], sound: "Heard | None", span: tuple[float, float]
) -> "Clip":
    import numpy as np

    from mmf.extract.glimpses import PER_SECOND
    from mmf.report.media import Clip

    start, end = span
    peaks = np.zeros(0) if sound is None else sound.peaks.astype(np.float64)
    peaks = peaks[int(start * PER_SECOND) : max(int(end * PER_SECOND), 1)]
    cues = () if sound is None else tuple(c for c in sound.cues if start <= c[0] <= end)
    return Clip(
        frames=[(seconds, _picture(frame, quality=70)) for seconds, frame in frames],
        sound=_fewer(peaks),
        cues=cues,
    )


def _fewer(peaks: "np.ndarray", most: int = 240) -> "np.ndarray":
    """The largest of each of at most so many parts."""
    import numpy as np

    if len(peaks) <= most:
        return peaks
    edges = np.linspace(0, len(peaks), most, endpoint=False).astype(np.int64)
    return np.maximum.reduceat(peaks, edges)


def _picture(frame: "np.ndarray", *, quality: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()
