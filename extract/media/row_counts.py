"""How many rows a media file will give, told by its header, or by its packets; nothing is decoded.

The header is believed where it says how long the streams are, which is a matter of milliseconds.
The packets are read where it does not or is not to be, and where rows are counted by them:
keyframes and embedded captions. Captions in the pictures are not foreseen, and what decoding shows
later (an edit list, damage) may differ.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

from mmf.extract.media.decoding import DECODING_ERRORS, Done, Opened, Pass, Request, grid_of
from mmf.extract.media.opening import declared_duration, open_media
from mmf.extract.media.streams import best_stream, seconds, step_of
from mmf.extract.sampling import Grid
from mmf.extract.signals import Clips, Pictures, Signal, Waves


def plan(path: str, signals: Sequence[Signal], request: Request) -> Iterator[Opened | Done]:
    """Opened, then Done with the rows of each signal that are to be expected.

    `request.facts` gets the duration and the number of frames. Raises Unusable where the file
    cannot even be opened.
    """
    with open_media(path, request.limits) as source:
        request.facts.size_bytes = source.size_bytes
        yield Opened(duration=declared_duration(source.container))
        one_pass = Pass(source, signals, request, None)
        one_pass.find_captions(path)
        end, packets = _declared_end(one_pass), Counter[int]()
        keyframes = any(isinstance(s, Pictures) and s.sample == "keyframes" for s in signals)
        captioned = any(rows.stream is not None for rows in one_pass.cues.values())
        if end is None or keyframes or captioned or request.exactly:
            packets = _count_packets(one_pass)
            end = one_pass.clock.end
        request.facts.duration = end - one_pass.clock.start
        request.facts.frames = _frames(one_pass, packets)
        rows = [_rows(one_pass, index, end, packets) for index in range(len(signals))]
        silent = [i for i in one_pass.cues if not rows[i] and i not in one_pass.sounds]
        missing = dict.fromkeys(silent, "no_captions")
        yield Done(rows=tuple(rows), missing={**one_pass.missing, **missing})


def _declared_end(one_pass: Pass) -> float | None:
    """Where the best streams end, as the header has it, in seconds of the file's clock."""
    best = [s for s in (one_pass.video, best_stream(one_pass.container, "audio")) if s is not None]
    if best and all(stream.duration for stream in best):
        return max(seconds((s.start_time or 0) + (s.duration or 0), s) for s in best)
    duration = declared_duration(one_pass.container)
    return None if duration is None else one_pass.clock.start + duration


_KEYFRAMES = -1  # what they are counted under, beside the streams


def _count_packets(one_pass: Pass) -> Counter[int]:
    """Packets by stream, and the keyframes of the video."""
    found = Counter[int]()
    with suppress(*DECODING_ERRORS):  # the pass that decodes says what is wrong
        for packet in one_pass.container.demux():
            one_pass.clock.see(packet)
            if packet.size and not packet.is_discard:
                found[packet.stream.index] += 1
                found[_KEYFRAMES] += packet.is_keyframe and packet.stream == one_pass.video
    return found


def _frames(one_pass: Pass, packets: Counter[int]) -> int:
    video = one_pass.video
    if video is None:
        return 0
    counted = packets[video.index] or video.frames
    step = step_of(video)
    return counted or round((one_pass.facts.duration or 0.0) / step if step else 0)


def _rows(one_pass: Pass, index: int, end: float, packets: Counter[int]) -> int:
    signal, start = one_pass.signals[index], one_pass.clock.start
    if index in one_pass.missing:
        return 0
    if isinstance(signal, Waves):
        if packets and not any(packets[stream] for stream in one_pass.sounds[index].tracks):
            return 0
        return Grid(start=start, fps=signal.fps, limit=signal.limit).rows_before(end)
    if not isinstance(signal, Pictures):
        cues = one_pass.cues[index]
        return len(cues.cues) if cues.stream is None else packets[cues.stream]
    if signal.sample == "keyframes":
        return packets[_KEYFRAMES]
    step = step_of(one_pass.video) if one_pass.video is not None else 0.0
    crops = signal.crops if isinstance(signal, Clips) else 1
    return crops * grid_of(signal, start, end, step).rows_before(end)
