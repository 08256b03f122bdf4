"""Prediction of media files by a run with a policy: only what the policy asks for is computed.

First come the rows from which decisions are made, of all videos; if that is sound, no picture is
decoded. The rows of everything else are counted without decoding. Then the run is asked which of
them it wants, and these are extracted, by the same recipes, into a store of their own. The scores
are those of a store that has every row (`mmf.fuse.inference.asking`).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmf import MmfError
from mmf.commands.media_given import check_ended, manifest_of, say_failures

if TYPE_CHECKING:
    from mmf.extract import Counted, JobResult, Manifest
    from mmf.fuse.inference.asking import Asking
    from mmf.fuse.inference.ensemble import Ensemble
    from mmf.fuse.inference.scoring import Scored
    from mmf.fuse.policy.contract import SegmentFusion
    from mmf.store import FeatureStore
    from mmf.store.items import Items


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A store of the rows that were asked for, and which of its videos' rows they are."""

    store: "FeatureStore"
    rows: Mapping[str, Mapping[str, Any]]  # video → feature → ranges


class Adaptive:
    """Media files, and the rows of them that a run has asked for so far; in a folder of its own."""

    def __init__(self, ensemble: "Ensemble", videos: Sequence[str], folder: Path):
        from mmf.extract import choosable, lanes_kept, request_from_spec
        from mmf.fuse.inference.asking import needed_first

        if ensemble.alone is None or (policy := ensemble.alone[1].policy) is None:
            raise MmfError("expected one run with a policy, which says what is to be computed.")
        self.run, self._network = ensemble.alone
        self.policy: SegmentFusion = policy
        self._folder = folder
        self._requests = {n: request_from_spec(spec) for n, spec in self.run.specs.items()}
        whole = {name for name, request in self._requests.items() if not choosable(request)}
        self.first = needed_first(self.run, self._network, whole)
        self._manifest = manifest_of(videos)
        self.others = tuple(name for name in self.run.specs if name not in self.first)
        began = time.perf_counter()
        self.counted = self._count()
        self.deciding = time.perf_counter() - began  # seconds, beside the rows that it takes
        self.asked: list[JobResult] = []  # each time that the run wanted something
        self._parts: list[_Asked] = []
        with lanes_kept():
            self.before = self._extract("first", self._manifest, self.first)
            self._stored = _open(folder / "first")
            while wanted := self._wanted():
                self._extract_wanted(wanted)

    def scored(self) -> Iterator["Scored"]:
        """What the run says of the videos, some at a time."""
        for asking, _ in self._askings():
            yield asking.score()

    def _count(self) -> dict[str, "Counted"]:
        from mmf.extract import count_rows

        others = [self._requests[name] for name in self.others]
        return dict(count_rows(self._manifest, others)) if others else {}

    def _wanted(self) -> dict[str, Any]:
        """By video what is wanted and not there yet."""
        began, found = time.perf_counter(), {}
        for asking, items in self._askings():
            each = zip(items.video_ids.to_pylist(), asking.wanted(), strict=True)
            found.update({video: rows for video, rows in each if rows})
        self.deciding += time.perf_counter() - began
        return found

    def _extract_wanted(self, wanted: Mapping[str, Any]) -> None:
        from mmf.extract import Chosen

        name = f"asked-{len(self._parts) + 1}"
        features = [n for n in self._requests if any(n in rows for rows in wanted.values())]
        ids = self._manifest.table["video_id"].to_pylist()
        first = np.flatnonzero([video in wanted for video in ids])
        some = replace(self._manifest, first=first)
        chosen = {
            video: Chosen(seconds=self.counted[video].seconds, rows=rows)
            for video, rows in wanted.items()
        }
        self.asked.append(self._extract(name, some, features, chosen=chosen))
        self._parts.append(_Asked(store=_open(self._folder / name), rows=wanted))

    def _extract(
        self, name: str, manifest: "Manifest", features: Sequence[str], **chosen: Any
    ) -> "JobResult":
        from mmf.extract import JobOptions
        from mmf.extract import extract as run_job

        requests = [self._requests[feature] for feature in features]
        options = JobOptions(max_failure_rate=1.0)
        result = run_job(manifest, self._folder / name, requests, options, **chosen)
        say_failures(self._folder / name)
        check_ended(result, len(self._manifest))
        return result

    def _askings(self) -> Iterator[tuple["Asking", "Items"]]:
        """The videos, as many at a time as one forward pass takes, with the rows that are there."""
        import pyarrow as pa

        from mmf.fuse.inference.asking import Asking
        from mmf.fuse.inference.scoring import parts
        from mmf.store.items import Items

        ids = sorted(self._manifest.table["video_id"].to_pylist())
        every = Items.of_videos(pa.chunked_array([pa.array(ids, pa.string())]))
        for at in parts(every, by_video=False):
            items = every.take(at)
            first = self._stored.batch(items, self.first, label_set=None)
            lengths = {**first.lengths, **self._lengths(items)}
            asking = Asking(self.run, self._network, items, lengths)
            for name in self.first:
                for i, n in enumerate(first.lengths[name].tolist()):
                    asking.give(name, i, np.arange(n), first.values[name][i, :n])
            for asked in self._parts:
                _give(asking, items, asked)
            yield asking, items

    def _lengths(self, items: "Items") -> dict[str, np.ndarray]:
        """How many rows the videos have of what is asked for; none of one that failed."""
        ids = items.video_ids.to_pylist()
        stores = [self._stored, *(part.store for part in self._parts)]
        failed = set().union(*map(_failed, stores))
        there = [self.counted.get(v) if v not in failed else None for v in ids]
        return {n: np.array([c.rows[n] if c else 0 for c in there], np.int32) for n in self.others}


def _open(path: Path) -> "FeatureStore":
    from mmf.store import FeatureStore

    return FeatureStore(path)


def _failed(store: "FeatureStore") -> set[str]:
    return set(store.failures()["video_id"].to_pylist())


def _give(asking: "Asking", items: "Items", asked: _Asked) -> None:
    """What was extracted because it was asked for."""
    batch = asked.store.batch(items, tuple(asked.store.features), label_set=None)
    for i, video in enumerate(items.video_ids.to_pylist()):
        for name, ranges in asked.rows.get(video, {}).items():
            rows = np.concatenate([np.arange(*of) for of in ranges])
            if n := int(batch.lengths[name][i]):
                asking.give(name, i, rows[:n], batch.values[name][i, :n])
