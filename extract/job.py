"""A job: inputs → what is still to do → lanes → commits, with progress, and the books closed.

Every input ends done, skipped or failed for every feature: inputs = done + failed + skipped. What
is done is not done again, whoever did it; the same command goes on where the last one stopped.
"""

import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmf import MmfError
from mmf.extract.lanes import Work, run_here, run_processes
from mmf.extract.manifest import Input, Manifest, read_manifest
from mmf.extract.pipeline import Feature, Task, VideoEnded
from mmf.extract.recipe import FeatureRequest, build, spec
from mmf.extract.stopping import Stop
from mmf.store import FeatureSpec, FeatureStore

JUDGED_AFTER = 200  # videos, before the share of failures can end a job
VIDEOS_PER_LANE = 4  # at least; a process takes a second or more to start


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How a job runs. Nothing here changes a row: what does stands in the requests."""

    workers: int | None = None  # lanes; None = one per core on a CPU, one on a GPU
    device: str = "auto"  # auto | cpu | cuda
    retry_failed: bool = False
    allow_partial: bool = False  # take files that end too early
    max_failure_rate: float = 0.05  # of the videos tried
    replace: bool = False  # begin features of another recipe anew
    dry_run: bool = False  # say what would be done
    shard: tuple[int, int] | None = None  # (i, n): the i-th of n parts, 0 ≤ i < n, by the ids' hash

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise MmfError(f"workers is {self.workers}; expected 1 or more.")
        if self.shard and not 0 <= self.shard[0] < self.shard[1]:
            raise MmfError(
                f"shard {self.shard[0]}/{self.shard[1]}: expected i/n with 0 ≤ i < n; the first of "
                "four is 0/4."
            )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Inputs of one feature by what became of them; `missing` only where the job did not end."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    missing: int = 0


@dataclass(frozen=True, kw_only=True)
class JobStarted:
    """Said once, before the first video: how many inputs, and how many have something to do."""

    inputs: int
    todo: int
    lanes: int


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job found and did."""

    inputs: int
    todo: int  # inputs that had something to do when the job began
    tried: int = 0
    failed: int = 0  # of those tried
    counts: Mapping[str, Counts] = field(default_factory=dict)  # by feature, earlier runs included
    frames: int = 0
    media_seconds: float = 0.0
    seconds: float = 0.0
    stopped: str = ""  # "" = ran to its end; SIGTERM, SIGINT, failures
    max_failure_rate: float = 0.05

    @property
    def exit_code(self) -> int:
        """0 within the limit of failures, 3 above it, 75 on SIGTERM, 130 on SIGINT."""
        if self.stopped in ("SIGTERM", "SIGINT"):
            return {"SIGTERM": 75, "SIGINT": 130}[self.stopped]
        too_many = self.stopped == "failures" or self.failed > self.max_failure_rate * self.tried
        return 3 if too_many else 0


Progress = Callable[[JobStarted | VideoEnded], None]


def extract(
    source: str | os.PathLike[str] | Manifest,
    store: str | os.PathLike[str] | FeatureStore,
    requests: Sequence[FeatureRequest],
    options: JobOptions = JobOptions(),
    progress: Progress | None = None,
) -> JobResult:
    """Extract the requested features of every video of `source` into `store`.

    `source` is a folder, a media file, a manifest file or a Manifest. A video that cannot be used
    is a row of `store.failures()`, never an exception; MmfError is for what stops the whole job
    (weights, another recipe under the same name), OSError for the store.

    >>> extract("clips", "features.mmf", [FeatureRequest(name="rgb", modality="rgb", ...)])
    """
    job = _Job(source, store, requests, options)
    return job.dry_run() if options.dry_run else job.run(progress or (lambda _: None))


