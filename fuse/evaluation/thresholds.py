"""Where a score is high enough to say a class: a threshold for each, chosen on validation.

Of all thresholds a class has the one with the best F1, ``2 tp / (said + positives)``, over the
validation items for which it is rated; of equal ones the highest. It lies in the middle between the
lowest score that is said and the highest that is not, so that the last bit of a score decides
nothing. A class without a positive in validation has none.

thresholds.json beside a run's checkpoints holds them with the digest of the weights that they were
chosen for: those that did best in validation.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from mmf import MmfError
from mmf.fuse.evaluation.levels import scored
from mmf.fuse.evaluation.subject import collect, open_subject
from mmf.fuse.ranking import tied
from mmf.fuse.run import Run
from mmf.fuse.training import checkpoint

logger = logging.getLogger(__name__)

FILE = "thresholds.json"


def thresholds(run: str | Path) -> dict[str, float | None]:
    """A run's thresholds by class: it is said where its score is at least that; None: never.

    Raises MmfError where none were chosen, or for other weights than those that are best now.
    """
    path = Run.open(run).path
    place, again = path / FILE, f"Choose them with `mmf evaluate {path} --choose-thresholds`."
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MmfError(f"run {str(path)!r} has no thresholds. {again}") from None
    except (OSError, ValueError) as error:
        raise MmfError(f"the thresholds {str(place)!r} cannot be read: {error}. {again}") from error
    if kept["weights"] != _weights(path):
        raise MmfError(
            f"the thresholds of run {str(path)!r} were chosen for other weights: it was trained "
            f"further since. {again}"
        )
    found: dict[str, float | None] = kept["thresholds"]
    return found


def choose_thresholds(
    run: str | Path, store: str | Path | None = None, *, device: str = "auto"
) -> dict[str, float | None]:
    """Choose a run's thresholds on its validation items, and keep them in its folder.

    Where items × classes are more scores than are kept, a class is chosen among the items that have
    it in their 20 best, with a warning.
    """
    subject = open_subject(run, store, "val", device=device)
    names, opened = subject.run.classes, subject.run
    accumulator = collect(subject, scored(subject), ["map"]).accumulator
    if not accumulator.is_whole:
        logger.warning(
            "too many scores to keep: the threshold of a class is chosen among the items that have "
            "it in their 20 best"
        )
    found: dict[str, float | None] = dict.fromkeys(names)
    for c, scores, hits in accumulator.rankings():
        found[names[c]] = best_threshold(scores, hits, int(accumulator.positives[c]))
    kept: dict[str, Any] = {"weights": _weights(opened.path), "thresholds": found}
    checkpoint.write_json(opened.path / FILE, kept)
    return found


def best_threshold(
    scores: Shaped[np.ndarray, " B"], hits: Shaped[np.ndarray, " B"], positives: int
) -> float | None:
    """The threshold of one class with the best F1; None where no score of a positive is there."""
    if not hits.any():
        return None
    said, found = tied(scores, hits)
    best = int(np.argmax(2 * np.cumsum(found) / (said + positives)))  # the first: the highest
    falling = np.unique(scores)[::-1].astype(np.float64)  # the score of each tied group
    if best + 1 == len(falling) or not math.isfinite(falling[best + 1]):
        return float(falling[best])
    return float(falling[best : best + 2].mean())


def _weights(run: Path) -> str:
    found = checkpoint.newest(run / "checkpoints")
    if found is None:
        raise MmfError(f"run {str(run)!r} has no weights yet; train it first.")
    digest: str = found[1]["files"]["best.safetensors"]
    return digest
