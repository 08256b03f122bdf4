"""A job: inputs → what is still to do → lanes → commits, with progress, and the books closed.

Every input ends done, skipped or failed for every feature: inputs = done + failed + skipped. What
is done is not done again, whoever did it; the same command goes on where the last one stopped.
"""

import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from mmf import MmfError
from mmf.cluster.watch import ClusterStarted
from mmf.extract.asked import USUAL, Asked, JobOptions, asked, not_deleted
from mmf.extract.backbones import Backbone
from mmf.extract.chosen import Chosen
from mmf.extract.lanes import LONG_BYTES, Work, bytes_of, lanes_kept, run_here, run_processes
from mmf.extract.manifest import Manifest
from mmf.extract.pipeline import Feature, Task
from mmf.extract.recipe import build, spec
from mmf.extract.request import FeatureRequest
from mmf.extract.scalars import drawn
from mmf.extract.stopping import Stop
from mmf.extract.tally import Counts, JobResult, JobStarted, Progress, Tally
from mmf.extract.todo import count
from mmf.store import FeatureSpec, FeatureStore

if TYPE_CHECKING:
    from mmf.cluster.connect import Connection

# a process takes seconds to load torch: it is worth it for so many videos, or so large ones
VIDEOS_PER_LANE = 32


def extract(
    source: str | os.PathLike[str] | Manifest,
    store: str | os.PathLike[str] | FeatureStore,
    requests: Sequence[FeatureRequest],
    options: JobOptions = USUAL,
    progress: Progress | None = None,
    *,
    chosen: Mapping[str, Chosen] | None = None,
) -> JobResult:
    """Extract the requested features of every video of `source` into `store`.

    `source` is a folder, a media file, a manifest file or a Manifest. A video that cannot be used
    is a row of `store.failures()`, never an exception; MmfError is for what stops the whole job
    (weights, another recipe under the same name), OSError for the store. With `chosen`, by video,
    only these rows of a video are extracted, which then are all that the store has of it.

    >>> rgb = FeatureRequest(name="rgb", modality="rgb", backbone="hog")
    >>> extract("clips", "features.mmf", [rgb]).counts["rgb"]
    Counts(done=8, skipped=0, failed=0, missing=0)
    """
    job = asked(source, store, requests, options)
    # before the store: weights that cannot be had leave nothing behind
    device = job.device if options.cluster is None else "cpu"  # the lanes are elsewhere
    backbones = [build(request, device=device) for request in job.requests]
    begun = _Job(job, chosen or {})
    del job  # the store that it looked into is let go of before the books are closed
    result = begun.run(backbones, progress or (lambda _: None))
    if isinstance(store, FeatureStore):
        store.refresh()
    return result


class _Job:
    def __init__(self, job: Asked, chosen: Mapping[str, Chosen]):
        self.chosen = chosen
        self.job, self.options, self.device = job, job.options, job.device
        self.requests = job.requests
        self.store = job.store or FeatureStore.create(job.path)

    def run(self, backbones: Sequence[Backbone], progress: Progress) -> JobResult:
        """Create the features, run the lanes, count what came of it."""
        started = time.monotonic()
        features = [
            Feature(spec=self._create(spec(request, backbone)), backbone=backbone)
            for request, backbone in zip(self.requests, backbones, strict=True)
        ]
        groups = self.job.todo(self.store, chosen=self.chosen)
        todo = sum(map(len, groups.values()))
        lanes = {names: self._lanes(tasks) for names, tasks in groups.items()}
        progress(
            JobStarted(inputs=len(self.job.rows), todo=todo, lanes=max(lanes.values(), default=0))
        )
        with (
            Stop() as stop,
            lanes_kept(),
            drawn(self.store.files, progress) as progress,
            self._cluster(todo) as cluster,
        ):
            if cluster is not None:
                progress(ClusterStarted(dashboard=cluster.dashboard))
            tally = Tally(self.options.max_failure_rate, progress, stop)
            for names, tasks in groups.items():
                if not stop.requested:
                    wanted = [f for f in features if f.spec.name in names]
                    self._run_group(wanted, tasks, lanes[names], tally, cluster)
        return self._result(tally, todo, time.monotonic() - started)

    def _cluster(self, todo: int) -> "AbstractContextManager[Connection | None]":
        """The cluster of the job, where it has one and something to do."""
        if self.options.cluster is None or not todo:
            return nullcontext()
        from mmf.cluster.connect import connected
        from mmf.store.probe import probe

        probe(self.store.files)
        return connected(self.options.cluster, gpu=self.device == "cuda")

    def _create(self, made: FeatureSpec) -> FeatureSpec:
        # with `replace`, the very recipe is not begun anew: the same command goes on after a kill
        old = self.store.features.get(made.name)
        anew = self.options.replace and old is not None and old.fingerprint != made.fingerprint
        return self.store.create_feature(made, replace=anew)

    def _lanes(self, tasks: Collection[Task]) -> int:
        if self.device != "cpu":
            return 1
        if self.options.workers:
            return min(self.options.workers, len(tasks))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        lanes = 0.0
        for task in tasks:
            lanes += bytes_of(task.source) / LONG_BYTES + 1 / VIDEOS_PER_LANE
            if lanes >= (cores or 1):
                break
        return max(1, min(int(lanes), len(tasks), cores or 1))

    def _run_group(
        self,
        features: Sequence[Feature],
        tasks: Collection[Task],
        lanes: int,
        tally: Tally,
        cluster: "Connection | None",
    ) -> None:
        """Videos that lack the same features; the decoder gives no signal that nobody wants."""
        batch = {f.spec.name: f.spec.recipe["batch"] for f in features}
        work = Work(
            store=self.store.files.name,
            requests=tuple(
                replace(request, batch=batch[request.name])
                for request in self.requests
                if request.name in batch
            ),
            device=self.device,
            allow_partial=self.options.allow_partial,
            canary=cluster is not None,
        )
        if cluster is not None and self.options.cluster is not None:
            from mmf.extract.cluster.driver import Driver

            driver = Driver(cluster, self.options.cluster, work, tally, tally.stop)
            driver.run(iter(tasks), len(tasks))
        elif lanes == 1:
            run_here(work, features, tasks, tally, tally.stop)
        else:
            run_processes(lanes, work, tasks, tally, tally.stop)

    def _result(self, tally: Tally, todo: int, seconds: float) -> JobResult:
        path, manifest = self.store.path, self.job.manifest
        self.job = replace(self.job, store=None)
        del self.store  # an index of millions of videos is not held twice
        store = FeatureStore(path)
        rows = not_deleted(store, manifest, self.job.rows)
        counts = {r.name: Counts(**count(store, r.name, manifest, rows)) for r in self.requests}
        missing = {name: c.missing for name, c in counts.items() if c.missing}
        if missing and not tally.stop.requested and not self.options.retry_failed:
            raise MmfError(f"inputs without an outcome: {missing}. This is a defect of mmf.")
        return JobResult(
            inputs=len(rows),
            todo=todo,
            counts=counts,
            **vars(tally.through),
            seconds=seconds,
            spent=tally.spent,
            stopped=tally.stop.requested,
            max_failure_rate=self.options.max_failure_rate,
        )
