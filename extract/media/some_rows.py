"""Some rows of a file, the very ones that `decode` would give among all, and little else decoded.

Where the container has an index that can be trusted (`SEEKABLE`), reading begins at the keyframe
before a row that is wanted, and ends behind it; rows that are near each other are read in one go.
Elsewhere, and where the index leads astray, pictures are decoded from the file's start to the last
row. Sound is decoded whole, which costs little: a resampler remembers where it began.
"""

import math
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from av.packet import Packet

from mmf.extract.media.decoding import DECODING_ERRORS, Done, Opened, Pass, Request, Row, grid_of
from mmf.extract.media.opening import Unusable, declared_duration, open_media
from mmf.extract.media.streams import seconds, step_of
from mmf.extract.signals import Clips, Pictures, Signal, Waves

SEEKABLE = ("mov", "matroska")
NEAR = 1.0  # seconds between rows that are decoded through: keyframes are rarely as dense


def can_choose(signal: Signal) -> bool:
    """Whether some rows of the signal can be had alone: their times are known beforehand."""
    return isinstance(signal, Waves) or (isinstance(signal, Pictures) and signal.sample == "grid")


def decode_some(
    path: str, signals: Sequence[Signal], request: Request, end: float
) -> Iterator[Opened | Row | Done]:
    """As `decode`, the rows of `request.only` alone, of a file whose time is `end` seconds long.

    Every signal is named there. Raises Unusable also where the file has not all of these rows.
    """
    only = {i: rows for i, rows in (request.only or {}).items() if rows}
    shown = {i: rows for i, rows in only.items() if isinstance(signals[i], Pictures)}
    with open_media(path, request.limits) as source:
        request.facts.size_bytes = source.size_bytes
        yield Opened(duration=declared_duration(source.container))
        heard = {i: () if i in shown else only.get(i, ()) for i in range(len(signals))}
        one = Pass(source, signals, replace(request, only=heard), None)
        until = one.clock.start + end
        if one.sounds:
            yield from one.rows()
        stretches = _stretches(one, shown, until)
    given = list(one.counts)
    for stretch in stretches:
        for row in _pictures(path, signals, replace(request, only=stretch.only), stretch, until):
            given[row.signal] += 1
            yield row
    request.facts.duration = end
    lacking = {i: len(rows) - given[i] for i, rows in only.items() if len(rows) > given[i]}
    if lacking:
        raise Unusable("undecodable", "decode", f"{sum(lacking.values())} rows are not there.")
    yield Done(rows=tuple(given), missing={})


@dataclass(kw_only=True)
class _Stretch:
    """Rows of pictures that are decoded in one go."""

    begin: float | None  # seconds of the file's clock, where reading may begin; None: at its start
    until: float = -math.inf
    only: dict[int, list[int]] = field(default_factory=dict)


def _stretches(one: Pass, shown: Mapping[int, Collection[int]], end: float) -> list[_Stretch]:
    """What is read in one go: a new stretch begins at a keyframe behind the end of the last one."""
    found: list[_Stretch] = []
    step = step_of(one.video) if one.video is not None else 0.0
    for time, lasts, index, row in sorted(_times(one, shown, end, step)):
        if not found or time - found[-1].until > NEAR:
            begin = time - 2 * step  # so that it has a neighbour whatever it is
            key = _keyframe(one, begin)
            if not found or (key is not None and key > found[-1].until):
                found.append(_Stretch(begin=None if key is None else begin))
        found[-1].only.setdefault(index, []).append(row)
        found[-1].until = max(found[-1].until, time + lasts)
    return found


def _keyframe(one: Pass, begin: float) -> float | None:
    """The time of the last keyframe at or before `begin`, unless that is none but the first."""
    if begin <= one.clock.start or one.container.format.name.split(",")[0] not in SEEKABLE:
        return None
    return None if _from_keyframe(one, begin) is None else one.shown


def _times(
    one: Pass, shown: Mapping[int, Collection[int]], end: float, step: float
) -> Iterator[tuple[float, float, int, int]]:
    """When each row begins and how long it lasts, with its signal and number."""
    for index, rows in shown.items():
        signal = one.signals[index]
        if not isinstance(signal, Pictures):
            continue
        grid = grid_of(signal, one.clock.start, end, step)
        crops, lasts = 1, step
        if isinstance(signal, Clips):
            crops, lasts = signal.crops, signal.frames * signal.stride * step
        for row in rows:
            yield grid.time(row // crops), lasts, index, row


def _pictures(
    path: str, signals: Sequence[Signal], request: Request, stretch: _Stretch, end: float
) -> Iterator[Row]:
    only = {i: stretch.only.get(i, []) for i in range(len(signals))}
    request = replace(request, only=only)
    for begin in dict.fromkeys((stretch.begin, None)):
        with open_media(path, request.limits) as source:
            one = Pass(source, signals, request, end)
            one.clock.end = end
            one.decoders()
            packets = one.packets() if begin is None else _from_keyframe(one, begin)
            if packets is not None and (yield from _read(one, packets, begin is not None)):
                return


def _from_keyframe(one: Pass, begin: float) -> Iterator[Packet] | None:
    """The packets from the last keyframe at or before `begin` on; None where none is found."""
    video = one.video
    if video is None or not video.time_base:
        return None
    try:
        one.container.seek(math.floor(begin / video.time_base), stream=video)
    except DECODING_ERRORS:
        return None
    packets = one.packets()
    first = next((p for p in packets if p.stream.index == video.index), None)
    if first is None or first.pts is None or not first.is_keyframe:
        return None
    time = seconds(first.pts, video)
    if time > begin:
        return None
    # what is shown before the keyframe refers to what is not read, and is left out
    one.shown = math.nextafter(time, -math.inf)
    return chain([first], packets)


def _read(one: Pass, packets: Iterator[Packet], sought: bool) -> Generator[Row, None, bool]:
    """The rows wanted; gives back whether these were they, or too little was read to tell."""
    frames, wanted = one.facts.frames, sum(map(len, (one.request.only or {}).values()))
    for packet in packets:
        if one.video is not None and packet.stream.index == one.video.index:
            yield from one.picture_rows(packet)
            if sum(one.counts) == wanted:
                return True
    if one.facts.frames - frames < 2 and sought:
        return False
    for index, pictures in one.pictures.items():
        yield from one.numbered(index, pictures.finish(one.clock.end))
    return True
