"""Figures as plotly takes them: plain dictionaries, without colours, with nothing in them obeyed.

Plotly reads ``<b>``, ``<a href>`` and entities in every text of a figure, so whatever videos and
classes are called goes through `label`. Axes of names are of type ``category``: plotly would take
"2019" for a date.
"""

import html
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Shaped

_SIGNS = 60  # of a label
_DIGITS = 5

Figure = dict[str, Any]
Numbers = Sequence[int | float]


def label(text: str, signs: int = _SIGNS) -> str:
    """A name as plotly shows it and never obeys it; one that is long loses its middle."""
    shown = text if len(text) <= signs else f"{text[: signs // 2]} … {text[-signs // 3 :]}"
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    return html.escape(plain, quote=False)


def labels(names: Sequence[str], signs: int = 40) -> list[str]:
    """Labels of an axis; plotly takes equal ones for one, so those get a number."""
    found: dict[str, str] = {}  # in order: label → name
    for name in names:
        short = label(name, signs)
        free = (f"{short} ({n})" if n > 1 else short for n in count(1))
        found[next(one for one in free if one not in found)] = name
    return [*found]


def rounded(values: Shaped[np.ndarray, "..."] | Numbers) -> list[Any]:
    """Numbers with five digits, as nested lists: what a plot shows, at a third of the bytes."""
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(np.abs(array))))
        found = np.where(np.isfinite(scale), np.round(array * scale) / scale, array)
    return found.tolist()


def line(x: Numbers, y: Numbers, name: str, series: int, **more: Any) -> dict[str, Any]:
    """A line in a colour of the series; with a single point, that point."""
    mode = "lines" if len(x) > 1 else "markers"
    return {
        "type": "scatter",
        "mode": mode,
        "x": list(x),
        "y": rounded(y),
        "name": label(name),
        "meta": {"series": series},
        **more,
    }


def band(x: Numbers, low: Numbers, high: Numbers, series: int) -> dict[str, Any]:
    """What lies between two lines, faintly in a colour of the series."""
    return {
        "type": "scatter",
        "x": [*x, *reversed(x)],
        "y": rounded([*high, *reversed(low)]),
        "fill": "toself",
        "hoverinfo": "skip",
        "showlegend": False,
        "meta": {"series": series, "band": True},
    }


def binned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts of values in at most 40 even bins, and their edges."""
    return np.histogram(values, bins=min(40, max(1, len(np.unique(values)))))


def histogram(values: np.ndarray, name: str, x: str, y: str) -> Figure:
    """Counts of values in even bins; the values themselves are not in the page."""
    counts, edges = binned(values)
    middles, width = (edges[1:] + edges[:-1]) / 2, float(edges[1] - edges[0])
    trace = {
        "type": "bar",
        "x": rounded(middles),
        "y": counts.tolist(),
        "width": width * 0.96,
        "name": label(name),
        "hovertemplate": "%{x:.4g}: %{y:,}<extra></extra>",
        "meta": {"series": 0},
    }
    return {"data": [trace], "layout": axes(x, y)}


def bars(names: Sequence[str], values: Numbers, x: str, *, series: int = 0) -> Figure:
    """A bar for each name, one below the other."""
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": rounded(values),
        "y": labels(names),
        "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
        "meta": {"series": series},
    }
    layout = axes(x, "")
    layout["yaxis"] |= {"type": "category", "autorange": "reversed"}
    return {"data": [trace], "layout": layout}


def axes(x: str, y: str, **more: Any) -> dict[str, Any]:
    """A layout with titles of its axes."""
    return {"xaxis": {"title": {"text": label(x)}}, "yaxis": {"title": {"text": label(y)}}, **more}


def tall(rows: int, *, least: int = 180, row: int = 22) -> int:
    """Pixels of a plot with a name beside each of its rows."""
    return max(least, 90 + row * rows)


def stacked(parts: Mapping[str, Mapping[str, int]], x: str) -> Figure:
    """A bar for each name, in pieces: {piece: {name: number}}."""
    names = list(dict.fromkeys(name for of in parts.values() for name in of))
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(piece),
            "x": [of.get(name, 0) for name in names],
            "y": labels(names),
            "hovertemplate": "%{y}: %{x:,}",
            "meta": {"series": number},
        }
        for number, (piece, of) in enumerate(parts.items())
    ]
    layout = axes(x, "", barmode="stack", legend={"traceorder": "normal"})
    layout["yaxis"] |= {"type": "category", "autorange": "reversed"}
    return {"data": traces, "layout": layout}
