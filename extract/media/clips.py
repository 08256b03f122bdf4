"""Rows that are clips: frames at a stride from a time on, several clips on their way at once.

A clip is begun when it is settled which frame is nearest to its time, and given when its last frame
is there; frames are cropped as they come, so that no decoded frame is held for long.
"""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from mmf.extract.media.pictures import Picture
from mmf.extract.sampling import Grid
from mmf.extract.signals import Clips

_SIDES = {1: (0,), 3: (-1, 0, 1)}


@dataclass(kw_only=True)
class _Clip:
    """A clip on its way: the pictures it has, by how many frames they lie behind its first."""

    number: int
    begin: int  # number of its first frame
    time: float
    crops: dict[int, list[np.ndarray]] = field(default_factory=dict)


class ClipRows:
    """The rows of one Clips signal: pictures in, (time, payload) out, in order.

    With `only`, only these rows: pictures may then begin at the first of them.
    """

    def __init__(self, signal: Clips, grid: Grid, only: Collection[int] | None = None):
        self._signal, self._grid, self._only = signal, grid, only
        self._firsts = range(0, signal.frames * signal.stride, signal.stride)
        self._wanted = {f + i for f in self._firsts for i in range(1 + signal.pairs)}
        self._sides = _SIDES[signal.crops]
        self._clips: deque[_Clip] = deque()
        self._begun = 0 if only is None else min(only) // signal.crops  # clips
        self._seen = 0  # pictures
        self._before: Picture | None = None
        self._last: Picture | None = None

    def push(self, picture: Picture, end: float) -> Iterator[tuple[float, np.ndarray]]:
        """The rows that are complete now that `picture` follows the last one."""
        last = self._last
        if last is not None:
            middle = last.time + (picture.time - last.time) / 2
            self._begin(min(self._grid.rows_until(middle), self._grid.rows_before(end)))
        self._before, self._last = last, picture
        for clip in self._clips:
            self._take(clip, self._seen - clip.begin, picture)
        self._seen += 1
        while self._clips and max(self._wanted) in self._clips[0].crops:
            yield from self._give(self._clips.popleft())

    def finish(self, end: float) -> Iterator[tuple[float, np.ndarray]]:
        """The rows left before `end`.

        Behind the video's end stands its last frame, or the pair of its last two.
        """
        if self._last is None:
            return
        self._begin(self._grid.rows_before(end))
        for clip in self._clips:
            yield from self._give(clip)
        self._clips.clear()

    def _begin(self, until: int) -> None:
        """Begin the clips before number `until` at the last picture."""
        last = self._last
        while last is not None and self._begun < until:
            if any(map(self._is_wanted, self._rows_of(self._begun))):
                clip = _Clip(number=self._begun, begin=self._seen - 1, time=last.time)
                self._take(clip, 0, last)
                self._clips.append(clip)
            self._begun += 1

    def _rows_of(self, clip: int) -> range:
        crops = self._signal.crops
        return range(clip * crops, (clip + 1) * crops)

    def _is_wanted(self, row: int) -> bool:
        return self._only is None or row in self._only

    def _take(self, clip: _Clip, behind: int, picture: Picture) -> None:
        if behind in self._wanted:
            clip.crops[behind] = self._cropped(picture)

    def _cropped(self, picture: Picture) -> list[np.ndarray]:
        return [picture.cropped(self._signal, side) for side in self._sides]

    def _give(self, clip: _Clip) -> Iterator[tuple[float, np.ndarray]]:
        steps = range(1 + self._signal.pairs)
        pictures: list[list[np.ndarray]] = []
        for first in self._firsts:
            there = [clip.crops[first + i] for i in steps if first + i in clip.crops]
            pictures += there if len(there) == len(steps) else self._tail()
        for side, number in enumerate(self._rows_of(clip.number)):
            if not self._is_wanted(number):
                continue
            row = np.stack([crops[side] for crops in pictures]).reshape(self._signal.row_shape)
            if self._signal.shuffle is not None:
                random = np.random.default_rng([self._signal.shuffle, number])
                row = row[random.permutation(len(row))]
            yield clip.time, row

    def _tail(self) -> list[list[np.ndarray]]:
        """The video's last frame, or with `pairs` its last two."""
        last = self._last
        assert last is not None
        pair = [self._before or last, last] if self._signal.pairs else [last]
        return [self._cropped(picture) for picture in pair]
