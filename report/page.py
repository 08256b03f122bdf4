"""What a page is made of, before it is HTML: sections of simple parts.

Whatever videos, classes and captions are called stands in these as it is; it is escaped where it
becomes HTML (`rendering`), and where it becomes a plot's text (`plots.label`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mmf import MmfError

Cell = str | int | float | None


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph; `missing` says what could not be made, `code` is shown as typed."""

    text: str
    kind: Literal["plain", "note", "missing", "code"] = "plain"
    folded: str = ""  # the line to open it by; "": it stands open


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and what they are, in two columns."""

    facts: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that can be sorted by each column and, where it is long, filtered.

    A column of numbers alone stands to the right; None is an empty cell and sorts last.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise MmfError(
                    f"a row of {len(row)} cells in a table of {len(self.columns)} columns: "
                    "expected a cell, or None, for each."
                )


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure as plotly takes it, ``{"data": …, "layout": …}``, without colours.

    Colours come from the page's theme (page.js). `alt` says what it shows to those who do not see
    it; `numbers` are its data as a table. `pictures` are shown while a point whose `customdata` is
    their key is pointed at.
    """

    figure: Mapping[str, Any]
    alt: str
    caption: str = ""
    height: int = 320  # pixels
    width: int = 0  # pixels at most; 0: as wide as the page
    numbers: Table | None = None
    pictures: Mapping[str, "Picture"] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as a file's bytes: PNG, JPEG, WebP or SVG."""

    data: bytes
    alt: str
    caption: str = ""

    @property
    def kind(self) -> str:
        """Its media type, by its first bytes."""
        for start, kind in _KINDS.items():
            if self.data.startswith(start):
                return kind
        raise MmfError(
            f"a picture that begins with {self.data[:8]!r}: expected PNG, JPEG, WebP or SVG."
        )


_KINDS = {
    b"\x89PNG": "image/png",
    b"\xff\xd8": "image/jpeg",
    b"RIFF": "image/webp",
    b"<svg": "image/svg+xml",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """One item: what is said of it, its pictures in order of time, what is heard and read."""

    title: str
    facts: Mapping[str, str]
    pictures: Sequence[Picture] = ()
    lines: Sequence[str] = ()  # captions
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Cards:
    """Cards side by side."""

    cards: Sequence[Card]


Part = Text | Facts | Table | Plot | Picture | Cards


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands below it; `id` is its anchor."""

    title: str
    id: str
    parts: Sequence[Part]

    @property
    def failed(self) -> str:
        """Why it, or a part of it, could not be made; '' where all of it is there."""
        return " ".join(p.text for p in self.parts if isinstance(p, Text) and p.kind == "missing")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole page. With `reload_seconds` it loads itself again, for a run that goes on."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    reload_seconds: float = 0.0


# what a user meets: a library or memory that is not there, files and devices that fail
_EXPECTED = (MmfError, OSError, ImportError, MemoryError, RuntimeError)


def attempt(title: str, id: str, make: Callable[[], Sequence[Part]]) -> Section:
    """The section, or why it could not be made: one that fails keeps no other from the page."""
    try:
        parts = make()
    except _EXPECTED as error:
        parts = [Text(text=f"This could not be made: {error}", kind="missing")]
    return Section(title=title, id=id, parts=parts)
