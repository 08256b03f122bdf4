"""A run, or several, kept ready for whoever has rows of features at hand: from a service, say."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np

from mmf import MmfError, unknown
from mmf.fuse.inference.ensemble import Ensemble
from mmf.fuse.inference.scoring import parts
from mmf.fuse.run import Run
from mmf.store import Batch, FeatureSpec, Item
from mmf.store.batch import evenly
from mmf.store.items import Items

Clip: TypeAlias = Mapping[str, Any]  # feature → its rows (T, *row shape), as numbers


class Predictor:
    """Scores of clips, given as the rows of their features; the networks are loaded once.

    >>> predictor = Predictor("runs/mfb-1")
    >>> predictor({"rgb": rgb, "audio": audio})  # (T, D) each, T its own
    {'red': 0.93, 'blue': 0.04, …}

    Of several runs it is the mean (`fuse.inference.ensemble`). `classes` are the names of the
    scores, `features` says what is read. The scores are those that `mmf predict` gives for the
    same rows: these are brought to the type that the store keeps them in, codes of 8 bits for
    example, and thinned out to as many as the run reads.
    """

    def __init__(
        self,
        *runs: str | Path,
        weights: Sequence[float | int] | None = None,
        device: str = "auto",
    ):
        self._ensemble = Ensemble(runs, weights=weights, device=device)
        self.classes: tuple[str, ...] = self._ensemble.classes

    @property
    def features(self) -> dict[str, FeatureSpec]:
        """What a row of each feature is."""
        return dict(self._ensemble.specs)

    @overload
    def __call__(self, clips: Clip) -> dict[str, float]: ...
    @overload
    def __call__(self, clips: Sequence[Clip]) -> list[dict[str, float]]: ...
    def __call__(self, clips: Clip | Sequence[Clip]) -> dict[str, float] | list[dict[str, float]]:
        """Class → score of a clip, best first; of a list of clips, a list."""
        several = [clips] if isinstance(clips, Mapping) else clips
        found = self.scores(several)
        best = np.argsort(-found, axis=1, kind="stable").tolist()
        each = [
            {self.classes[c]: float(row[c]) for c in order}
            for row, order in zip(found, best, strict=True)
        ]
        return each[0] if isinstance(clips, Mapping) else each

    def scores(self, clips: Sequence[Clip], *, videos: Sequence[str] | None = None) -> np.ndarray:
        """Float32 (clips, C), in the order of `classes`.

        `videos` names the video of each clip, for runs that read the clips of a video in their
        order (`--head sequence`); without it, each is alone. A feature may be left out of a clip.
        Raises MmfError for rows that the store would not take, and for a clip without any.
        """
        items = Items.of([Item(video_id=v) for v in videos or map(str, range(len(clips)))])
        if len(items) != len(clips):
            raise MmfError(f"{len(items)} videos for {len(clips)} clips; expected one for each.")
        rows = list(self._stored(clips))
        found = np.zeros((len(clips), len(self.classes)), dtype=np.float32)
        for at in parts(items, by_video=self._ensemble.by_video):

            def read(run: Run, at: np.ndarray = at) -> Batch:
                return _batch(run, items.take(at), [rows[i] for i in at])

            scored = self._ensemble.score_batch(read)
            if not scored.there.all():
                number = at[np.flatnonzero(~scored.there)[0]]
                expected = ", ".join(self.features)
                raise MmfError(f"clip {number} has no row of any feature; expected {expected}.")
            found[at] = scored.scores(self._ensemble.loss)
        return found

    def _stored(self, clips: Sequence[Clip]) -> Iterator[dict[str, np.ndarray]]:
        """The rows of each clip in the types of the store."""
        for clip in clips:
            for name in clip:
                if name not in self._ensemble.specs:
                    raise unknown("feature", name, self._ensemble.specs)
            yield {n: self._ensemble.specs[n].encode(np.asarray(x)) for n, x in clip.items()}


def _batch(run: Run, items: Items, clips: Sequence[Mapping[str, np.ndarray]]) -> Batch:
    """Clips as a store would give them to a run."""
    values, lengths = {}, {}
    for name, spec in run.specs.items():
        none = np.zeros((0, *spec.shape), dtype=spec.dtype)
        each = [clip.get(name, none) for clip in clips]
        most = run.config.max_steps
        each = [x if len(x) <= most else x[evenly(len(x), most)] for x in each]
        lengths[name] = np.array([len(x) for x in each], dtype=np.int32)
        values[name] = np.zeros((len(each), max(1, *lengths[name]), *spec.shape), spec.dtype)
        for place, x in zip(values[name], each, strict=True):
            place[: len(x)] = x
    nothing = np.zeros((len(clips), 0), dtype=np.float32)
    return Batch(
        items=items, values=values, lengths=lengths, labels=nothing, rated=nothing.astype(bool)
    )
