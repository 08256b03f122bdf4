"""What a comparison's table.csv and table.md say, as parts of a page."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmf.fuse.compare.curves import Line
from mmf.report.page import Cell, Part, Plot, Table, Text
from mmf.report.plots import Numbers, axes, labels, rounded, tall

Rows = Sequence[Mapping[str, str]]  # of the CSV

_ELSEWHERE = ("fusion", "aggregate", "features", "train_videos", "failure")  # on the page


def read_table(folder: Path) -> list[dict[str, str]]:
    """The rows of table.csv; none while the comparison goes on."""
    place = folder / "table.csv"
    if not place.exists():
        return []
    with place.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shown(folder: Path, rows: Rows) -> list[Part]:
    """The table with a dot for each row, and its notes."""
    if not rows:
        text = "The table is written when every run is finished; the runs so far are below."
        return [Text(text=text, kind="missing")]
    metric = _metric(rows)
    first = [n for n in ("row", "chosen", metric, f"{metric} sd") if n in rows[0]]
    order = dict.fromkeys([*first, *_starting(rows, "difference"), *rows[0]])
    used = [n for n in order if n not in _ELSEWHERE and any(row[n] for row in rows)]
    table = Table(columns=used, rows=[[value(row[n]) for n in used] for row in rows])
    done = [row for row in rows if row.get(metric)]
    parts: list[Part] = []
    if done:
        means = [float(row[metric]) for row in done]
        spread = [float(row.get(f"{metric} sd") or 0) for row in done]
        best = done[max(range(len(done)), key=means.__getitem__)]
        parts.append(
            _dots(
                [row["row"] for row in done],
                means,
                (spread, spread),
                f"test {metric}",
                f"Test {metric} of each row, mean and standard deviation over seeds; the best is "
                f"{best['row']} with {float(best[metric]):.4f}.",
            )
        )
    notes = _notes(folder)
    return [*parts, table, *(Text(text=note, kind="note") for note in notes)]


def _starting(rows: Rows, with_: str) -> list[str]:
    return [name for name in rows[0] if name.startswith(with_)]


def value(text: str) -> Cell:
    """A cell of the CSV: a number where it is one."""
    try:
        number = float(text)
    except ValueError:
        return text or None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and "." not in text else number


def _metric(rows: Rows) -> str:
    """The task's main metric, by which validation has chosen."""
    prefix = "validation "
    return next((n.removeprefix(prefix) for n in rows[0] if n.startswith(prefix)), "")


def _notes(folder: Path) -> list[str]:
    """What stands below the table in table.md: seeds, intervals, what is published."""
    place = folder / "table.md"
    if not place.exists():
        return []
    lines = place.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("|")]


def differences(rows: Rows) -> list[Part]:
    """The difference of each row to the one it is held against, with its interval."""
    found = [row for row in rows if row.get("difference")]
    if not found:
        return [Text(text="No difference with its interval is there.", kind="note")]
    middle, low, high = (
        [float(row[name]) for row in found]
        for name in ("difference", "difference low", "difference high")
    )
    below = [m - x for m, x in zip(middle, low, strict=True)]
    above = [x - m for m, x in zip(middle, high, strict=True)]
    names, metric = [row["row"] for row in found], _metric(rows)
    sure = sum(a > 0 or b < 0 for a, b in zip(low, high, strict=True))
    text = (
        f"Difference in test {metric} to the row they are held against, with 95 % intervals; "
        f"{sure} of {len(found)} intervals leave 0 out."
    )
    return [_dots(names, middle, (below, above), f"difference in {metric}", text, zero=True)]


def _dots(
    names: Sequence[str],
    middle: Numbers,
    spread: tuple[Numbers, Numbers],
    x: str,
    text: str,
    *,
    zero: bool = False,
) -> Plot:
    """A dot and its interval for each name."""
    below, above = spread
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(middle),
        "y": labels(names),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": rounded(above),
            "arrayminus": rounded(below),
            "thickness": 1.5,
            "width": 4,
        },
        "marker": {"size": 9},
        "hovertemplate": "%{y}: %{x:.4f}<extra></extra>",
        "meta": {"series": 0},
    }
    layout = axes(x, "")
    layout["xaxis"] |= {"zeroline": zero, "zerolinewidth": 2}
    layout["yaxis"] |= {"type": "category", "autorange": "reversed"}
    return Plot(
        figure={"data": [trace], "layout": layout},
        alt=text,
        caption=text,
        height=tall(len(names), row=28),
    )


def over_videos(rows: Rows, metric: str) -> list[Line]:
    """As `fuse.compare.curves.over_videos`, from the table."""
    points: dict[str, list[tuple[int, float, float]]] = {}
    for row in rows:
        number = row.get("train_videos")
        if number and row.get(metric):
            name = row["row"].removesuffix(f"-{number}")
            one = int(number), float(row[metric]), float(row.get(f"{metric} sd") or 0)
            points.setdefault(name, []).append(one)
    lines = []
    for name, found in points.items():
        x, mean, sd = (tuple(column) for column in zip(*sorted(found), strict=True))
        lines.append(Line(name=name, x=x, mean=mean, sd=sd))
    return lines if len({n for line in lines for n in line.x}) > 1 else []
