"""Some rows of some videos: how many there are of each feature, and which of them are wanted.

A feature whose rows lie on a grid can be extracted in part (`can_choose`): the rows are the very
ones that the whole feature would have, at their numbers, and what lies between is not computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmf.extract.decoder.events import Ended
from mmf.extract.decoder.parent import Decoder
from mmf.extract.manifest import Manifest
from mmf.extract.media.some_rows import can_choose
from mmf.extract.request import FeatureRequest

Ranges = tuple[tuple[int, int], ...]  # rows from the first up to, and without, the second


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The rows that a video has of each feature."""

    seconds: float  # of its media
    frames: int
    rows: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The rows that are wanted of a video; a feature that is not named has none of them."""

    seconds: float  # as counted
    rows: Mapping[str, Ranges]

    def has(self, feature: str, row: int) -> bool:
        """Whether a row is wanted."""
        return any(first <= row < end for first, end in self.rows.get(feature, ()))

    def union(self, features: Sequence[str]) -> list[tuple[int, int]]:
        """The rows that any of these features wants, in order."""
        found: list[tuple[int, int]] = []
        for first, end in sorted(r for name in features for r in self.rows.get(name, ())):
            if found and first <= found[-1][1]:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((first, end))
        return found


def choosable(request: FeatureRequest) -> bool:
    """Whether rows of the feature can be chosen: they are counted without decoding."""
    return can_choose(request.signal)


def count_rows(
    manifest: Manifest, requests: Sequence[FeatureRequest]
) -> Iterator[tuple[str, Counted]]:
    """Each video with the rows that it would have of choosable features, told by its packets.

    Nothing is decoded. A video that cannot be opened is left out: extracting it says why.
    """
    signals = list(dict.fromkeys(request.signal for request in requests))
    with Decoder(signals, plan=True, exactly=True) as decoder:
        for one in manifest.inputs():
            decoder.submit(one.video_id, one.path, size=one.size, sha256=one.sha256)
        for event in decoder.events():
            if isinstance(event, Ended):
                rows = {r.name: event.rows[signals.index(r.signal)] for r in requests}
                seconds, frames = event.media.duration or 0.0, event.media.frames
                yield event.key, Counted(seconds=seconds, frames=frames, rows=rows)
