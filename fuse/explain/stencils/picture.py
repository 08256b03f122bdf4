"""Pictures of stencils: of a class, of what an item's steps contribute, and of the shares.

Each `draw_…` gives a matplotlib Figure, and `alt_…` beside it the sentence that says the same in
numbers, for those who do not see it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from mmf.fuse.explain.drawing import COLOURS, HATCHES, matplotlib, plain
from mmf.fuse.explain.stencils.over_time import OverTime
from mmf.fuse.explain.stencils.scores import Said
from mmf.fuse.explain.stencils.tables import norms

_WIDTH, _BAND, _LEFT = 10.0, 0.8, 1.3  # inches
_TALLEST = 1.1  # of a frame
_SHORTEST = 1e-3  # seconds of a step that is drawn: a cue alone has no length


def draw_stencils(said: Said) -> Any:
    """How long each step of a class's stencils is: a band per modality, a line per cluster."""
    stencils = said.stencils
    bands = len(stencils.modalities)
    figure = matplotlib("figure").Figure(figsize=(_WIDTH, 0.9 + bands * 1.1), layout="constrained")
    figure.suptitle(plain(f"{stencils.name}: {_ranked(said)}"), fontsize=11, parse_math=False)
    shown = np.atleast_1d(figure.subplots(bands, 1, sharey=True))
    for axes, name, values in zip(shown, stencils.modalities, stencils.values, strict=True):
        for k, one in enumerate(values.norm(dim=2).cpu().numpy()):
            speaks = k == said.best
            axes.step(
                np.arange(len(one) + 1), np.append(one, one[-1:]), where="post",
                color=COLOURS[0] if speaks else "0.6", linewidth=1.8 if speaks else 0.9,
                label=f"cluster {k} of {stencils.sizes[k]}", zorder=3 if speaks else 2,
            )  # fmt: skip
        axes.set_ylabel(plain(name), fontsize=9, parse_math=False)
        axes.xaxis.set_major_locator(matplotlib("ticker").MaxNLocator(integer=True))
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    tallest = max(float(values.norm(dim=2).max()) for values in stencils.values)
    shown[0].set_ylim(0, 1.1 * tallest or 1)  # of all: they share it
    shown[-1].set_xlabel("step", fontsize=9)
    shown[0].legend(fontsize=8, frameon=False, ncols=3)
    return figure


def alt_stencils(said: Said) -> str:
    """The lengths of the class's stencil in numbers."""
    names, each = said.stencils.modalities, norms(said)
    total = max(sum(float((x**2).sum()) for x in each), 1e-30)
    parts = [
        f"{name} {float((x**2).sum()) / total:.0%}, most at step {int(x.argmax())} of {len(x)}"
        for name, x in zip(names, each, strict=True)
    ]
    return (
        f"Length of the stencil of {plain(said.stencils.name)} by step, {_ranked(said)}; of its "
        f"squared length: {'; '.join(map(plain, parts))}."
    )


def draw_over_time(
    one: OverTime, frames: Mapping[float, UInt8[np.ndarray, "h w 3"]] | None = None
) -> Any:
    """What an item's steps contribute over seconds, a band per modality; frames above, by time."""
    start, end = one.span
    end = max(end, start + _SHORTEST)
    frames = frames or {}
    tallest = min(_TALLEST, 0.94 * _WIDTH / max(1, len(frames))) if frames else 0.0
    bands, gap = len(one.modalities), 0.12
    height = 0.62 + tallest + gap + bands * (_BAND + gap) + 0.5
    wide = _LEFT + _WIDTH + 0.9
    figure = matplotlib("figure").Figure(figsize=(wide, height))
    most = max((float(np.abs(x).max()) for x in one.contributions if len(x)), default=0.0) or 1.0
    for m, name in enumerate(one.modalities):
        low = 0.5 + (bands - 1 - m) * (_BAND + gap)
        box = (_LEFT / wide, low / height, _WIDTH / wide, _BAND / height)
        axes = figure.add_axes(box)
        _draw_band(axes, one, m)
        axes.set(xlim=(start, end), ylim=(-1.05 * most, 1.05 * most))
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, labelbottom=m == bands - 1)
        middle = {"transform": axes.transAxes, "va": "center", "fontsize": 9, "parse_math": False}
        axes.text(-0.06, 0.5, plain(name), ha="right", **middle)
        there = f"{one.shares[m]:.0%}" if len(one.contributions[m]) else "no row"
        axes.text(1.01, 0.5, there, ha="left", color="0.25", **middle)
        if m == bands - 1:
            axes.set_xlabel("seconds", fontsize=9)
    if frames:
        low = 0.5 + bands * (_BAND + gap)
        above = figure.add_axes((_LEFT / wide, low / height, _WIDTH / wide, tallest / height))
        _draw_frames(above, frames, (start, end), tallest)
    kind = {"parse_math": False, "va": "center"}
    figure.text(_LEFT / wide, 1 - 0.2 / height, plain(one.item.id), weight="bold", **kind)
    figure.text(_LEFT / wide, 1 - 0.44 / height, plain(_outcome(one)), fontsize=9, **kind)
    return figure


