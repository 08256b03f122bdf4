"""Closed captions in the pictures of a video stream (CEA-608, field 1, CC1), read from its packets.

North American video carries them as user data of each picture (ATSC A/53 part 4): ``GA94``, type
3, a count, and triplets of a marker and two bytes. H.264, HEVC and MPEG-2 hold these bytes as they
are, so that no picture is decoded. What the bytes say is written down as a SCC file would have it,
and read as one is.
"""

from collections.abc import Iterator
from contextlib import suppress

import av
from av.packet import Packet

from mmf.extract.media.captions import Cue, parse_captions
from mmf.extract.media.opening import Limits, open_media
from mmf.extract.media.streams import best_stream, seconds
from mmf.extract.media.timed_text import SCC

_MARK = b"GA94\x03"
_VALID, _FIELD_1, _COUNT = 0x04, 0, 0x1F
_FRAME = 1001 / 30000  # seconds; the time codes of SCC count them
PROBED = 300  # packets of video; the pictures of one that is captioned have the mark throughout

Word = tuple[int, int]


def words_of(packet: bytes) -> Iterator[Word]:
    """The pairs of bytes of field 1 in one picture, without parity; none for an empty one."""
    at = packet.find(_MARK)
    while at >= 0:
        at += len(_MARK)
        count = packet[at] & _COUNT if at < len(packet) else 0
        triplets = packet[at + 2 : at + 2 + 3 * count]
        for marker, first, second in zip(*(triplets[n::3] for n in range(3)), strict=False):
            word = (first & 0x7F, second & 0x7F)
            if marker & _VALID and marker & 3 == _FIELD_1 and word != (0, 0):
                yield word
        at = packet.find(_MARK, at)


class ClosedCaptions:
    """Gathers the captions of one video stream from its packets, whatever their order."""

    def __init__(self) -> None:
        self._words: list[tuple[float, int, Word]] = []  # by time, then as they came

    def see(self, packet: Packet) -> None:
        """Takes what a packet has."""
        if packet.pts is None:
            return
        time = seconds(packet.pts, packet.stream)
        for word in words_of(bytes(packet)):
            self._words.append((time, len(self._words), word))

    @property
    def say_something(self) -> bool:
        """Whether there is a character among them."""
        return any(first >= 0x20 for _, _, (first, _) in self._words)

    def cues(self, start: float) -> list[Cue]:
        """What is shown when, on the axis of a file that begins at `start`."""
        lines = [f"{SCC} V1.0\n"]
        for time, (first, second) in _first_channel(sorted(self._words)):
            frames = max(0, round((time - start) / _FRAME))
            code = f"{_odd(first):02x}{_odd(second):02x}"
            lines.append(f"{_time_code(frames)}\t{code}\n")
        found, _ = parse_captions("\n".join(lines)) if self.say_something else ([], 0)
        return [Cue(start=c.start + start, end=c.end + start, text=c.text) for c in found]


def _first_channel(words: list[tuple[float, int, Word]]) -> Iterator[tuple[float, Word]]:
    """The words of CC1; commands are sent twice, to be obeyed once."""
    ours, before = True, None
    for time, _, word in words:
        if 0x10 <= word[0] < 0x20:
            ours = not word[0] & 0x08
            if word == before:
                before = None
                continue
        before = word
        if ours and word[0] >= 0x10:  # below are messages about the programme
            yield time, word


def _odd(byte: int) -> int:
    """The byte with its bit of parity."""
    return byte | (0x80 if byte.bit_count() % 2 == 0 else 0)


def _time_code(frames: int) -> str:
    minutes, left = divmod(frames, 60 * 30)
    return f"{minutes // 60:02}:{minutes % 60:02}:{left // 30:02}:{left % 30:02}"


def has_closed_captions(path: str, limits: Limits) -> bool:
    """Whether there is a character in the pictures; reads up to the first one."""
    found = ClosedCaptions()
    with open_media(path, limits) as source, suppress(av.FFmpegError, OSError, ValueError):
        video = best_stream(source.container, "video")
        marked = False
        for number, packet in enumerate(source.container.demux(video) if video else ()):
            marked = marked or _MARK in bytes(packet)
            if number >= PROBED and not marked:
                return False
            found.see(packet)
            if found.say_something:
                return True
    return False
