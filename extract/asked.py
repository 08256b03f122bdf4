"""What a job is asked to do: its options, its inputs, and what of them is still to do."""

import os
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from mmf import MmfError
from mmf.cluster.profile import Profile
from mmf.extract.backbones import backbone_class
from mmf.extract.chosen import Chosen
from mmf.extract.manifest import Manifest, read_manifest
from mmf.extract.manifest.folders import STORE_MARK
from mmf.extract.request import FeatureRequest
from mmf.extract.todo import Groups, failed, ids, lacking
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
    cluster: Profile | None = None  # None: lanes of this machine, without a scheduler
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
    rows: np.ndarray  # of the manifest's table: the inputs, in order
    requests: tuple[FeatureRequest, ...]
    device: str  # cpu | cuda
    options: JobOptions

    def todo(
        self,
        store: FeatureStore | None = None,
        *,
        anew: Collection[str] = (),
        chosen: Mapping[str, Chosen] | None = None,
    ) -> Groups:
        """The inputs that have something to do, by the names of the features that they lack.

        Features that begin `anew` are lacking whatever the store has under their names.
        """
        store = store or self.store
        there = store.features.keys() - set(anew) if store is not None else ()
        features = {
            request.name: store.stored(request.name) if store and request.name in there else None
            for request in self.requests
        }
        find = failed if self.options.retry_failed else lacking
        return find(self.manifest, self.rows, features, chosen=chosen or {})


def asked(
    source: str | os.PathLike[str] | Manifest,
    store: str | os.PathLike[str] | FeatureStore,
    requests: Sequence[FeatureRequest],
    options: JobOptions,
) -> Asked:
    """What `extract` is asked with these arguments; MmfError where it cannot be meant."""
    _check_names(requests)
    manifest = source if isinstance(source, Manifest) else read_manifest(source)
    rows = manifest.first
    if options.shard:
        rows = _kept(manifest, rows, partial(_in_shard, options.shard))
    folder = store.path if isinstance(store, FeatureStore) else open_files(store).root
    path = folder.absolute()
    there = FeatureStore(path) if (path / STORE_MARK).exists() else None
    if there:
        rows = not_deleted(there, manifest, rows)
    known = there.features if there and not options.replace else {}
    return Asked(
        manifest=manifest,
        path=path,
        store=there,
        rows=rows,
        requests=tuple(_settled(request, known.get(request.name)) for request in requests),
        device=_device(options, requests),
        options=options,
    )


def _check_names(requests: Sequence[FeatureRequest]) -> None:
    if not requests:
        raise MmfError("no feature is asked for. Name a modality (--modality rgb).")
    names = [request.name for request in requests]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MmfError(f"two features are called {twice[0]!r}. Give one of them another --name.")


def not_deleted(store: FeatureStore, manifest: Manifest, rows: np.ndarray) -> np.ndarray:
    """Of these rows of a manifest, those whose videos were not deleted: they are no inputs."""
    if not store.denied.hashes:
        return rows
    return _kept(manifest, rows, lambda video_id: video_id not in store.denied)


def _kept(manifest: Manifest, rows: np.ndarray, keep: Callable[[str], bool]) -> np.ndarray:
    kept = (keep(video_id) for part in ids(manifest, rows) for video_id in part.to_pylist())
    return rows[np.fromiter(kept, dtype=bool, count=len(rows))]


def _in_shard(shard: tuple[int, int], video_id: str) -> bool:
    index, count = shard
    return zlib.crc32(video_id.encode("utf-8", "surrogateescape")) % count == index


def _device(options: JobOptions, requests: Sequence[FeatureRequest]) -> str:
    """auto → cuda where there is one; cpu where no backbone has a use for another.

    The machine that drives a cluster need not be one of those that have a GPU: there auto is cpu.
    """
    device = options.device
    if device not in ("auto", "cpu", "cuda"):
        raise MmfError(f"device {device!r}: expected auto, cpu or cuda.")
    needed = any(r.speech or backbone_class(r.backbone, r.modality).has_weights for r in requests)
    if device == "cpu" or not needed:
        return "cpu"
    if options.cluster is not None:
        return "cuda" if device == "cuda" else "cpu"
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
