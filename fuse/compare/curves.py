"""A comparison's pictures: the metric over steps, and over training videos where these vary.

Each line is the mean over a row's seeds, in a band of one standard deviation to either side. A
curve over steps is of validation, and ends where the first of its seeds stopped; one over videos is
of the test split. Drawn with matplotlib, from the extra ``plots``.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mmf.fuse.compare.comparison import Answer
from mmf.fuse.compare.running import history

_COLOURS = 10  # of matplotlib's default cycle; then the next kind of line
_KINDS = ("-", "--", ":", "-.")
_FORMATS = ("png", "svg")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: the mean and the deviation over seeds at each x."""

    name: str
    x: tuple[int, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]


def draw(answers: Sequence[Answer], folder: Path) -> list[str]:
    """Write curves.png and .svg, and learning_curve.png and .svg; the names of what is written.

    Nothing is where matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return []
    metric = next(answer.runs[0].metric for answer in answers if answer.runs)
    pictures = {"curves": (over_steps(answers), "step", f"validation {metric}", False)}
    if lines := over_videos(answers):
        pictures["learning_curve"] = (lines, "training videos", f"test {metric}", True)
    names = []
    for name, (lines, x, y, logarithmic) in pictures.items():
        figure = _drawn(lines, x, y, logarithmic=logarithmic)
        for form in _FORMATS:
            figure.savefig(folder / f"{name}.{form}", dpi=150, bbox_inches="tight")
            names.append(f"{name}.{form}")
    return names


def over_steps(answers: Sequence[Answer]) -> list[Line]:
    """The validation metric of each row's runs at the steps that all of them reached."""
    lines = []
    for answer in answers:
        if not answer.runs:
            continue
        key = f"val_{answer.runs[0].metric}"
        curves = [{row["step"]: row[key] for row in history(run.path)} for run in answer.runs]
        steps = [step for step in curves[0] if all(step in curve for curve in curves)]
        values = [[curve[step] for curve in curves] for step in steps]
        lines.append(_line(answer.row.name, steps, values))
    return lines


def over_videos(answers: Sequence[Answer]) -> list[Line]:
    """The test metric of rows that differ in their number of training videos alone."""
    points: dict[str, dict[int, list[float]]] = {}
    for answer in answers:
        if answer.cell is None or (number := answer.cell.config.train_videos) is None:
            continue
        name = answer.row.name.removesuffix(f"-{number}")
        values = [
            one.metrics[run.metric] for one, run in zip(answer.scores, answer.runs, strict=True)
        ]
        points.setdefault(name, {})[number] = values
    lines = []
    for name, found in points.items():
        numbers = sorted(found)
        lines.append(_line(name, numbers, [found[n] for n in numbers]))
    return lines if len({n for line in lines for n in line.x}) > 1 else []


def _line(name: str, x: Sequence[int], values: Sequence[Sequence[float]]) -> Line:
    return Line(
        name=name,
        x=tuple(x),
        mean=tuple(fmean(v) for v in values),
        sd=tuple(stdev(v) if len(v) > 1 else 0.0 for v in values),
    )


def _drawn(lines: Sequence[Line], x: str, y: str, *, logarithmic: bool) -> Any:
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(7, 4.2))
    axes = figure.add_subplot()
    for number, line in enumerate(lines):
        colour = f"C{number % _COLOURS}"
        kind = _KINDS[number // _COLOURS % len(_KINDS)]
        marker = "o" if logarithmic or len(line.x) == 1 else None
        axes.plot(line.x, line.mean, kind, color=colour, marker=marker, label=line.name)
        low = [m - s for m, s in zip(line.mean, line.sd, strict=True)]
        high = [m + s for m, s in zip(line.mean, line.sd, strict=True)]
        axes.fill_between(line.x, low, high, color=colour, alpha=0.15, linewidth=0)
    if logarithmic:
        axes.set_xscale("log")
        ticks = sorted({value for line in lines for value in line.x})
        axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
        axes.set_xticks([], minor=True)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return figure
