"""A run's curves: its losses and what it was chosen by, over steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmf.report.page import Part, Plot, Table, Text
from mmf.report.plots import Figure, axes, band, line

_ROWS = 400  # of the numbers beside a curve
_NO_CURVE = ("stage",)


def curves(rows: Sequence[Mapping[str, Any]], best: int | None) -> list[Part]:
    """The curves of a metrics.jsonl; `best` is the step whose weights are kept."""
    if not rows:
        return [Text(text="The run has not been evaluated yet.", kind="missing")]
    names = [n for n in dict.fromkeys(name for row in rows for name in row) if n not in _NO_CURVE]
    losses = [n for n in names if n.endswith("loss")]
    others = [n for n in names if n.startswith("val_") and n not in losses]
    few = rows[:: -(-len(rows) // _ROWS)]
    numbers = Table(columns=names, rows=[[row.get(n) for n in names] for row in few])
    if not others:
        return [_curve(rows, losses, "loss", best, numbers)]
    title = others[0].removeprefix("val_") if len(others) == 1 else "validation"
    return [
        _curve(rows, losses, "loss", best, None),
        _curve(rows, others, title, best, numbers),
    ]


def _curve(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    title: str,
    best: int | None,
    numbers: Table | None,
) -> Plot:
    traces, ends = [], []
    for number, name in enumerate(names):
        there = [row for row in rows if row.get(name) is not None]
        values = [row[name] for row in there]
        traces.append(line([row["step"] for row in there], values, _said(name), number))
        ends.append(f"{_said(name)} from {values[0]:.4g} to {values[-1]:.4g}" if values else "")
    layout = axes("step", title)
    if best is not None:
        layout["shapes"] = [
            {
                "type": "line",
                "x0": best,
                "x1": best,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"dash": "dot", "width": 1, "color": "#888888"},
            }
        ]
        layout["annotations"] = [
            {
                "x": best,
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "text": "best",
                "showarrow": False,
            }
        ]
    return Plot(
        figure={"data": traces, "layout": {**layout, "hovermode": "x unified"}},
        alt=f"{title} over steps: {'; '.join(ends)}.",
        height=280,
        numbers=numbers,
    )


def _said(name: str) -> str:
    split, _, rest = name.partition("_")
    return f"{rest}, {'validation' if split == 'val' else split}"


def over_steps(lines: Sequence[Any], x: str, y: str) -> Figure:
    """Lines with a band of a deviation (`fuse.compare.curves.Line`)."""
    traces = []
    for number, one in enumerate(lines):
        low = [m - s for m, s in zip(one.mean, one.sd, strict=True)]
        high = [m + s for m, s in zip(one.mean, one.sd, strict=True)]
        if any(one.sd):
            traces.append(band(one.x, low, high, number))
        traces.append(line(one.x, one.mean, one.name, number))
    return {"data": traces, "layout": axes(x, y)}
