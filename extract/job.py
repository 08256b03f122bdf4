"""A job: inputs → what is still to do → lanes → commits, with progress, and the books closed.

Every input ends done, skipped or failed for every feature: inputs = done + failed + skipped. What
is done is not done again, whoever did it; the same command goes on where the last one stopped.
"""

import contextlib
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mmf import MmfError
from mmf.extract.backbones import Backbone, backbone_class
from mmf.extract.lanes import Work, run_here, run_processes
from mmf.extract.manifest import Input, Manifest, read_manifest
from mmf.extract.manifest.folders import STORE_MARK
from mmf.extract.pipeline import Feature, Task
from mmf.extract.recipe import FeatureRequest, build, spec
from mmf.extract.stopping import Stop
from mmf.extract.tally import Counts, JobResult, JobStarted, Progress, Tally
from mmf.store import FeatureSpec, FeatureStore
from mmf.store.files import open_files

# a process takes seconds to load torch: it is worth it for so many videos, or so large ones
VIDEOS_PER_LANE = 32
BYTES_PER_LANE = 32 << 20


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

    >>> asked = FeatureRequest(name="rgb", modality="rgb", backbone="hog")
    >>> extract("clips", "features.mmf", [asked]).counts["rgb"]
    Counts(done=8, skipped=0, failed=0, missing=0)
    """
    _check_names(requests)
    manifest = source if isinstance(source, Manifest) else read_manifest(source)
    inputs = [one for one in manifest.inputs() if _in_shard(one.video_id, options.shard)]
    folder = store.path if isinstance(store, FeatureStore) else open_files(store).root
    path = folder.absolute()
    there = FeatureStore(path) if (path / STORE_MARK).exists() else None
    if there:  # what was deleted is no input any more
        inputs = [one for one in inputs if one.video_id not in there.denied]
    known = there.features if there and not options.replace else {}
    requests = [_settled(request, known.get(request.name)) for request in requests]
    device = _device(options.device, requests)
    if options.dry_run:
        return JobResult(
            inputs=len(inputs), todo=len(list(_todo(there, inputs, requests, options)))
        )
    # before the store: weights that cannot be had leave nothing behind
    backbones = [build(request, device=device) for request in requests]
    job = _Job(FeatureStore.create(path), inputs, requests, options, device)
    result = job.run(backbones, progress or (lambda _: None))
    if isinstance(store, FeatureStore):
        store.refresh()
    return result


class _Job:
    def __init__(
        self,
        store: FeatureStore,
        inputs: Sequence[Input],
        requests: Sequence[FeatureRequest],
        options: JobOptions,
        device: str,
    ):
        self.store, self.inputs, self.requests = store, inputs, requests
        self.options, self.device = options, device

    def run(self, backbones: Sequence[Backbone], progress: Progress) -> JobResult:
        """Create the features, run the lanes, count what came of it."""
        started = time.monotonic()
        features = [
            Feature(spec=self._create(spec(request, backbone)), backbone=backbone)
            for request, backbone in zip(self.requests, backbones, strict=True)
        ]
        groups: dict[tuple[str, ...], list[Task]] = {}
        for names, task in _todo(self.store, self.inputs, self.requests, self.options):
            groups.setdefault(names, []).append(task)
        todo = sum(map(len, groups.values()))
        lanes = {names: self._lanes(tasks) for names, tasks in groups.items()}
        progress(
            JobStarted(inputs=len(self.inputs), todo=todo, lanes=max(lanes.values(), default=0))
        )
        with Stop() as stop:
            tally = Tally(self.options.max_failure_rate, progress, stop)
            for names, tasks in groups.items():
                if not stop.requested:
                    wanted = [f for f in features if f.spec.name in names]
                    self._run_group(wanted, tasks, lanes[names], tally)
        return self._result(tally, todo, time.monotonic() - started)

    def _create(self, made: FeatureSpec) -> FeatureSpec:
        # with `replace`, the very recipe is not begun anew: the same command goes on after a kill
        old = self.store.features.get(made.name)
        anew = self.options.replace and old is not None and old.fingerprint != made.fingerprint
        return self.store.create_feature(made, replace=anew)

    def _lanes(self, tasks: Sequence[Task]) -> int:
        if self.device != "cpu":
            return 1
        if self.options.workers:
            return min(self.options.workers, len(tasks))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        lanes = 0.0
        for task in tasks:
            with contextlib.suppress(OSError, ValueError):  # the decoder says what is wrong
                lanes += os.stat(task.source.path).st_size / BYTES_PER_LANE
            lanes += 1 / VIDEOS_PER_LANE
            if lanes >= (cores or 1):
                break
        return max(1, min(int(lanes), len(tasks), cores or 1))

    def _run_group(
        self, features: Sequence[Feature], tasks: Sequence[Task], lanes: int, tally: Tally
    ) -> None:
        """Videos that lack the same features; the decoder gives no signal that nobody wants."""
        batch = {f.spec.name: f.spec.recipe["batch"] for f in features}
        work = Work(
            store=self.store.path,
            requests=tuple(
                replace(request, batch=batch[request.name])
                for request in self.requests
                if request.name in batch
            ),
            device=self.device,
            allow_partial=self.options.allow_partial,
        )
        if lanes == 1:
            run_here(work, features, tasks, tally, tally.stop)
        else:
            run_processes(lanes, work, tasks, tally, tally.stop)

    def _result(self, tally: Tally, todo: int, seconds: float) -> JobResult:
        store = FeatureStore(self.store.path)
        inputs = [one for one in self.inputs if one.video_id not in store.denied]
        counts = {r.name: _counts(store, r.name, inputs) for r in self.requests}
        missing = {name: c.missing for name, c in counts.items() if c.missing}
        if missing and not tally.stop.requested:
            raise MmfError(f"inputs without an outcome: {missing}. This is a defect of mmf.")
        return JobResult(
            inputs=len(inputs),
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


def _todo(
    store: FeatureStore | None,
    inputs: Sequence[Input],
    requests: Sequence[FeatureRequest],
    options: JobOptions,
) -> Iterator[tuple[tuple[str, ...], Task]]:
    """Each input that has something to do, with the names of the features it lacks."""
    settled = {"done", "skipped"} if options.retry_failed else {"done", "skipped", "failed"}
    states: dict[str, dict[str, str]] = {request.name: {} for request in requests}
    tries: dict[tuple[str, str], int] = {}
    if store is not None:
        states |= {name: store.state(name) for name in states if name in store.features}
        for failure in store.failures().to_pylist():
            tries[failure["feature"], failure["video_id"]] = failure["attempts"]
    for source in inputs:
        names = tuple(n for n, state in states.items() if state.get(source.video_id) not in settled)
        if names:
            attempts = 1 + max(tries.get((name, source.video_id), 0) for name in names)
            yield names, Task(source=source, attempts=attempts)


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
    """auto → cuda where there is one; cpu where no backbone has a use for another."""
    if device not in ("auto", "cpu", "cuda"):
        raise MmfError(f"device {device!r}: expected auto, cpu or cuda.")
    needed = any(backbone_class(r.backbone, r.modality).has_weights for r in requests)
    if device == "cpu" or not needed:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise MmfError("device 'cuda': torch sees no GPU here. Ask for --device cpu, or auto.")
    return "cpu"


def _settled(request: FeatureRequest, there: FeatureSpec | None) -> FeatureRequest:
    """The request with its batch shape: asked for, or the one the feature was created with."""
    if request.batch is not None or there is None or "batch" not in there.recipe:
        return request
    return replace(request, batch=there.recipe["batch"])


def _counts(store: FeatureStore, feature: str, inputs: Sequence[Input]) -> Counts:
    state = store.state(feature)
    found = [state.get(source.video_id, "missing") for source in inputs]
    return Counts(**{key: found.count(key) for key in ("done", "skipped", "failed", "missing")})
