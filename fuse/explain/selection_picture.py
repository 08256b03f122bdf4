"""A picture of what a policy selected in one item: a band for each modality, over seconds.

A segment is full where the modality is used and hatched where it is skipped; where the modality has
no row, the band is empty. Of what is used, the darker weighs more in what the modality says of the
item, as parts of the heaviest (`fuse.policy.consensus`). Frames of the video, where they are given,
stand above their segments. Drawn with matplotlib, from the extra ``plots``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from mmf.fuse.explain.drawing import matplotlib, plain
from mmf.fuse.explain.selection import Selected

WIDTH, BAND, BESIDE = 10.0, 0.34, (1.3, 1.05)  # inches: of the time, of a band, to either side
TALLEST = 1.1  # inches of a frame
OVER, UNDER = 0.62, 0.78
_LABELS = 4  # of an item that are shown at most
_SHORTEST = 1e-3  # seconds of a segment that is drawn, e.g. of a cue alone, which has no length
_DARK, _PALE = "#1f5a94", "#a3bdd7"  # the heaviest segment of a modality, and one of no weight
_USED: Mapping[str, Any] = {"facecolor": _DARK, "edgecolor": "white"}
_SKIPPED: Mapping[str, Any] = {"facecolor": "#f3e3c3", "edgecolor": "#8a6d3b", "hatch": "////"}
_MISSING: Mapping[str, Any] = {"facecolor": "none", "edgecolor": "0.45", "linestyle": (0, (2, 3))}


def draw(
    selected: Selected, path: Path, frames: Mapping[int, UInt8[np.ndarray, "h w 3"]] | None = None
) -> None:
    """Write the picture; `frames` are those of segments by number."""
    start, end = _span(selected)
    segments, bands = len(selected.used), len(selected.modalities)
    tallest = min(TALLEST, WIDTH / segments * 0.96) if frames else 0.0
    gap = 0.1 if frames else 0.0
    height = OVER + tallest + gap + bands * BAND + UNDER
    wide = BESIDE[0] + WIDTH + BESIDE[1]
    figure = matplotlib("figure").Figure(figsize=(wide, height))
    left, across = BESIDE[0] / wide, WIDTH / wide
    axes = figure.add_axes((left, UNDER / height, across, bands * BAND / height))
    axes.set(xlim=(start, end), ylim=(bands, 0), xlabel="seconds")
    _draw_bands(axes, selected)
    if frames:
        low = UNDER + bands * BAND + gap
        above = figure.add_axes((left, low / height, across, tallest / height))
        above.set(xlim=(start, end), ylim=(0, tallest))
        above.axis("off")
        _draw_frames(above, selected, frames, tallest, (end - start) / WIDTH)
    _write(figure, left, 1 - 0.24 / height, selected.item.id, weight="bold", fontsize=11)
    _write(figure, left, 1 - 0.48 / height, _outcome(selected), fontsize=9)
    _legend(figure, height, left, weighs=_weighs(selected))
    figure.savefig(path, dpi=120)


def _span(selected: Selected) -> tuple[float, float]:
    times = selected.times
    start = min(times.starts.min(), times.start[0])
    return float(start), float(max(times.ends.max(), times.end[-1], start + _SHORTEST))


def _draw_bands(axes: Any, selected: Selected) -> None:
    patches, times, blue = matplotlib("patches"), selected.times, _blue(selected)
    low, high = axes.get_xlim()
    for m, name in enumerate(selected.modalities):
        empty = patches.Rectangle((low, m + 0.12), high - low, 0.76, linewidth=0.8, **_MISSING)
        axes.add_patch(empty)
        for s in np.flatnonzero(selected.there[:, m]).tolist():
            at = times.starts[s, m]
            until = max(times.ends[s, m], at + _SHORTEST)
            kind = {**_USED, "facecolor": blue[s, m]} if selected.used[s, m] else _SKIPPED
            corner = (at, m + 0.12)
            axes.add_patch(patches.Rectangle(corner, until - at, 0.76, linewidth=0.8, **kind))
        share = f"used {selected.used[:, m].sum()} of {len(selected.used)}"
        share = share if selected.there[:, m].any() else "no row"
        beside = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 9}
        axes.text(1.01, m + 0.5, share, color="0.25", **beside)
        axes.text(-0.01, m + 0.5, plain(name), ha="right", parse_math=False, **beside)
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_size(9)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _blue(selected: Selected) -> Float[np.ndarray, "S M 3"]:
    """What a segment that is used is filled with."""
    dark, pale = (np.array(matplotlib("colors").to_rgb(name)) for name in (_DARK, _PALE))
    weights = selected.used if selected.weights is None else selected.weights
    heaviest = weights.max(0, keepdims=True)
    part = np.divide(weights, heaviest, out=np.zeros(weights.shape), where=heaviest > 0)
    return pale + part[..., None] * (dark - pale)


def _weighs(selected: Selected) -> bool:
    """Whether what is used differs in weight."""
    if selected.weights is None:
        return False
    columns = zip(selected.weights.T, selected.used.T, strict=True)
    return any(np.ptp(of[used]) > 0.01 * of.max() for of, used in columns if used.any())


def _draw_frames(
    axes: Any,
    selected: Selected,
    frames: Mapping[int, np.ndarray],
    tallest: float,
    per_inch: float,
) -> None:
    """Each frame over the middle of its segment."""
    low, high = axes.get_xlim()
    for s, frame in frames.items():
        width = tallest * frame.shape[1] / frame.shape[0] * per_inch
        middle = (selected.times.start[s] + selected.times.end[s]) / 2
        left = min(max(middle - width / 2, low), high - width)
        axes.imshow(frame, extent=(left, left + width, 0, tallest), aspect="auto")
    axes.set(xlim=(low, high), ylim=(0, tallest))


def _outcome(selected: Selected) -> str:
    """What the run says of the item, and what is true."""
    parts = [f"predicted {selected.predicted} ({selected.score:.2f})"]
    if not selected.used.any():
        parts.append("nothing is used")
    if selected.labels:
        more = ", …" if len(selected.labels) > _LABELS else ""
        parts.append(f"label {', '.join(selected.labels[:_LABELS])}{more}")
    if selected.right is not None:
        parts.append("right" if selected.right else "wrong")
    if selected.gflops is not None:
        parts.append(f"{selected.gflops:.3g} of {selected.gflops_all:.3g} GFLOPs")
    return " · ".join(parts)


def _legend(figure: Any, height: float, left: float, *, weighs: bool) -> None:
    patches = matplotlib("patches")
    used = "used, darker where it weighs more" if weighs else "used"
    kinds = {used: _USED, "skipped": _SKIPPED, "missing (no row)": _MISSING}
    handles = [patches.Patch(label=name, linewidth=0.8, **kind) for name, kind in kinds.items()]
    where = {"loc": "lower left", "bbox_to_anchor": (left, 0.02 / height)}
    figure.legend(handles=handles, ncols=3, frameon=False, fontsize=9, borderaxespad=0, **where)


def _write(figure: Any, x: float, y: float, text: str, **how: Any) -> None:
    figure.text(x, y, plain(text), parse_math=False, va="center", **how)
