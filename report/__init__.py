"""What was done as one self-contained page: a run, a comparison, a store.

A page is a list of `Section`, each a title and simple parts: text, facts, tables, plots, pictures,
cards. `write_page` makes the HTML of it. Frames and sound of videos come in through `media.Media`:
nothing here opens a video.
"""

from mmf.report.page import (
    Card,
    Cards,
    Facts,
    Page,
    Part,
    Picture,
    Plot,
    Section,
    Table,
    Text,
    attempt,
)
from mmf.report.rendering import write_page

__all__ = [
    "Card",
    "Cards",
    "Facts",
    "Page",
    "Part",
    "Picture",
    "Plot",
    "Section",
    "Table",
    "Text",
    "attempt",
    "write_page",
]
