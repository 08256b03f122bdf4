"""What a page shows of videos, as whoever may open them hands it over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from mmf.report.page import Picture
from mmf.store import FeatureStore, Item

_WIDE, _TALL = 480, 60  # of a waveform's drawing


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """What is seen, heard and read of an item."""

    frames: Sequence[tuple[float, bytes]]  # seconds, and the file of a picture
    sound: Float[np.ndarray, " N"]  # the largest amplitude of each of N parts of its time, 0 to 1
    cues: Sequence[tuple[float, str]]  # seconds, and what is written

    def pictures(self) -> list[Picture]:
        """Its frames, and its sound as a drawing."""
        found = [
            Picture(data=data, alt=f"Frame at {seconds:.1f} seconds")
            for seconds, data in self.frames
        ]
        return [*found, waveform(self.sound)] if len(self.sound) else found


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of a video of which frames are wanted; its rows begin at `begins`."""

    video_id: str
    times: Sequence[float]
    begins: float = 0.0


@runtime_checkable
class Media(Protocol):
    """Opens videos for a page."""

    def clips(self, store: FeatureStore, items: Sequence[Item]) -> Mapping[str, Clip | str]:
        """Of each item, by its id: what there is of it, or why there is nothing."""

    def thumbnails(self, store: FeatureStore, video_ids: Sequence[str]) -> Mapping[str, bytes]:
        """The file of a small picture of each video that is found."""

    def segments(self, subject: Any, drawn: Sequence[Any]) -> Mapping[str, Mapping[int, Any]]:
        """Of each selected item whose video is found, a frame of each of its segments."""

    def frames(self, store: FeatureStore, times: Mapping[str, Times]) -> Mapping[str, list[Any]]:
        """By the same keys, the frames at these seconds of the videos that are found."""


class NoMedia:
    """Where videos are not looked for."""

    def clips(self, store: FeatureStore, items: Sequence[Item]) -> Mapping[str, Clip | str]:
        """Nothing."""
        return dict.fromkeys((item.id for item in items), "videos were not looked for")

    def thumbnails(self, store: FeatureStore, video_ids: Sequence[str]) -> Mapping[str, bytes]:
        """Nothing."""
        return {}

    def segments(self, subject: Any, drawn: Sequence[Any]) -> Mapping[str, Mapping[int, Any]]:
        """Nothing."""
        return {}

    def frames(self, store: FeatureStore, times: Mapping[str, Times]) -> Mapping[str, list[Any]]:
        """Nothing."""
        return {}


def waveform(sound: Float[np.ndarray, " N"]) -> Picture:
    """The drawing of a sound's amplitudes: a closed line, mirrored at the middle."""
    x = np.linspace(0, _WIDE, len(sound) + 1)
    half = np.clip(np.append(sound, sound[-1:]), 0.01, 1) * _TALL / 2
    above = [f"{a:.0f},{_TALL / 2 - h:.1f}" for a, h in zip(x, half, strict=True)]
    below = [f"{a:.0f},{_TALL / 2 + h:.1f}" for a, h in zip(x[::-1], half[::-1], strict=True)]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_TALL}" '
        f'preserveAspectRatio="none"><polygon fill="#5b8fbf" points="{" ".join(above + below)}"/>'
        "</svg>"
    )
    return Picture(data=svg.encode(), alt=f"Waveform, loudest at {sound.max():.0%} of full scale")