class _Job:
    def __init__(
        self,
        source: str | os.PathLike[str] | Manifest,
        store: str | os.PathLike[str] | FeatureStore,
        requests: Sequence[FeatureRequest],
        options: JobOptions,
    ):
        _check_names(requests)
        self.options = options
        manifest = source if isinstance(source, Manifest) else read_manifest(source)
        self.inputs = [i for i in manifest.inputs() if _in_shard(i.video_id, options.shard)]
        path = store.path if isinstance(store, FeatureStore) else Path(store)
        self.path = path.absolute()
        if isinstance(store, FeatureStore):
            store.refresh()
        there = None if options.dry_run and not path.exists() else FeatureStore.create(path)
        self.store = there
        self.device = _device(options.device, requests)
        known = there.features if there and not options.replace else {}
        self.requests = [_settled(request, known.get(request.name)) for request in requests]

    def dry_run(self) -> JobResult:
        """What would be done; the store is not touched."""
        todo = sum(1 for _ in self._todo(self.store.features if self.store else {}))
        return JobResult(inputs=len(self.inputs), todo=todo)

    def run(self, progress: Progress) -> JobResult:
        """Do it."""
        started = time.monotonic()
        if self.store is None:
            raise MmfError("a dry run has no store to write to.")
        features = [self._feature(request) for request in self.requests]
        groups: dict[tuple[str, ...], list[Task]] = {}
        for names, task in self._todo({f.spec.name: f.spec for f in features}):
            groups.setdefault(names, []).append(task)
        todo = sum(map(len, groups.values()))
        lanes = {names: self._lanes(len(tasks)) for names, tasks in groups.items()}
        most = max(lanes.values(), default=0)
        progress(JobStarted(inputs=len(self.inputs), todo=todo, lanes=most))
        tally = _Tally(self.options.max_failure_rate, progress)
        with Stop() as stop:
            tally.stop = stop
            for names, tasks in groups.items():
                if not stop.requested:
                    wanted = [f for f in features if f.spec.name in names]
                    self._run_group(wanted, tasks, lanes[names], tally)
        return self._result(tally, todo, time.monotonic() - started)

    def _feature(self, request: FeatureRequest) -> Feature:
        backbone = build(request, device=self.device)
        made = spec(request, backbone)
        if self.store is None:
            raise MmfError("a dry run has no store to write to.")
        return Feature(
            spec=self.store.create_feature(made, replace=self._replaces(made)), backbone=backbone
        )

    def _replaces(self, made: FeatureSpec) -> bool:
        # a feature of the very recipe is not begun anew: the same command goes on after a kill
        old = self.store.features.get(made.name) if self.store else None
        return self.options.replace and old is not None and old.fingerprint != made.fingerprint

    def _todo(self, there: Mapping[str, FeatureSpec]) -> Iterator[tuple[tuple[str, ...], Task]]:
        """Each input that has something to do, with the names of the features it lacks."""
        settled = (
            ("done", "skipped") if self.options.retry_failed else ("done", "skipped", "failed")
        )
        states = {
            r.name: self.store.state(r.name)
            for r in self.requests
            if r.name in there and self.store
        }
        tries = self._attempts() if self.options.retry_failed else {}
        for source in self.inputs:
            names = tuple(
                r.name
                for r in self.requests
                if states.get(r.name, {}).get(source.video_id) not in settled
            )
            if names:
                attempts = 1 + max((tries.get((n, source.video_id), 0) for n in names), default=0)
                yield names, Task(source=source, attempts=attempts)

    def _attempts(self) -> dict[tuple[str, str], int]:
        if self.store is None:
            return {}
        failures = self.store.failures().select(["feature", "video_id", "attempts"]).to_pylist()
        return {(f["feature"], f["video_id"]): f["attempts"] for f in failures}

    def _lanes(self, videos: int) -> int:
        if self.device != "cpu":
            return 1
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if self.options.workers:
            return min(self.options.workers, videos)
        return max(1, min(cores or 1, videos // VIDEOS_PER_LANE))

    def _run_group(
        self, features: Sequence[Feature], tasks: Sequence[Task], lanes: int, tally: "_Tally"
    ) -> None:
        wanted = {f.spec.name: f.spec.recipe["batch"] for f in features}
        work = Work(
            store=self.path,
            requests=tuple(
                replace(r, batch=wanted[r.name]) for r in self.requests if r.name in wanted
            ),
            device=self.device,
            allow_partial=self.options.allow_partial,
        )
        if lanes == 1:
            run_here(work, features, tasks, tally, tally.stop)
        else:
            run_processes(lanes, work, tasks, tally, tally.stop)

    def _result(self, tally: "_Tally", todo: int, seconds: float) -> JobResult:
        store = FeatureStore(self.path)
        counts = {r.name: _counts(store, r.name, self.inputs) for r in self.requests}
        missing = {name: c.missing for name, c in counts.items() if c.missing}
        if missing and not tally.stop.requested:
            raise MmfError(f"inputs without an outcome: {missing}. This is a defect of mmf.")
        return JobResult(
            inputs=len(self.inputs),
            todo=todo,
            tried=tally.tried,
            failed=tally.failed,
            counts=counts,
            frames=tally.frames,
            media_seconds=tally.media_seconds,
            seconds=seconds,
            stopped=tally.stop.requested,
            max_failure_rate=self.options.max_failure_rate,
        )


class _Tally:
    """Counts the videos as they end, and stops a job of which too many fail."""

    def __init__(self, max_failure_rate: float, progress: Progress):
        self.stop = Stop()
        self.tried = self.failed = self.frames = 0
        self.media_seconds = 0.0
        self._max_failure_rate, self._progress = max_failure_rate, progress

    def __call__(self, event: VideoEnded) -> None:
        self.tried += 1
        self.failed += "failed" in event.status.values()
        self.frames += event.media.frames
        self.media_seconds += event.media.duration or 0.0
        if self.tried >= JUDGED_AFTER and self.failed > self._max_failure_rate * self.tried:
            self.stop.request("failures")
        self._progress(event)


def _check_names(requests: Sequence[FeatureRequest]) -> None:
    if not requests:
        raise MmfError("no feature is asked for. Name a modality (--modality rgb).")
    names = [request.name for request in requests]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MmfError(f"two features are called {twice[0]!r}. Give one of them another --name.")


def _in_shard(video_id: str, shard: tuple[int, int] | None) -> bool:
    if shard is None:
        return True
    index, count = shard
    return zlib.crc32(video_id.encode("utf-8", "surrogateescape")) % count == index


def _device(device: str, requests: Sequence[FeatureRequest]) -> str:
    """auto → cuda where there is one and a backbone can use it."""
    from mmf.extract.backbones import backbone_class

    if device != "auto":
        return device
    if not any(backbone_class(r.backbone, r.modality).has_weights for r in requests):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _settled(request: FeatureRequest, there: FeatureSpec | None) -> FeatureRequest:
    """The request with its batch shape: asked for, or the one the feature was created with."""
    if request.batch is not None or there is None or "batch" not in there.recipe:
        return request
    return replace(request, batch=there.recipe["batch"])


def _counts(store: FeatureStore, feature: str, inputs: Sequence[Input]) -> Counts:
    state = store.state(feature)
    found = [state.get(source.video_id, "missing") for source in inputs]
    return Counts(**{key: found.count(key) for key in ("done", "skipped", "failed", "missing")})