def alt_over_time(one: OverTime) -> str:
    """The item's contributions in numbers."""
    parts = []
    for m, name in enumerate(one.modalities):
        x = one.contributions[m]
        if not len(x):
            parts.append(f"{name} has no row")
            continue
        at = float(one.edges[m][int(x.argmax())])
        parts.append(f"{name} {one.shares[m]:.0%}, {x.sum():+.3g} in all, most at {at:.3g} s")
    whole = f"{plain(one.item.id)} to {plain(_outcome(one))}"
    return f"Contributions over time of {whole}: {plain('; '.join(parts))}."


def draw_shares(table: pa.Table) -> Any:
    """A bar for each class (`tables.SHARES`), in parts by modality."""
    classes, modalities, shares = _shares(table)
    size = (_WIDTH, 1.0 + 0.32 * max(1, len(classes)))
    figure = matplotlib("figure").Figure(figsize=size, layout="constrained")
    axes, left = figure.subplots(), np.zeros(len(classes))
    places = np.arange(len(classes))
    for m, name in enumerate(modalities):
        axes.barh(
            places, shares[:, m], left=left, color=COLOURS[m % len(COLOURS)], edgecolor="white",
            hatch=HATCHES[m % len(HATCHES)], label=plain(name),
        )  # fmt: skip
        left += shares[:, m]
    axes.set_yticks(places, [plain(name) for name in classes], parse_math=False, fontsize=9)
    axes.set(xlim=(0, 1), xlabel="share of the prediction (Shapley)")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    if modalities:
        figure.legend(loc="outside upper center", ncols=len(modalities), frameon=False, fontsize=9)
    return figure


def alt_shares(table: pa.Table) -> str:
    """The shares in numbers, of at most 20 classes."""
    classes, modalities, shares = _shares(table)
    parts = [
        f"{name}: " + ", ".join(f"{m} {x:.0%}" for m, x in zip(modalities, row, strict=True))
        for name, row in zip(classes, shares.tolist(), strict=True)
    ]
    parts = [plain(part) for part in parts]
    more = f"; {len(parts) - 20} classes more" if len(parts) > 20 else ""
    return f"Share of each modality in the predictions of a class. {'; '.join(parts[:20])}{more}."


def _shares(table: pa.Table) -> tuple[list[str], list[str], np.ndarray]:
    """Classes that have shares, modalities, and the shares (C, M)."""
    rows = [row for row in table.to_pylist() if row["share"] is not None]
    classes = list(dict.fromkeys(row["class"] for row in rows))
    modalities = list(dict.fromkeys(row["modality"] for row in rows))
    return (
        classes,
        modalities,
        np.array([r["share"] for r in rows]).reshape(len(classes), len(modalities)),
    )


def _ranked(said: Said) -> str:
    if said.fidelity is None:
        return "how well it ranks items is not known"
    return f"it ranks items with Spearman {said.fidelity:.2f}"


def _outcome(one: OverTime) -> str:
    label = "a label" if one.positive else "no label"
    return f"{one.name} (logit {one.logit:.2f}, {label} of it)"


def _draw_band(axes: Any, one: OverTime, m: int) -> None:
    x, edges = one.contributions[m], one.edges[m]
    axes.axhline(0, color="0.5", linewidth=0.6)
    if len(x):
        widths = np.maximum(np.diff(edges), _SHORTEST)
        colours = [COLOURS[0] if value >= 0 else COLOURS[1] for value in x]
        axes.bar(
            edges[:-1], x, widths, align="edge", color=colours, edgecolor="white", linewidth=0.4
        )


def _draw_frames(
    axes: Any, frames: Mapping[float, np.ndarray], span: tuple[float, float], tallest: float
) -> None:
    """Each frame over its time."""
    (low, high), per_inch = span, (span[1] - span[0]) / _WIDTH
    for time, frame in frames.items():
        width = tallest * frame.shape[1] / frame.shape[0] * per_inch
        left = min(max(time - width / 2, low), high - width)
        axes.imshow(frame, extent=(left, left + width, 0, tallest), aspect="auto")
    axes.set(xlim=span, ylim=(0, tallest))
    axes.axis("off")
