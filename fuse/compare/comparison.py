"""A comparison from its question to its answer: train, choose on validation, report on test.

``OUT/compare.json`` is the question, ``OUT/runs/CELL/seed-N`` are whole runs, and what is finished
is never done again: killed anywhere, the same call goes on. Every run has the same steps or epochs,
the same rule to stop early and, by its seed, the same order of items (`fuse.training.loop`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from mmf import MmfError, unknown
from mmf.fuse.compare.bootstrap import RESAMPLES, Interval, paired_interval
from mmf.fuse.compare.question import Cell, Question, Row, begin
from mmf.fuse.compare.running import Here, Trained
from mmf.fuse.compare.scores import Scores, scores_of
from mmf.fuse.config import TrainConfig
from mmf.fuse.training.loop import Interrupted
from mmf.store import FeatureStore

Tell = Callable[[str], None]


@runtime_checkable
class Trainer(Protocol):
    """Trains runs: here (`running.Here`), or on a cluster (`elsewhere.Elsewhere`)."""

    def ahead(self, configs: Iterable[TrainConfig]) -> None:
        """These will be asked for."""

    def __call__(self, config: TrainConfig) -> Trained:
        """What comes of a run; raises MmfError where it cannot be trained."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a row: its chosen cell's runs and what they say of the test split."""

    row: Row
    cell: Cell | None = None  # None: see `failure`
    runs: tuple[Trained, ...] = ()  # a seed each
    scores: tuple[Scores, ...] = ()
    interval: Interval | None = None  # of the difference to the row it is held against
    failure: str = ""


def compare(
    question: Question,
    out: str | Path,
    *,
    against: str = "",
    resamples: int = RESAMPLES,
    tell: Tell = lambda sentence: None,
    trainer: Trainer | None = None,
) -> list[Answer]:
    """Answer a question in a folder; the rows in order, each held against one of them.

    `against` is the name of a row, the first one by default; `tell` is given a sentence for each
    run; `trainer` trains them, one after another in this process by default. A cell that cannot be
    trained does not stop the others: a row without any has a `failure`.
    Raises MmfError where the folder holds another comparison or no row could be trained, and
    Interrupted on SIGTERM: the same call goes on.
    """
    names = [row.name for row in question.rows]
    if against and against not in names:
        raise unknown("row", against, names)
    out = Path(out)
    for store in {row.cells[0].config.store for row in question.rows}:
        FeatureStore(store)  # that it is not there is no matter of a single row
    begin(question, out)
    trainer = trainer or Here()
    trainer.ahead(run for row in question.rows for run in _ready(row, question, out, {}))
    answers: dict[str, Answer] = {}
    for row in question.rows:
        answers[row.name] = _trained_row(row, question, out, answers, tell, trainer)
    found = [_scored_row(answer, tell) for answer in answers.values()]
    if all(answer.failure for answer in found):
        raise MmfError(f"no row could be trained; {found[0].row.name}: {found[0].failure}")
    first = against or next(answer.row.name for answer in found if not answer.failure)
    theirs = next(answer for answer in found if answer.row.name == first)
    return [replace(a, interval=_interval(a, theirs, resamples)) for a in found]


def _ready(
    row: Row, question: Question, out: Path, before: Mapping[str, Answer]
) -> Iterator[TrainConfig]:
    """The runs of a row for which all that they take from other rows is there."""
    for cell in row.cells:
        for number, config in enumerate(question.runs(cell, out)):
            with suppress(MmfError):  # said when it is asked for
                yield _with_runs(config, number, before)


def _trained_row(
    row: Row,
    question: Question,
    out: Path,
    before: Mapping[str, Answer],
    tell: Tell,
    trainer: Trainer,
) -> Answer:
    """Train the row's cells with all seeds, and choose the one that validation likes best."""
    best: tuple[tuple[float, float], Cell, tuple[Trained, ...]] | None = None
    failures: list[str] = []
    trainer.ahead(_ready(row, question, out, before))
    for cell in row.cells:
        try:
            runs = tuple(
                _trained_run(trainer, _with_runs(config, number, before), tell)
                for number, config in enumerate(question.runs(cell, out))
            )
        except Interrupted as stopped:
            raise Interrupted(
                f"stopped by a signal in {cell.name!r}; what is trained is kept, and the same "
                "command goes on from here."
            ) from stopped
        except (MmfError, torch.OutOfMemoryError) as error:
            failures.append(str(error))
            tell(f"{cell.name}: {error}")
            continue
        rank = fmean(run.value for run in runs), -fmean(run.loss for run in runs)
        if best is None or rank > best[0]:
            best = rank, cell, runs
    if best is None:
        return Answer(row=row, failure=failures[0])
    return Answer(row=row, cell=best[1], runs=best[2])


def _trained_run(trainer: Trainer, config: TrainConfig, tell: Tell) -> Trained:
    run = trainer(config)
    tell(f"{run.path}: best validation {run.metric} {run.value:.4f} at step {run.step}")
    return run


def _with_runs(config: TrainConfig, number: int, before: Mapping[str, Answer]) -> TrainConfig:
    """``{NAME}`` among a fusion's `runs` is the run of that row with the same seed."""
    named = config.fusion_options.get("runs", ())
    if not isinstance(named, Sequence) or isinstance(named, str):
        return config
    runs = []
    for name in named:
        if not (isinstance(name, str) and name.startswith("{") and name.endswith("}")):
            runs.append(name)
            continue
        answer = before.get(name[1:-1])
        if answer is None or not answer.runs:
            raise MmfError(f"it takes the runs of row {name[1:-1]!r}, which has none before it.")
        runs.append(str(answer.runs[number].path))
    return (
        replace(config, fusion_options={**config.fusion_options, "runs": runs}) if runs else config
    )


def _scored_row(answer: Answer, tell: Tell) -> Answer:
    if answer.cell is None:
        return answer
    try:
        found = tuple(scores_of(run.path, answer.cell.config.device) for run in answer.runs)
    except (MmfError, torch.OutOfMemoryError) as error:
        tell(f"{answer.row.name}: {error}")
        return Answer(row=answer.row, failure=str(error))
    return replace(answer, scores=found)


def _interval(ours: Answer, theirs: Answer, resamples: int) -> Interval | None:
    """The difference of two rows on the test items that both have rows of."""
    if ours.row is theirs.row or ours.failure or theirs.failure:
        return None
    items, at, _ = np.intersect1d(
        ours.scores[0].items, theirs.scores[0].items, assume_unique=True, return_indices=True
    )
    metric = ours.runs[0].metric
    if not len(items) or metric != theirs.runs[0].metric:
        return None
    _, videos = np.unique(ours.scores[0].videos[at], return_inverse=True)
    return paired_interval(
        [one.statistic(metric, items) for one in ours.scores],
        [one.statistic(metric, items) for one in theirs.scores],
        videos,
        resamples=resamples,
    )
