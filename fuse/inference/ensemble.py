"""Several runs as one: the weighted mean of their scores.

The classes are those of all runs; where a run does not know a class its score there is 0, and the
sum is divided by the weights of all. (The published code for averaging files of predictions takes
only half of the pairs in each line.) What a run cannot say is another matter: of an item that has
no row of its features, the others have the word alone.

Each run reads its own features and aggregates, normalises and thins out rows as it has learned to.
One run alone is the ensemble of one, and keeps its own logits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mmf import MmfError
from mmf.fuse.data import choose_device, with_rows
from mmf.fuse.inference.scoring import Scored, exact, logits, parts
from mmf.fuse.losses import probabilities
from mmf.fuse.network import Network
from mmf.fuse.run import Run
from mmf.store import Batch, FeatureSpec, FeatureStore, Item
from mmf.store.items import Items
from mmf.store.spec import differing_field


@dataclass(frozen=True, kw_only=True, eq=False)
class _Voice:
    """A run, ready to score."""

    run: Run
    network: Network
    weight: float
    places: np.ndarray  # of its classes among those of all runs

    def logits(self, batch: Batch) -> np.ndarray:
        """Float64 (B, its classes)."""
        return logits(self.network, batch, {name: self.run.specs[name] for name in batch.values})


class Ensemble:
    """Runs whose scores are averaged; each network is loaded once, and kept.

    `classes` are those of all, in the order in which they appear; `loss` and `task` say what the
    logits mean, as for a run: single-label with cross entropy only where every run is.
    """

    def __init__(
        self,
        runs: Sequence[str | Path],
        *,
        weights: Sequence[float | int] | None = None,
        device: str = "auto",
    ):
        self.runs = tuple(Run.open(run) for run in runs)
        shares = _weights(self.runs, weights)
        _check_features(self.runs)
        self.classes = tuple(dict.fromkeys(c for run in self.runs for c in run.classes))
        self.loss = "ce" if all(run.loss == "ce" for run in self.runs) else "bce"
        self.task = "single" if all(run.task == "single" for run in self.runs) else "multi"
        place, at = choose_device(device), {name: i for i, name in enumerate(self.classes)}
        self._voices = [
            _Voice(
                run=run,
                network=exact(run.trained().to(place)),
                weight=weight,
                places=np.array([at[name] for name in run.classes]),
            )
            for run, weight in zip(self.runs, shares, strict=True)
        ]

    @cached_property
    def specs(self) -> dict[str, FeatureSpec]:
        """The features that the runs read."""
        return {name: spec for run in self.runs for name, spec in run.specs.items()}

    @property
    def by_video(self) -> bool:
        """Whether a run reads the items of a video one after the other."""
        return any(voice.network.by_video for voice in self._voices)

    @property
    def alone(self) -> tuple[Run, Network] | None:
        """The run, and its network as it scores, where there is one."""
        return (self.runs[0], self._voices[0].network) if len(self.runs) == 1 else None

    def check(self, store: FeatureStore) -> None:
        """Raise MmfError where the store made a feature in another way, or has none of a run's."""
        for run in self.runs:
            run.check_features(store)

    def score(
        self, store: FeatureStore, items: Sequence[Item], *, label_set: str | None = None
    ) -> Iterator[Scored]:
        """Logits of a store's items, as `fuse.inference.scoring.score` gives them of one network.

        Those of several runs are such that `Scored.scores(loss)` is the mean of their scores.
        """
        self.check(store)
        columns = Items.of(items)
        for at in parts(columns, by_video=self.by_video):
            part = columns.take(at)

            def read(run: Run, part: Items = part) -> Batch:
                names = [name for name in run.specs if name in store.features]
                steps = run.config.max_steps
                return store.batch(part, names, label_set=label_set, max_steps=steps)

            yield self.score_batch(read)

    def score_batch(self, read: Callable[[Run], Batch]) -> Scored:
        """Logits of the items of one forward pass; `read` gives them as a run reads them."""
        batches = [read(voice.run) for voice in self._voices]
        there = np.stack([with_rows(batch) for batch in batches])  # (runs, B)
        first = batches[0]
        return Scored(
            items=first.items,
            logits=self._together(batches, there),
            labels=first.labels,
            rated=first.rated,
            there=np.any(there, axis=0),
        )

    def _together(self, batches: Sequence[Batch], there: np.ndarray) -> np.ndarray:
        """Float64 (B, C); of a run, only where it has a row of the item."""
        if len(batches) == 1:
            return self._voices[0].logits(batches[0])
        total, weights = np.zeros((len(batches[0]), len(self.classes))), np.zeros(there.shape[1])
        for voice, batch, some in zip(self._voices, batches, there, strict=True):
            scores = probabilities(torch.from_numpy(voice.logits(batch)), voice.run.loss).numpy()
            total[np.ix_(some, voice.places)] += voice.weight * scores[some]
            weights[some] += voice.weight
        return _logits_of(total / np.where(weights > 0, weights, 1)[:, None], self.loss)


def _logits_of(scores: np.ndarray, loss: str) -> np.ndarray:
    """What gives these probabilities again, finite also where they are 0 or 1."""
    log = np.log(np.maximum(scores, 1e-300))
    return log if loss == "ce" else log - np.log(np.maximum(1 - scores, 1e-300))


def _weights(runs: Sequence[Run], weights: Sequence[float | int] | None) -> list[float]:
    if not runs:
        raise MmfError("an ensemble of no runs: expected the folder of a run at least.")
    shares = [1.0] * len(runs) if weights is None else [float(w) for w in weights]
    if len(shares) != len(runs):
        raise MmfError(f"{len(shares)} weights for {len(runs)} runs; expected one for each.")
    for share in shares:
        if not (share > 0 and np.isfinite(share)):
            raise MmfError(f"weight {share:g} of a run: expected a number above 0.")
    return shares


def _check_features(runs: Sequence[Run]) -> None:
    """Raise MmfError where two runs mean different rows by one name."""
    first: dict[str, Run] = {}
    for run in runs:
        for name, spec in run.specs.items():
            other = first.setdefault(name, run)
            if other.specs[name].fingerprint != spec.fingerprint:
                differs = differing_field(other.specs[name].identity, spec.identity)
                raise MmfError(
                    f"runs {str(other.path)!r} and {str(run.path)!r} were trained on different "
                    f"rows of feature {name!r}: {differs} (there: the first). No store has both "
                    "under one name; average runs of one store."
                )
