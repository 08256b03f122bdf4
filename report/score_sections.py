"""What a page says of a run's scores: metrics, confusion, classes, calibration, mistakes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmf.report.calibration import BINS, Calibration
from mmf.report.measuring import Measured, Mistake
from mmf.report.media import Clip
from mmf.report.page import Card, Cards, Cell, Part, Plot, Table, Text
from mmf.report.plots import axes, bars, labels, rounded, tall

_MATRIX = 40  # classes of the matrix that is drawn
_PAIRS = 200  # confused pairs that are listed
_ENDS = 12  # best, and worst, classes that are drawn
_WRITTEN = 15  # classes of a matrix whose cells have their number written in them


def scores(measured: Measured) -> list[Part]:
    """Every metric, as `mmf evaluate` prints it."""
    rows = [[name, value] for name, value in measured.metrics.items()]
    return [Table(columns=["metric", "value"], rows=rows)]


def confusion(confused: Counter[tuple[int, int]] | None, classes: Sequence[str]) -> list[Part]:
    """Which class is taken for which; rows are labels, columns what is predicted."""
    if confused is None:
        return [Text(text="An item may have several labels, so no class stands for another.")]
    errors = Counter({pair: n for pair, n in confused.items() if pair[0] != pair[1]})
    parts: list[Part] = []
    shown = _in_matrix(confused, errors, len(classes))
    if len(shown) < len(classes):
        text = (
            f"The matrix has the {len(shown)} of {len(classes):,} classes that are most often "
            "confused; what lies outside it is in the table."
        )
        parts.append(Text(text=text, kind="note"))
    parts.append(_matrix(confused, shown, classes))
    if not errors:
        return [*parts, Text(text="No class was taken for another.")]
    of_label: Counter[int] = Counter()
    for (true, _), n in confused.items():
        of_label[true] += n
    rows: list[Sequence[Cell]] = [
        [classes[true], classes[said], n, n / of_label[true]]
        for (true, said), n in errors.most_common(_PAIRS)
    ]
    more = f" The first {_PAIRS:,} of {len(errors):,}." if len(errors) > _PAIRS else ""
    columns = ["label", "predicted", "items", "share of the label"]
    return [*parts, Table(columns=columns, rows=rows, caption=f"Most confused pairs.{more}")]


def _in_matrix(
    confused: Mapping[tuple[int, int], int], errors: Mapping[tuple[int, int], int], number: int
) -> list[int]:
    """The classes of the matrix: all, or those with the most errors."""
    if number <= _MATRIX:
        return list(range(number))
    wrong: Counter[int] = Counter()
    for pair, n in errors.items():
        for c in pair:
            wrong[c] += n
    for c in sorted({c for pair in confused for c in pair}):
        wrong[c] += 0
    return sorted(c for c, _ in wrong.most_common(_MATRIX))


def _matrix(
    confused: Mapping[tuple[int, int], int], shown: Sequence[int], classes: Sequence[str]
) -> Plot:
    counts = np.array([[confused.get((t, s), 0) for s in shown] for t in shown], dtype=np.int64)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    names = labels([classes[c] for c in shown], 18)
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": rounded(shares),
        "customdata": counts.tolist(),
        "zmin": 0,
        "zmax": 1,
        "xgap": 1,
        "ygap": 1,
        "showscale": False,
        "hovertemplate": (
            "label %{y}<br>predicted %{x}<br>%{customdata:,} items, %{z:.0%}<extra></extra>"
        ),
    }
    if len(shown) <= _WRITTEN:
        trace |= {"text": counts.tolist(), "texttemplate": "%{text:,}"}
    layout = axes("predicted", "label")
    layout["xaxis"] |= {"type": "category", "side": "bottom", "showgrid": False}
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    right = float(np.trace(counts) / max(counts.sum(), 1))
    return Plot(
        figure={"data": [trace], "layout": layout},
        alt=f"Confusion matrix of {len(shown)} classes: {right:.0%} of their items lie on its "
        "diagonal.",
        caption="A row is what the items are, a column what they are taken for; the colour is the "
        "share of the row.",
        height=min(900, max(320, 140 + 26 * len(shown))),
        width=min(1100, max(480, 220 + 34 * len(shown))),
    )


def classes_of(measured: Measured) -> list[Part]:
    """Best and worst classes by average precision, and all of them as a table."""
    table = measured.classes
    known = [n for n in table.column_names if table[n].null_count < len(table)]
    rows = [list(row.values()) for row in table.select(known).to_pylist()]
    parts: list[Part] = []
    score = "ap" if "ap" in known else "ap@20"
    none = [r["class"] for r in table.to_pylist() if not r["positives"]]
    ranked = [(r[score], r["class"]) for r in table.to_pylist() if r["positives"]]
    ranked = sorted((value, name) for value, name in ranked if value is not None)
    if ranked:
        ends = ranked if len(ranked) <= 2 * _ENDS else [*ranked[:_ENDS], *ranked[-_ENDS:]]
        best = ends[::-1]
        which = "" if len(ends) == len(ranked) else f" The {_ENDS} best and the {_ENDS} worst."
        figure = bars([name for _, name in best], [value for value, _ in best], score)
        figure["layout"]["xaxis"]["range"] = [0, 1]
        parts.append(
            Plot(
                figure=figure,
                alt=f"Average precision of classes, from {best[0][0]:.3f} ({best[0][1]}) to "
                f"{best[-1][0]:.3f} ({best[-1][1]}).{which}",
                caption=f"Average precision.{which}",
                height=tall(len(best)),
            )
        )
    if none:
        names = ", ".join(none[:10]) + (", …" if len(none) > 10 else "")
        text = f"{len(none):,} classes have no positive here and no average precision: {names}"
        parts.append(Text(text=text, kind="note"))
    return [*parts, Table(columns=known, rows=rows, caption="Every class")]


def calibration(found: Calibration, *, single: bool) -> list[Part]:
    """The reliability diagram over how many scores each bin has, and the error."""
    of = "the best class of each item" if single else "every item and class"
    text = (
        f"Expected calibration error {found.error:.4f}, over the probabilities of {of} in {BINS} "
        "even bins: how far, on average, a probability is from the share that is right."
    )
    if not single:
        text += " Most of them are near 0 and right to be, which keeps the error small."
    said, right, count = found.mean_score, found.share_right, found.count
    rows: list[Sequence[Cell]] = [
        [f"{b / BINS:.2f} to {(b + 1) / BINS:.2f}", int(count[b]), float(said[b]), float(right[b])]
        for b in np.flatnonzero(count).tolist()
    ]
    return [
        Text(text=text),
        Plot(
            figure=_reliability(found, scale="linear" if single else "log"),
            alt=f"Reliability diagram: the share that is right over the probability said. {text}",
            height=420,
            width=640,
            numbers=Table(columns=["probability", "scores", "mean said", "right"], rows=rows),
        ),
    ]


def _reliability(found: Calibration, scale: str) -> dict[str, Any]:
    """What is right over what was said; below, on this scale, how many scores that rests on."""
    there = np.flatnonzero(found.count)
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": [0, 1],
        "y": [0, 1],
        "name": "as said",
        "line": {"dash": "dot", "width": 1.5},
        "hoverinfo": "skip",
        "meta": {"quiet": True},
    }
    share = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": rounded(found.mean_score[there]),
        "y": rounded(found.share_right[there]),
        "name": "as it is",
        "customdata": found.count[there].astype(int).tolist(),
        "hovertemplate": "said %{x:.3f}<br>right %{y:.3f}<br>of %{customdata:,}<extra></extra>",
        "meta": {"series": 0},
    }
    middles = (np.arange(BINS) + 0.5) / BINS
    numbers = {
        "type": "bar",
        "x": rounded(middles),
        "y": found.count.astype(int).tolist(),
        "width": 0.94 / BINS,
        "yaxis": "y2",
        "showlegend": False,
        "hovertemplate": "%{y:,} scores<extra></extra>",
        "meta": {"series": 6},
    }
    layout = axes("probability", "share that is right")
    layout["xaxis"] |= {"range": [0, 1]}
    layout["yaxis"] |= {"range": [0, 1.02], "domain": [0.36, 1]}
    layout["yaxis2"] = {
        "title": {"text": "scores"},
        "domain": [0, 0.24],
        "anchor": "x",
        "type": scale,
    }
    return {"data": [diagonal, share, numbers], "layout": layout}


def mistakes(found: Sequence[Mistake], wrong: int, clips: Mapping[str, Clip | str]) -> list[Part]:
    """The items that the run is most sure of and wrong about."""
    if not found:
        return [Text(text="The best class of every item is one of its labels.")]
    which = f"{len(found)} of {wrong:,}" if len(found) < wrong else f"All {wrong:,}"
    said = f"{which} items whose best class is none of their labels, the most confident first."
    return [Text(text=said, kind="note"), Cards(cards=[_card(m, clips) for m in found])]


def _card(mistake: Mistake, clips: Mapping[str, Clip | str]) -> Card:
    clip = clips.get(mistake.item.id, "videos were not looked for")
    return Card(
        title=mistake.item.id,
        facts={
            "predicted": ", ".join(f"{name} {score:.2f}" for name, score in mistake.best),
            "label": ", ".join(f"{name} {score:.2f}" for name, score in mistake.labels[:5]),
        },
        pictures=clip.pictures() if isinstance(clip, Clip) else (),
        lines=[f"{s:.1f} s  {text}" for s, text in clip.cues] if isinstance(clip, Clip) else (),
        missing="" if isinstance(clip, Clip) else clip,
    )
