"""TTML (also DFXP and IMSC) and SCC: their paragraphs and times, read by ttconv.

A paragraph is one cue; its times count from those of what it lies in.
"""

import importlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

from mmf.extract.media.opening import Unusable

SCC = "Scenarist_SCC"
_TTML = re.compile(r"<(\w+:)?tt[\s>]")
_ROLL_UP = re.compile(r"\b(9425|9426|94a7)\b", re.IGNORECASE)  # 2, 3 or 4 lines
# what ttconv and its XML parser raise at text that is neither
_BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, SyntaxError)

Shown = tuple[float, float, list[str]]  # start and end in seconds, lines


def is_timed_text(text: str) -> bool:
    """Whether the text is TTML or SCC rather than SRT, WebVTT or SBV."""
    head = text[:4096]
    return head.startswith(SCC) or (head.startswith("<") and _TTML.search(head) is not None)


def rolls(text: str) -> bool:
    """Whether each caption shows lines of the one before again: SCC's roll-up."""
    return text.startswith(SCC) and _ROLL_UP.search(text) is not None


def parse_timed_text(text: str) -> tuple[list[Shown], int]:
    """What is shown when, and how many malformed paragraphs were passed over."""
    try:
        model = _scc(text) if text.startswith(SCC) else _ttml(text)
    except _BROKEN:
        return [], 1
    body = model.get_body() if model is not None else None
    if body is None:
        return [], int(model is None)
    found = list(_paragraphs(body, *_times(body, Fraction(0), None)))
    timed = any(own for _, own in found)  # elsewhere the times lie on what paragraphs lie in
    good = [shown for shown, own in found if (own or not timed) and shown[0] <= shown[1]]
    return [shown for shown in good if shown[2]], len(found) - len(good)


def _scc(text: str) -> Any:
    return _reader("scc").to_model(text)


def _ttml(text: str) -> Any:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # TTML has none; they swell
        raise ValueError(text[:100])
    return _reader("imsc").to_model(ElementTree.ElementTree(ElementTree.fromstring(text)))


def _reader(format: str) -> ModuleType:
    try:
        return importlib.import_module(f"ttconv.{format}.reader")
    except ModuleNotFoundError as error:
        raise Unusable(
            "no_caption_reader", "captions", "TTML and SCC need ttconv: pip install ttconv."
        ) from error


def _paragraphs(
    element: Any, start: Fraction, end: Fraction | None
) -> Iterator[tuple[Shown, bool]]:
    """Every paragraph below, and whether it has a time of its own."""
    for child in element:
        began, ended = _times(child, start, end)
        if type(child).__name__ != "P":
            yield from _paragraphs(child, began, ended)
            continue
        leaves = list(_leaves(child, began, ended))
        text = "".join(leaf[2] for leaf in leaves)
        lines = [" ".join(line.split()) for line in text.split("\n")]
        spoken = [leaf for leaf in leaves if leaf[2].strip()] or [(began, ended, "")]
        first = min(leaf[0] for leaf in spoken)
        last = max((leaf[1] if leaf[1] is not None else leaf[0]) for leaf in spoken)
        shown = (float(first), float(last), [line for line in lines if line])
        yield shown, child.get_begin() is not None


def _leaves(
    element: Any, start: Fraction, end: Fraction | None
) -> Iterator[tuple[Fraction, Fraction | None, str]]:
    """The texts below with their times; a line break is one too."""
    for child in element:
        kind = type(child).__name__
        if kind == "Text":
            yield start, end, child.get_text()
        elif kind == "Br":
            yield start, end, "\n"
        else:
            yield from _leaves(child, *_times(child, start, end))


def _times(element: Any, start: Fraction, end: Fraction | None) -> tuple[Fraction, Fraction | None]:
    """When an element begins and ends, for a parent that begins and ends so."""
    ended = element.get_end()
    return start + (element.get_begin() or 0), end if ended is None else start + ended
