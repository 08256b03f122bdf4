"""Captions: the file beside a media file, read into timed cues.

webvtt-py reads SRT, WebVTT and SBV, ttconv TTML and SCC; a cue whose times or text are broken is
passed over and counted.
"""

import functools
import html
import io
import os
import re
from dataclasses import dataclass

import webvtt
import webvtt.errors

from mmf.extract.media.timed_text import Shown, is_timed_text, parse_timed_text, rolls

SUFFIXES = (".srt", ".vtt", ".sbv", ".ttml", ".dfxp", ".scc")
FLASH = 0.02  # seconds; nobody reads a cue so short: YouTube's repeat lines for 0.01
MAX_BYTES = 16 << 20  # of one caption file; what follows is not read

_SBV_TIMES = re.compile(r"^\d+:\d\d:\d\d\.\d{3},\d+:\d\d:\d\d\.\d{3}\s*$", re.MULTILINE)
_TAG = re.compile(r"</?[A-Za-z0-9][^<>]*>|\{[^{}]*\}")  # <i>, <c.red>, <00:01.500>, {\an8}
_INLINE_TIME = re.compile(r"<\d+:[\d:.]+>")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
# ISO 639-2 codes, as media files have them, that do not begin with their two letters
_SHORT = {
    "ger": "de", "spa": "es", "est": "et", "gre": "el", "jpn": "ja", "chi": "zh", "zho": "zh",
    "por": "pt", "pol": "pl", "swe": "sv", "tur": "tr", "ukr": "uk", "cze": "cs", "ces": "cs",
    "dut": "nl", "nld": "nl", "ind": "id", "per": "fa", "slv": "sl", "bul": "bg", "kaz": "kk",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cue:
    """One caption: when it is shown, in seconds, and its text without tags."""

    start: float
    end: float
    text: str


def beside(path: str, language: str) -> str | None:
    """The caption file of the media file at `path`, or None.

    ``clip.srt`` or ``clip.mp4.srt`` has no language, ``clip.en.vtt`` has. Language '' takes one
    without a language first, then the first of any; a language takes only its own.
    """
    folder, name = os.path.split(path)
    stem = os.path.splitext(name)[0]
    try:
        table = _captions_of(folder or ".", os.stat(folder or ".").st_mtime_ns)
    except OSError:
        return None
    found = sorted({*table.get(stem, ()), *table.get(name, ())})
    tagged = [(_language(other, stem, name), other) for other in found]
    fitting = [
        (tag != language, tag, SUFFIXES.index(os.path.splitext(other)[1].lower()), other)
        for tag, other in tagged
        if not language or same_language(tag, language)
    ]
    return os.path.join(folder, min(fitting)[-1]) if fitting else None


def same_language(one: str, other: str) -> bool:
    """Whether two tags (en, en-US, eng) name one language."""
    return bool(one) and bool(other) and primary(one) == primary(other)


def primary(tag: str) -> str:
    """The two letters of a tag's language: en of en, en-US and eng."""
    tag = re.split(r"[-_]", tag.lower())[0]
    return _SHORT.get(tag, tag[:2])


def _language(caption: str, stem: str, name: str) -> str:
    bare = os.path.splitext(caption)[0]
    for prefix in (name, stem):
        if bare == prefix:
            return ""
        if bare.startswith(prefix + "."):
            return bare[len(prefix) + 1 :]
    return ""


@functools.lru_cache(maxsize=4)
def _captions_of(folder: str, _changed: int) -> dict[str, list[str]]:
    """The caption files of a folder by every stem they may belong to; listed once per change."""
    table: dict[str, list[str]] = {}
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(SUFFIXES)]
    for name in names:
        bare = os.path.splitext(name)[0]
        table.setdefault(bare, []).append(name)
        before, dot, tag = bare.rpartition(".")
        if dot and re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*", tag):
            table.setdefault(before, []).append(name)
    return table


def read_captions(path: str) -> tuple[list[Cue], int]:
    """The cues of a caption file in order of time, and how many malformed ones were passed over."""
    with open(path, "rb") as file:
        return parse_captions(decode_text(file.read(MAX_BYTES)))


def decode_text(raw: bytes) -> str:
    """Text in the encoding of its byte order mark; else UTF-8; else Latin-1. Never raises."""
    for mark, encoding in _BOMS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start >= len(raw) - 4 and len(raw) == MAX_BYTES:  # cut inside a character
            return raw[: error.start].decode("utf-8")
        return raw.decode("latin-1")


def parse_captions(text: str) -> tuple[list[Cue], int]:
    """As `read_captions`, from text in any of the formats."""
    found, malformed = parse_timed_text(text) if is_timed_text(text) else _parse(text)
    # YouTube's automatic captions scroll: each cue shows the line of the one before again, with
    # times between the words in WebVTT, and as a flash between two cues in SRT as well
    flashes = any(0 < end - start < FLASH for start, end, _ in found)  # 0: no end was given
    rolling = rolls(text) or flashes or _INLINE_TIME.search(text) is not None
    cues: list[Cue] = []
    shown: list[str] = []  # the lines of the cue before
    for start, end, raw in found:
        lines = [line for line in map(plain, raw) if line]
        if not lines:
            malformed += not rolling  # YouTube's have blank ones between
            continue
        news = _without_overlap(shown, lines) if rolling else lines
        shown = lines
        if news:
            cues.append(Cue(start=start, end=max(start, end), text="\n".join(news)))
    return sorted(cues, key=lambda cue: cue.start), malformed


def _parse(text: str) -> tuple[list[Shown], int]:
    """What webvtt-py finds, and how many times it could not take."""
    kind, times = "srt", text.count("-->")
    if text.lstrip().startswith("WEBVTT"):
        kind, text = "vtt", text.lstrip()
    elif re.search(r"\d\.\d{3}\s+-->", text):  # SubRip has commas: its header was lost
        kind, text = "vtt", f"WEBVTT\n\n{text}"
    elif _SBV_TIMES.search(text):
        kind, times = "sbv", len(_SBV_TIMES.findall(text))
    try:
        found = list(webvtt.from_buffer(io.StringIO(text), format=kind))
    except webvtt.errors.MalformedFileError:
        return [], times
    shown = [(_seconds(c.start), _seconds(c.end), c.raw_text.splitlines()) for c in found]
    return shown, max(0, times - len(found))


def _seconds(time: str) -> float:
    hours, minutes, seconds = time.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def plain(line: str) -> str:
    """A line without tags, entities and control characters."""
    return _CONTROL.sub("", html.unescape(_TAG.sub("", line))).strip()


def _without_overlap(shown: list[str], lines: list[str]) -> list[str]:
    for count in range(min(len(shown), len(lines)), 0, -1):
        if shown[-count:] == lines[:count]:
            return lines[count:]
    return lines
