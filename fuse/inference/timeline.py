"""Scores over time: each window of a video scored by itself, as JSON, or as cues in WebVTT."""

import html
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mmf import MmfError
from mmf.fuse.inference.ensemble import Ensemble
from mmf.store import FeatureStore
from mmf.store.exchange.output import file_name, finished
from mmf.store.items import Items


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """The scores of a video's windows, in their order."""

    video_id: str
    classes: tuple[str, ...]
    start: np.ndarray  # float64 (T,), seconds
    end: np.ndarray  # float64 (T,)
    scores: np.ndarray  # float32 (T, C), NaN for a window without a row

    def best(self, top: int | None) -> "Timeline":
        """The same with the `top` classes that are highest at any time, highest first."""
        highest = np.nan_to_num(self.scores, nan=-1).max(0, initial=-1)
        order = np.argsort(-highest, kind="stable")[:top]
        return Timeline(
            video_id=self.video_id,
            classes=tuple(self.classes[c] for c in order),
            start=self.start,
            end=self.end,
            scores=self.scores[:, order],
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values; a score is rounded to six digits, a window without a row is null."""
        rows = np.round(self.scores.astype(np.float64), 6).tolist()
        there = ~np.isnan(self.scores).all(1)
        return {
            "video_id": self.video_id,
            "classes": list(self.classes),
            "start": self.start.tolist(),
            "end": self.end.tolist(),
            "scores": [row if some else None for row, some in zip(rows, there, strict=True)],
        }


@dataclass(frozen=True, kw_only=True, order=True)
class Cue:
    """A class over some time; the score is its highest there."""

    start: float  # seconds
    end: float
    name: str
    score: float


def timelines(
    ensemble: Ensemble, store: FeatureStore, parts: Iterable[Items]
) -> Iterator[Timeline]:
    """The timeline of each video, of the windows that come in parts (`fuse.inference.windows`)."""
    for part in parts:
        found: list[tuple[str, float, float, np.ndarray]] = []
        for scored in ensemble.score(store, part):
            scores = scored.scores(ensemble.loss)
            scores[~scored.there] = np.nan
            for item, row in zip(scored.items, scores, strict=True):
                if item.start is not None and item.end is not None:
                    found.append((item.video_id, item.start, item.end, row))
                else:
                    found.append((item.video_id, np.nan, np.nan, row))
        for video_id, of_video in groupby(found, key=lambda one: one[0]):
            _, start, end, rows = zip(*of_video, strict=True)
            timed = ~np.isnan(start)  # a video without rows has no window
            yield Timeline(
                video_id=video_id,
                classes=ensemble.classes,
                start=np.array(start)[timed],
                end=np.array(end)[timed],
                scores=np.stack(rows)[timed],
            )


def cues(timeline: Timeline, thresholds: np.ndarray | float | None) -> list[Cue]:
    """When each class is at its threshold or above it; without thresholds, when it is the best.

    Windows of one class that touch or overlap are one cue.
    """
    scores, start, end = timeline.scores, timeline.start, timeline.end
    if thresholds is None:
        known = np.nan_to_num(scores, nan=-1)
        active = ~np.isnan(scores) & (known.argmax(1)[:, None] == np.arange(scores.shape[1]))
    else:
        active = scores >= np.asarray(thresholds, dtype=np.float32)  # False where there is no score
    found = []
    for c in np.flatnonzero(active.any(0)).tolist():
        at = np.flatnonzero(active[:, c])
        apart = (np.diff(at) > 1) | (start[at[1:]] > end[at[:-1]] + 1e-9)
        for run in np.split(at, np.flatnonzero(apart) + 1):
            found.append(
                Cue(
                    start=float(start[run[0]]),
                    end=float(end[run].max()),
                    name=timeline.classes[c],
                    score=float(scores[run, c].max()),
                )
            )
    return sorted(found)


def write_timelines(
    found: Iterable[Timeline],
    path: str | Path,
    *,
    top: int | None = 20,
    thresholds: np.ndarray | float | None = None,
) -> int:
    """Write OUT.json, OUT.vtt of a single video, or both of each video in a folder.

    JSON has the `top` classes of each video, {"videos": [{"video_id", "classes", "start", "end",
    "scores"}]} with seconds and a row of scores for each window; WebVTT has `cues`. In a folder a
    file is called as its video, its slashes and other signs written as in URLs. The number of
    videos.
    """
    path, number = Path(path), 0
    if path.suffix == ".json":
        with finished(path) as file:
            return _write_json(file, found, top)
    if path.suffix == ".vtt":
        several = iter(found)
        with finished(path) as file:
            _write_vtt(file, cues(next(several), thresholds))
            if (other := next(several, None)) is not None:
                raise MmfError(
                    f"{str(path)!r} is for one video, and there is {other.video_id!r} too. Name "
                    "one video, or write OUT.json or a folder."
                )
        return 1
    if path.suffix and not path.is_dir():
        raise MmfError(f"cannot write to {str(path)!r}: expected OUT.json, OUT.vtt or a folder.")
    for timeline in found:
        name = file_name(timeline.video_id)
        with finished(path / f"{name}.json") as file:
            _write_json(file, [timeline], top)
        with finished(path / f"{name}.vtt") as file:
            _write_vtt(file, cues(timeline, thresholds))
        number += 1
    return number


def _write_json(path: Path, found: Iterable[Timeline], top: int | None) -> int:
    number = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"videos": [')
        for number, timeline in enumerate(found, 1):
            file.write(",\n" if number > 1 else "\n")
            json.dump(timeline.best(top).to_json(), file, ensure_ascii=False)
        file.write("\n]}\n")
    return number


def _write_vtt(path: Path, found: Sequence[Cue]) -> None:
    blocks = [
        f"{_clock(cue.start)} --> {_clock(cue.end)}\n{_escaped(cue.name)} {cue.score:.2f}\n"
        for cue in found
    ]
    path.write_text("\n".join(["WEBVTT\n", *blocks]), encoding="utf-8")


def _clock(seconds: float) -> str:
    thousandths = round(seconds * 1000)
    minutes, thousandths = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{thousandths // 1000:02}.{thousandths % 1000:03}"


def _escaped(name: str) -> str:
    """A class's name as the text of a cue: one line, nothing in it a tag or an arrow."""
    return html.escape("".join(c if c.isprintable() else " " for c in name), quote=False)
