"""Over the runs of a comparison: the metric beside how local their attention is.

Asked of the runs that the comparison tested, those of each row's chosen setting, by what `compare`
has kept of them; nothing is measured on the test split anew. Sensitivity is the mean of S over
steps, then over the layers and items of the test split, near meaning the same for all runs.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mmf import MmfError
from mmf.fuse.compare.question import FILE, Question
from mmf.fuse.explain.maps.layers import self_attention_layers
from mmf.fuse.explain.maps.sensitivity import sensitivities
from mmf.fuse.explain.subject import Subject, open_subject
from mmf.fuse.layers.neighbourhood import Neighbourhood
from mmf.fuse.run import Run
from mmf.fuse.training.loop import MAIN_METRIC


@dataclass(frozen=True, kw_only=True)
class SensitiveRun:
    """One run of a comparison."""

    row: str
    run: Path
    metric: str
    value: float  # of the metric, on the test split
    local: float  # mean S; NaN where none is defined
    items: int  # that it is the mean of


def is_comparison(path: str | Path) -> bool:
    """Whether a folder is one of `mmf compare`."""
    return (Path(path) / FILE).exists()


def sensitive_runs(
    folder: str | Path,
    store: str | Path | None = None,
    *,
    neighbourhood: Neighbourhood | None = None,
    probes: int | None = None,
    most: int = 8,
    device: str = "auto",
) -> Iterator[SensitiveRun]:
    """Each tested run with a layer of GMSA, on the first `most` items of its test split.

    Raises MmfError where there is none, and where no neighbourhood is named and they have several.
    """
    found, own = list[tuple[str, Path]](), set[tuple[str, int, int, int]]()
    for row, path in tested(Path(folder)):
        subject = open_subject(path, store, device=device)
        with suppress(MmfError):  # a row of another kind
            layers = self_attention_layers(subject).values()
            own |= {(o.mask, o.block, o.side, o.stride) for o in (one.options for one in layers)}
            found.append((row, path))
    if not found:
        raise MmfError(
            f"comparison {str(folder)!r} has no tested run with a layer of GMSA, whose local "
            "sensitivity this is. Compare runs with --aggregates gmsa or --fusions gmsa."
        )
    if neighbourhood is None and len(own) > 1:
        raise MmfError(
            f"the runs of {str(folder)!r} have {len(own)} different neighbourhoods, so their "
            "sensitivities cannot be held against each other. Say what near means for all: "
            "--extent STEPS."
        )
    for row, path in found:
        subject = open_subject(path, store, device=device)
        yield _measured(row, subject, neighbourhood, probes, most)


def tested(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each run that was tested, with the name of its row."""
    try:
        question = Question.from_json(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MmfError(f"{str(folder)!r} holds no comparison: {error!r}.") from error
    for row in question.rows:
        for cell in row.cells:
            for config in question.runs(cell, folder):
                if (Path(config.out) / "test.json").exists():
                    yield row.name, Path(config.out)


def _measured(
    row: str, subject: Subject, near: Neighbourhood | None, probes: int | None, most: int
) -> SensitiveRun:
    run = subject.run
    found = list(islice(sensitivities(subject, near, probes), most))
    means = np.array([one.mean for of in found for one in of])
    known = means[~np.isnan(means)]
    metric = MAIN_METRIC[run.task]
    return SensitiveRun(
        row=row,
        run=run.path,
        metric=metric,
        value=_test_metrics(run)[metric],
        local=float(known.mean()) if len(known) else float("nan"),
        items=len(found),
    )


def _test_metrics(run: Run) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((run.path / "test.json").read_text(encoding="utf-8"))[
        "metrics"
    ]
    return metrics
