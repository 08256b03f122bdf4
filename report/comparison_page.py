"""The page of a comparison: its table as `mmf compare` wrote it, its curves, and every run of it.

Nothing is trained and no store is opened: what the folder holds is shown, also of a comparison that
goes on or was stopped.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from mmf import MmfError
from mmf.fuse.compare.comparison import Answer
from mmf.fuse.compare.curves import over_steps as lines_of
from mmf.fuse.compare.question import FILE, Cell, Question, Row
from mmf.fuse.compare.running import Trained, finished, history
from mmf.report.comparison_table import Rows, differences, over_videos, read_table, shown
from mmf.report.curves import over_steps
from mmf.report.page import Cell as Value
from mmf.report.page import Page, Part, Plot, Section, Table, Text, attempt


def comparison_page(path: str | Path, *, reload_seconds: float = 0.0) -> Page:
    """The page; MmfError where the folder holds no comparison that can be read."""
    folder, question = Path(path), _question(Path(path))
    rows = read_table(folder)
    answers = [_answer(row, question, folder) for row in question.rows]
    sections = [
        attempt("The table", "table", lambda: shown(folder, rows)),
        attempt("Differences", "differences", lambda: differences(rows)),
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


def _curves(answers: Sequence[Answer], rows: Rows) -> list[Part]:
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
    if learning := over_videos(rows, metric):
        figure = over_steps(learning, "training videos", f"test {metric}")
        figure["layout"]["xaxis"]["type"] = "log"
        for trace in figure["data"]:
            trace["mode"] = "lines+markers" if "name" in trace else "lines"
        text = f"Test {metric} over the number of training videos."
        parts.append(Plot(figure=figure, alt=text, caption=text, height=320))
    return parts


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


def _missing(sections: Sequence[Section], rows: Rows) -> list[Part]:
    parts: list[Part] = [
        Text(text=f"{s.title}: {s.failed}", kind="missing") for s in sections if s.failed
    ]
    for row in rows:
        if row.get("failure"):
            parts.append(
                Text(text=f"{row['row']} was not trained: {row['failure']}", kind="missing")
            )
    return parts or [Text(text="Nothing.")]
