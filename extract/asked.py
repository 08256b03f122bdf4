"""What a job is asked to do: its options, its inputs, and what of them is still to do."""

import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmf import MmfError
from mmf.extract.backbones import backbone_class
from mmf.extract.manifest import Input, Manifest, read_manifest
from mmf.extract.manifest.folders import STORE_MARK
from mmf.extract.pipeline import Task
from mmf.extract.request import FeatureRequest
from mmf.store import FeatureSpec, FeatureStore
from mmf.store.files import open_files


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """How a job runs. Nothing here changes a row: what does stands in the requests."""

    workers: int | None = None  # lanes; None = one per core on a CPU, one on a GPU
    device: str = "auto"  # auto | cpu | cuda
    retry_failed: bool = False  # only the videos that failed before
    allow_partial: bool = False  # take files that end too early
    max_failure_rate: float = 0.05  # of the videos tried
    replace: bool = False  # begin features of another recipe anew
    shard: tuple[int, int] | None = None  # (i, n): the i-th of n parts, 0 ≤ i < n, by the ids' hash

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise MmfError(f"workers is {self.workers}; expected 1 or more.")
        if self.shard and not 0 <= self.shard[0] < self.shard[1]:
            raise MmfError(
                f"shard {self.shard[0]}/{self.shard[1]}: expected i/n with 0 ≤ i < n; the first of "
                "four is 0/4."
            )


USUAL = JobOptions()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A job before it begins."""

    manifest: Manifest
    path: Path  # of the store
    store: FeatureStore | None  # None: there is none yet
    inputs: tuple[Input, ...]
    requests: tuple[FeatureRequest, ...]
    device: str  # cpu | cuda
    options: JobOptions

    def todo(
        self, store: FeatureStore | None = None, *, anew: Collection[str] = ()
    ) -> Iterator[tuple[tuple[str, ...], Task]]:
        """Each input that has something to do, with the names of the features it lacks.

        Features that begin `anew` are lacking whatever the store has under their names.
        """
        store = store or self.store
        wanted = "failed" if self.options.retry_failed else None
        states: dict[str, dict[str, str]] = {request.name: {} for request in self.requests}
        tries: dict[tuple[str, str], int] = {}
        if store is not None:
            there = store.features.keys() - set(anew)
            states |= {name: store.state(name) for name in states if name in there}
            for failure in store.failures().to_pylist():
                tries[failure["feature"], failure["video_id"]] = failure["attempts"]
        for source in self.inputs:
            id_ = source.video_id
            names = tuple(name for name, state in states.items() if state.get(id_) == wanted)
            if names:
                attempts = 1 + max(tries.get((name, id_), 0) for name in names)
                yield names, Task(source=source, attempts=attempts)


def asked(
    source: str | os.PathLike[str] | Manifest,
    store: str | os.PathLike[str] | FeatureStore,
    requests: Sequence[FeatureRequest],
    options: JobOptions,
) -> Asked:
    """What `extract` is asked with these arguments; MmfError where it cannot be meant."""
    _check_names(requests)
    manifest = source if isinstance(source, Manifest) else read_manifest(source)
    inputs = [one for one in manifest.inputs() if _in_shard(one.video_id, options.shard)]
    folder = store.path if isinstance(store, FeatureStore) else open_files(store).root
    path = folder.absolute()
    there = FeatureStore(path) if (path / STORE_MARK).exists() else None
    if there:  # what was deleted is no input any more
        inputs = [one for one in inputs if one.video_id not in there.denied]
    known = there.features if there and not options.replace else {}
    return Asked(
        manifest=manifest,
        path=path,
        store=there,
        inputs=tuple(inputs),
        requests=tuple(_settled(request, known.get(request.name)) for request in requests),
        device=_device(options.device, requests),
        options=options,
    )


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
    needed = any(r.speech or backbone_class(r.backbone, r.modality).has_weights for r in requests)
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
