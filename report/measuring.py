"""All that a run's page says of a split, from one pass over its scores."""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mmf.fuse.evaluation.classes import by_class, chosen_thresholds, least
from mmf.fuse.evaluation.levels import scored
from mmf.fuse.evaluation.measure import metric_names, result
from mmf.fuse.evaluation.subject import Subject, collect
from mmf.fuse.inference.scoring import Scored
from mmf.report.calibration import Calibration
from mmf.store import Item

_BEST = 3  # classes that are shown of a mistake


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An item whose best class is none of its labels."""

    item: Item
    best: tuple[tuple[str, float], ...]  # classes and their probabilities, best first
    labels: tuple[tuple[str, float], ...]

    @property
    def confidence(self) -> float:
        """The probability of the class that is wrong."""
        return self.best[0][1]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of the pass."""

    metrics: dict[str, Any]  # as `evaluate` gives them
    classes: pa.Table  # `fuse.evaluation.classes.CLASSES`
    calibration: Calibration
    confused: Counter[tuple[int, int]] | None  # (label, predicted) → items; None: not single-label
    mistakes: Sequence[Mistake]  # the most confident ones, the worst first
    wrong: int  # items whose best class is none of their labels
    without: Sequence[str]  # items without a row of any feature, the first hundred


@dataclass(kw_only=True, eq=False)
class _Watching:
    """Looks at the scores as they go by."""

    subject: Subject
    most: int
    calibration: Calibration = field(default_factory=Calibration)
    confused: Counter[tuple[int, int]] = field(default_factory=Counter)
    mistakes: list[tuple[float, int, Mistake]] = field(default_factory=list)  # a heap
    seen: int = 0  # wrong items so far
    without: list[str] = field(default_factory=list)

    @property
    def least(self) -> float:
        """The confidence that a mistake must exceed to be among the most confident ones."""
        return self.mistakes[0][0] if self.mistakes else math.inf

    def pass_on(self, parts: Iterable[Scored]) -> Iterator[Scored]:
        """The same parts."""
        columns = self.subject.columns
        single = self.subject.run.task == "single"
        known = np.array([c is not None for c in columns])
        at = np.array([0 if c is None else c for c in columns])
        for part in parts:
            there = np.flatnonzero(part.there)
            rated = part.rated[there][:, at] & known
            labels = (part.labels[there][:, at] > 0) & rated
            scores = part.scores(self.subject.run.loss)[there]
            if single:
                self.calibration.add_best(scores, labels, rated)
                self._count(scores, labels)
            else:
                self.calibration.add(scores[rated], labels[rated])
            self._keep(part, there, np.where(rated, scores, -1.0), labels)
            self._miss(part)
            yield part

    def _count(self, scores: np.ndarray, labels: np.ndarray) -> None:
        one = labels.sum(1) == 1
        pairs = zip(labels[one].argmax(1).tolist(), scores[one].argmax(1).tolist(), strict=True)
        self.confused.update(pairs)

    def _keep(
        self, part: Scored, there: np.ndarray, scores: np.ndarray, labels: np.ndarray
    ) -> None:
        names, best = self.subject.run.classes, scores.argmax(1)
        confidence = scores[np.arange(len(best)), best]
        wrong = ~labels[np.arange(len(best)), best] & labels.any(1)
        for i in np.flatnonzero(wrong).tolist():
            rank, self.seen = float(confidence[i]), self.seen + 1
            if len(self.mistakes) == self.most and rank <= self.least:
                continue
            order = np.argsort(-scores[i], kind="stable")[:_BEST].tolist()
            true = np.flatnonzero(labels[i]).tolist()
            mistake = Mistake(
                item=part.items[int(there[i])],
                best=tuple((names[c], float(scores[i, c])) for c in order),
                labels=tuple((names[c], float(scores[i, c])) for c in true),
            )
            heapq.heappush(self.mistakes, (rank, -self.seen, mistake))  # of equal ones, the first
            if len(self.mistakes) > self.most:
                heapq.heappop(self.mistakes)

    def _miss(self, part: Scored) -> None:
        for i in np.flatnonzero(~part.there).tolist():
            if len(self.without) < 100:
                self.without.append(part.items[i].id)


def measure(subject: Subject, most: int) -> Measured:
    """Measure the subject as `evaluate` does, and keep `most` of its most confident mistakes.

    Raises MmfError where no label is positive.
    """
    run = subject.run
    watching, chosen = _Watching(subject=subject, most=most), chosen_thresholds(run)
    parts = watching.pass_on(scored(subject))
    found = collect(subject, parts, metric_names(run), least(run, chosen))
    ranked = sorted(watching.mistakes, key=lambda entry: entry[:2], reverse=True)
    return Measured(
        metrics=result(found),
        classes=by_class(run, found, chosen),
        calibration=watching.calibration,
        confused=watching.confused if run.task == "single" else None,
        mistakes=[mistake for _, _, mistake in ranked],
        wrong=watching.seen,
        without=watching.without,
    )
