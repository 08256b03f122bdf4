"""One figure of what an item's steps make of each other: frames, curves over seconds, T × T maps.

From top to bottom: frames of the video at their seconds, a curve for each of what is told apart,
and rows of maps, step that looks downwards, step that is looked at to the right. Each map has a
scale of its own, written below it, from dark (low) to light. Drawn with matplotlib, from the extra
``plots``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mmf.fuse.explain.drawing import matplotlib, plain

WIDTH, BESIDE = 10.0, (1.0, 1.6)  # inches: of the time, to either side
OVER, CURVES, AXIS = 0.62, 1.3, 0.5
TALLEST, LARGEST = 1.1, 2.6  # of a frame, of a map
_HEAD, _FOOT, _GAP = 0.42, 0.24, 0.1  # above, below and beside a map
_FEW = 50  # steps of a curve whose steps are marked
_STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A line over seconds; what has no second is not drawn."""

    name: str
    times: Float[np.ndarray, " T"]
    values: Float[np.ndarray, " T"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Map:
    """A matrix between steps; NaN is left white."""

    title: str
    values: Float[np.ndarray, "I T"]
    lowest: float | None = None  # of the scale; None: that of the values
    highest: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPicture:
    """What is drawn of one item, and one sentence for those who do not see it."""

    title: str
    outcome: str
    alt: str
    ylabel: str
    curves: Sequence[Curve]
    level: float | None = None  # a line across the curves: what would be even
    rows: Sequence[tuple[str, Sequence[Map]]] = ()
    borders: Mapping[str, int] | None = None  # feature → its first step, where maps have several

    @property
    def span(self) -> tuple[float, float]:
        """The seconds from the first step to the last."""
        times = np.concatenate([np.empty(0), *(curve.times for curve in self.curves)])
        times = times[~np.isnan(times)]
        return (float(times.min()), float(times.max())) if len(times) else (0.0, 0.0)


def draw(
    picture: MapPicture,
    path: Path | BufferedIOBase,
    frames: Mapping[float, UInt8[np.ndarray, "h w 3"]] | None = None,
) -> None:
    """Write the figure as a PNG, to a file or a buffer."""
    figure(picture, frames).savefig(path, dpi=120, format="png")


def figure(
    picture: MapPicture, frames: Mapping[float, UInt8[np.ndarray, "h w 3"]] | None = None
) -> Any:
    """A matplotlib Figure; `frames` are those of the video by their second."""
    most = max((len(maps) for _, maps in picture.rows), default=1)
    side = min(LARGEST, (WIDTH - (most - 1) * _GAP) / most)
    tallest = min(TALLEST, WIDTH / len(frames) * 0.96) if frames else 0.0
    high = OVER + tallest + CURVES + AXIS + len(picture.rows) * (_HEAD + side + _FOOT)
    wide = BESIDE[0] + WIDTH + BESIDE[1]
    found = matplotlib("figure").Figure(figsize=(wide, high))

    def axes(top: float, height: float, left: float = 0.0, width: float = WIDTH) -> Any:
        below = 1 - (top + height) / high
        return found.add_axes(((BESIDE[0] + left) / wide, below, width / wide, height / high))

    for text, down, how in (
        (picture.title, 0.2, {"weight": "bold", "fontsize": 11}),
        (picture.outcome, 0.43, {"fontsize": 9}),
    ):
        _write(found, BESIDE[0] / wide, 1 - down / high, text, va="center", **how)
    over_time = axes(OVER + tallest, CURVES)
    _draw_curves(over_time, picture)
    if frames:
        _draw_frames(axes(OVER, tallest), frames, tallest, over_time.get_xlim())
    top = OVER + tallest + CURVES + AXIS
    for name, maps in picture.rows:
        _write(found, BESIDE[0] / wide, 1 - (top + 0.1) / high, name, va="center", fontsize=9)
        for number, one in enumerate(maps):
            place = axes(top + _HEAD, side, number * (side + _GAP), side)
            _draw_map(place, one, picture.borders if number == 0 else None, picture.borders)
        top += _HEAD + side + _FOOT
    return found


def _draw_curves(axes: Any, picture: MapPicture) -> None:
    start, end = picture.span
    room = max(end - start, 1.0) * 0.02  # a step alone has no length
    drawn = [curve for curve in picture.curves if not np.isnan(curve.times).all()]
    for number, curve in enumerate(drawn):
        mark = "." if len(curve.times) < _FEW else None  # or a step between gaps is not seen
        axes.plot(
            curve.times, curve.values, _STYLES[number % len(_STYLES)], marker=mark, linewidth=1.2,
            label=plain(curve.name),
        )  # fmt: skip
    if picture.level is not None:
        axes.axhline(picture.level, color="0.6", linewidth=0.8)
    axes.set(xlim=(start - room, end + room), xlabel="seconds", ylabel=picture.ylabel)
    legend = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.03), "frameon": False, "fontsize": 8}
    if drawn:
        for text in axes.legend(**legend).get_texts():
            text.set_parse_math(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_frames(
    axes: Any, frames: Mapping[float, np.ndarray], tallest: float, span: tuple[float, float]
) -> None:
    """Each frame over its second, within the figure."""
    low, high = span
    axes.set(xlim=span, ylim=(0, tallest))
    for second, frame in frames.items():
        width = tallest * frame.shape[1] / frame.shape[0] * (high - low) / WIDTH
        left = min(max(second - width / 2, low), high - width)
        axes.imshow(frame, extent=(left, left + width, 0, tallest), aspect="auto")
    axes.set(xlim=span, ylim=(0, tallest))
    axes.axis("off")


def _draw_map(
    axes: Any, one: Map, named: Mapping[str, int] | None, borders: Mapping[str, int] | None
) -> None:
    known = one.values[~np.isnan(one.values)]
    low = one.lowest if one.lowest is not None else float(known.min(initial=0.0))
    high = one.highest if one.highest is not None else float(known.max(initial=low))
    scale = {"vmin": low, "vmax": high if high > low else low + 1.0}
    axes.imshow(one.values, cmap="viridis", aspect="auto", **scale)
    axes.set_title(plain(one.title), fontsize=7, pad=2, parse_math=False)
    axes.set_xlabel(f"{low:.2g} … {high:.2g}", fontsize=6, labelpad=1)
    axes.set(xticks=[], yticks=[])
    for at in [] if borders is None else list(borders.values())[1:]:
        axes.axhline(at - 0.5, color="white", linewidth=0.4)
        axes.axvline(at - 0.5, color="white", linewidth=0.4)
    if named:
        ends = [*list(named.values())[1:], one.values.shape[0]]
        middles = [(a + b - 1) / 2 for a, b in zip(named.values(), ends, strict=True)]
        axes.set_yticks(middles, [plain(name) for name in named], fontsize=6, parse_math=False)
        axes.tick_params(length=0)


def _write(figure: Any, x: float, y: float, text: str, **how: Any) -> None:
    figure.text(x, y, plain(text), parse_math=False, **how)
