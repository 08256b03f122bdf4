"""What a job would do and take, before it begins: planned from headers, measured on a few videos.

Rows, frames and bytes come from a look at every file's header, in the decoder's process. Hours come
from extracting some videos in earnest into a store that is thrown away: decoding goes with seconds
of media, a forward pass with batches of rows.
"""

import itertools
import math
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmf import MmfError
from mmf.extract.asked import USUAL, Asked, JobOptions, asked
from mmf.extract.decoder.events import Ended, Failed
from mmf.extract.decoder.parent import Decoder
from mmf.extract.job import extract
from mmf.extract.manifest import Manifest, read_manifest
from mmf.extract.recipe import build, spec
from mmf.extract.request import FeatureRequest
from mmf.extract.signals import Cues, Frames, Signal, Waves
from mmf.store import FeatureSpec, FeatureStore

AHEAD = 64  # files that the decoder's process knows of
# what is asked of every file beside the features, to tell which streams it has
_STREAMS: dict[str, Signal] = {"pictures": Frames(), "sound": Waves(), "captions": Cues()}


@dataclass(frozen=True, kw_only=True)
class PlannedFeature:
    """The rows that one feature would get."""

    spec: FeatureSpec
    videos: int = 0  # that have the stream
    rows: int = 0
    heard: int = 0  # of the videos, those whose rows speech will give: how many is not known

    @property
    def bytes(self) -> int:
        """Bytes of the stored rows."""
        return self.rows * self.spec.row_bytes

    def times(self, measured: int, *, longer: float) -> float:
        """How many times the forward passes of so many measured rows these take.

        Every pass is of a full batch, however few its rows. What is heard goes with seconds of
        media, of which there are `longer` times as many: how many rows it gives is not known.
        """
        if self.heard:
            return longer
        batch = self.spec.recipe["batch"]
        return math.ceil(self.rows / batch) / math.ceil(measured / batch)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to do, as far as headers say."""

    inputs: int
    todo: int  # inputs that lack a feature; what follows is of these
    streams: Mapping[str, int]  # pictures, sound, captions → videos that have them
    features: tuple[PlannedFeature, ...]
    unusable: Mapping[str, int]  # reason → videos
    media_seconds: float = 0.0
    frames: int = 0
    size_bytes: int = 0  # of the files


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a plan takes, after some of its videos were measured."""

    measured: int  # videos
    rows: int  # of those, of all features
    decoder_cpu_seconds: float
    forward_cpu_seconds: float
    gpu_seconds: float
    bytes: int  # to be stored
    limit: str  # the side that the other one waits for

    @property
    def seconds(self) -> float:
        """On this machine, if every core is kept busy."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        busy = (self.decoder_cpu_seconds + self.forward_cpu_seconds) / cores
        return max(busy, self.gpu_seconds)


def plan(
    source: str | os.PathLike[str] | Manifest,
    store: str | os.PathLike[str] | FeatureStore,
    requests: Sequence[FeatureRequest],
    options: JobOptions = USUAL,
) -> Plan:
    """What `extract` with these arguments would do; nothing is decoded and nothing written."""
    job = asked(source, store, requests, options)
    specs = [_spec(job, request) for request in job.requests]
    there = job.store.features if job.store else {}
    anew = [one.name for one in specs if one.fingerprint != there.get(one.name, one).fingerprint]
    headers, groups = _Headers(job.requests), job.todo(anew=anew)
    wanted: dict[str, tuple[str, ...]] = {}  # of the videos that the decoder knows of
    with Decoder(headers.signals, plan=True) as decoder:
        left = ((names, task) for names, tasks in groups.items() for task in tasks)
        while True:
            for names, task in itertools.islice(left, AHEAD - decoder.pending):
                one = task.source
                wanted[one.video_id] = names
                decoder.submit(one.video_id, one.path, captions=one.captions, size=one.size)
            if (event := next(decoder.events(), None)) is None:
                break
            if isinstance(event, Ended | Failed):
                headers.see(wanted.pop(event.key), event)
    return Plan(
        inputs=len(job.rows),
        todo=sum(map(len, groups.values())),
        streams={name: headers.streams[name] for name in _STREAMS},
        features=tuple(
            PlannedFeature(
                spec=one,
                videos=headers.videos[one.name],
                rows=headers.rows[one.name],
                heard=headers.heard[one.name],
            )
            for one in specs
        ),
        unusable=dict(headers.unusable),
        media_seconds=headers.media_seconds,
        frames=headers.frames,
        size_bytes=headers.size_bytes,
    )


class _Headers:
    """What the headers that were seen say together."""

    def __init__(self, requests: Sequence[FeatureRequest]):
        self._signal_of = {request.name: request.signal for request in requests}
        self.signals = list(dict.fromkeys([*self._signal_of.values(), *_STREAMS.values()]))
        self.streams, self.unusable = Counter[str](), Counter[str]()
        self.videos, self.rows, self.heard = Counter[str](), Counter[str](), Counter[str]()
        self.media_seconds, self.frames, self.size_bytes = 0.0, 0, 0

    def see(self, wanted: Sequence[str], event: Ended | Failed) -> None:
        """Count a video that lacks the features `wanted`."""
        self.size_bytes += event.media.size_bytes
        if isinstance(event, Failed):
            self.unusable[event.reason] += 1
            return
        self.media_seconds += event.media.duration or 0.0
        self.frames += event.media.frames
        there = {s: n for n, s in enumerate(self.signals) if n not in event.missing}
        self.streams.update(name for name, signal in _STREAMS.items() if signal in there)
        for name in wanted:
            if (signal := self._signal_of[name]) in there:
                self.videos[name] += 1
                self.rows[name] += event.rows[there[signal]]
                self.heard[name] += isinstance(signal, Cues) and not event.rows[there[signal]]


def measure(
    planned: Plan,
    source: str | os.PathLike[str] | Manifest,
    requests: Sequence[FeatureRequest],
    options: JobOptions,
    *,
    videos: int,
) -> Estimate:
    """Extract so many of the videos of `source` into a store that is thrown away, and reckon.

    They are taken evenly from the list, whether they are done already or not.
    """
    manifest = source if isinstance(source, Manifest) else read_manifest(source)
    count = min(videos, len(manifest))
    first = manifest.first[np.arange(count) * len(manifest) // count]
    options = replace(options, retry_failed=False, replace=False, shard=None, max_failure_rate=1.0)
    with tempfile.TemporaryDirectory(prefix="mmf-sample-") as folder:
        few = replace(manifest, first=first)
        job = asked(few, Path(folder) / "sample.mmf", requests, options)
        result = extract(few, job.path, requests, options)
    if not result.media_seconds:
        raise MmfError(
            f"none of the {count} videos that were measured could be used, so nothing can be said. "
            "Measure more of them (--sample 100), or see `mmf status --failures` after a run."
        )
    spent, on_gpu = result.spent, job.device == "cuda"
    longer = planned.media_seconds / result.media_seconds
    found = [(feature, spent.forward[feature.spec.name]) for feature in planned.features]
    forward = [(f.times(one.rows, longer=longer), one) for f, one in found if one.rows or f.heard]
    return Estimate(
        measured=result.tried,
        rows=spent.forward_all.rows,
        decoder_cpu_seconds=spent.decoder_cpu_seconds * longer,
        forward_cpu_seconds=sum(times * one.cpu_seconds for times, one in forward),
        gpu_seconds=sum(times * one.seconds for times, one in forward) if on_gpu else 0.0,
        bytes=sum(feature.bytes for feature in planned.features),
        limit=spent.limit,
    )


def _spec(job: Asked, request: FeatureRequest) -> FeatureSpec:
    """What is or would be stored; what `extract` would refuse is an error here already."""
    made = spec(request, build(request, device=job.device))
    if job.store is not None and not job.options.replace:
        job.store.check_feature(made)
    return made
