"""The page of a comparison: its table as `mmf compare` wrote it, its curves, and every run of it.

Nothing is trained and no store is opened: what the folder holds is shown, also of a comparison that
goes on or was stopped.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from mmf import MmfError
from mmf.fuse.compare.comparison import Answer
from mmf.fuse.compare.curves import Line
from mmf.fuse.compare.curves import over_steps as lines_of
from mmf.fuse.compare.question import FILE, Cell, Question, Row
from mmf.fuse.compare.running import Trained, finished, history
from mmf.report.curves import over_steps
from mmf.report.page import Cell as Value
from mmf.report.page import Page, Part, Plot, Section, Table, Text, attempt
from mmf.report.plots import Numbers, axes, labels, rounded, tall

_ELSEWHERE = ("fusion", "aggregate", "features", "train_videos", "failure")  # on the page


def comparison_page(path: str | Path, *, reload_seconds: float = 0.0) -> Page:
    """The page; MmfError where the folder holds no comparison that can be read."""
    folder, question = Path(path), _question(Path(path))
    rows = _table(folder)
    answers = [_answer(row, question, folder) for row in question.rows]
    sections = [
        attempt("The table", "table", lambda: _shown(folder, rows)),
        attempt("Differences", "differences", lambda: _differences(rows)),
        attempt("Curves", "curves", lambda: _curves(answers, rows)),
        attempt("What each row is", "rows", lambda: _rows(question)),
        attempt("Every run", "runs", lambda: _runs(question, folder)),
    ]
    sections.append(attempt("Missing and failed", "missing", lambda: _missing(sections, rows)))
    return Page(
        title=f"Comparison {folder.resolve().name}",
        subtitle=f"{len(question.rows)} rows, {_seeds(question)}",
        sections=sections,
        reload_seconds=reload_seconds,
    )


def is_finished(path: str | Path) -> bool:
    """Whether every run of it is finished and its table written."""
    folder, question = Path(path), _question(Path(path))
    runs = (c for row in question.rows for cell in row.cells for c in question.runs(cell, folder))
    return (folder / "table.csv").exists() and all(finished(config) for config in runs)


def _question(folder: Path) -> Question:
    place = folder / FILE
    try:
        return Question.from_json(json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, MmfError):
            raise
        raise MmfError(f"{str(place)!r} holds no comparison: {error!r}.") from error


def _seeds(question: Question) -> str:
    return "one seed" if question.seeds == 1 else f"{question.seeds} seeds"


def _table(folder: Path) -> list[dict[str, str]]:
    """The rows of table.csv; none while the comparison goes on."""
    place = folder / "table.csv"
    if not place.exists():
        return []
    with place.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _shown(folder: Path, rows: Sequence[Mapping[str, str]]) -> list[Part]:
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


def _starting(rows: Sequence[Mapping[str, str]], with_: str) -> list[str]:
    return [name for name in rows[0] if name.startswith(with_)]


def value(text: str) -> Value:
    """A cell of the CSV: a number where it is one."""
    try:
        number = float(text)
    except ValueError:
        return text or None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and "." not in text else number


def _metric(rows: Sequence[Mapping[str, str]]) -> str:
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


def _differences(rows: Sequence[Mapping[str, str]]) -> list[Part]:
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


def _answer(row: Row, question: Question, folder: Path) -> Answer:
    """The finished runs of the row's cell that did best in validation."""
    best: tuple[float, Cell, tuple[Trained, ...]] | None = None
    for cell in row.cells:
        runs = [finished(config) for config in question.runs(cell, folder)]
        there = tuple(run for run in runs if run is not None)
        if len(there) == len(runs):
            rank = fmean(run.value for run in there)
            if best is None or rank > best[0]:
                best = rank, cell, there
    if best is None:
        return Answer(row=row, failure="not finished")
    return Answer(row=row, cell=best[1], runs=best[2])


def _curves(answers: Sequence[Answer], rows: Sequence[Mapping[str, str]]) -> list[Part]:
    done = [answer for answer in answers if answer.runs]
    if not done:
        return [Text(text="No row is finished yet.", kind="missing")]
    metric = done[0].runs[0].metric
    lines = lines_of(done)
    ends = [f"{one.name} {one.mean[-1]:.4f}" for one in lines if one.mean]
    parts: list[Part] = [
        Plot(
            figure=over_steps(lines, "step", f"validation {metric}"),
            alt=f"Validation {metric} over steps, mean over seeds. At the end: {', '.join(ends)}.",
            caption=f"Validation {metric}, mean and one standard deviation over seeds.",
            height=380,
        )
    ]
    if learning := _over_videos(rows, metric):
        figure = over_steps(learning, "training videos", f"test {metric}")
        figure["layout"]["xaxis"]["type"] = "log"
        for trace in figure["data"]:
            trace["mode"] = "lines+markers" if "name" in trace else "lines"
        text = f"Test {metric} over the number of training videos."
        parts.append(Plot(figure=figure, alt=text, caption=text, height=320))
    return parts


def _over_videos(rows: Sequence[Mapping[str, str]], metric: str) -> list[Line]:
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


def _rows(question: Question) -> list[Part]:
    configs = {row.name: [cell.config.to_json() for cell in row.cells] for row in question.rows}
    every = [config for of in configs.values() for config in of]
    varying = [n for n in every[0] if len({json.dumps(c[n], sort_keys=True) for c in every}) > 1]
    columns = ["row", *varying]
    rows = [
        [name, *(_values([config[n] for config in of]) for n in varying)]
        for name, of in configs.items()
    ]
    same = {n: v for n, v in every[0].items() if n not in varying and n != "out"}
    text = json.dumps(same, indent=2)
    return [
        Table(columns=columns, rows=rows, caption="Where the rows differ"),
        Text(text=text, kind="code", folded="What they share"),
    ]


def _values(found: Sequence[object]) -> str:
    """What the cells of a row have: one thing, or what was tried."""
    texts = [
        ", ".join(map(str, v))
        if isinstance(v, list)
        else v
        if isinstance(v, str)
        else json.dumps(v)
        for v in found
    ]
    return " | ".join(dict.fromkeys(texts))


def _runs(question: Question, folder: Path) -> list[Part]:
    rows: list[list[Value]] = []
    for row in question.rows:
        for cell in row.cells:
            for config in question.runs(cell, folder):
                chosen = ", ".join(f"{k}={v}" for k, v in cell.chosen.items())
                rows.append([row.name, chosen, config.seed, *_state(finished(config), config.out)])
    done = sum(row[3] == "finished" for row in rows)
    columns = ["row", "setting", "seed", "state", "steps", "best validation"]
    return [
        Text(text=f"{done} of {len(rows)} runs are finished.", kind="note"),
        Table(columns=columns, rows=rows),
    ]


def _state(run: Trained | None, out: str | Path) -> list[Value]:
    if run is not None:
        return ["finished", run.step, run.value]
    known = history(Path(out))
    if known:
        return ["not finished", known[-1]["step"], None]
    return ["begun" if Path(out).exists() else "not begun", None, None]


def _missing(sections: Sequence[Section], rows: Sequence[Mapping[str, str]]) -> list[Part]:
    parts: list[Part] = [
        Text(text=f"{s.title}: {s.failed}", kind="missing") for s in sections if s.failed
    ]
    for row in rows:
        if row.get("failure"):
            parts.append(
                Text(text=f"{row['row']} was not trained: {row['failure']}", kind="missing")
            )
    return parts or [Text(text="Nothing.")]
