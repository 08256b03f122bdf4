"""HDF5 into a store: our own two layouts, and files of others with a dataset per video.

A file of another's hand has ``/<feature>/<video>`` datasets (T, *shape) and perhaps no times: row i
then stands at i / rate seconds.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import h5py
import numpy as np

from mmf import MmfError
from mmf.store.exchange.hdf5 import TIMES
from mmf.store.exchange.hdf5_check import MAX_VIDEO_BYTES, check
from mmf.store.feature_store import FeatureStore
from mmf.store.spec import FeatureSpec
from mmf.store.track import Track

logger = logging.getLogger(__name__)

BUCKET_VIDEOS, BUCKET_BYTES = 256, 256 << 20
_INDEX = ("values", "times", "video_id", "start", "rows")


def import_hdf5(
    store: FeatureStore | str | Path, path: str | Path, *, rate: float = 1.0
) -> dict[str, int]:
    """Import every feature of a file; returns how many videos of each are fresh.

    Videos that the store has already are left out, so a second run goes on where a killed one
    stopped; so are those that were deleted from it. Of a store that is not there only the path is
    given; it is made when the file has been looked at. Raises MmfError where the file is damaged or
    not of a known layout, UnsafeFile where it would read from elsewhere.
    """
    path = Path(path)
    if not path.is_file():
        raise MmfError(f"there is no HDF5 file at {str(path)!r}.")
    try:
        with h5py.File(path, "r") as file:
            check(file, path)
            groups = {n: g for n, g in file.items() if not n.endswith(TIMES)}
            if not groups or not all(isinstance(g, h5py.Group) for g in groups.values()):
                raise MmfError(
                    f"{str(path)!r}: expected groups /<feature> with datasets /<feature>/<video>."
                )
            return {name: _import(store, path, name, group, rate) for name, group in groups.items()}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, MmfError):
            raise
        raise MmfError(f"{str(path)!r} cannot be read as HDF5: {error}.") from error


def _open(store: FeatureStore | str | Path) -> FeatureStore:
    return store if isinstance(store, FeatureStore) else FeatureStore.create(store)


def _import(
    store: FeatureStore | str | Path, path: Path, name: str, group: Any, rate: float
) -> int:
    concatenated = set(group) == set(_INDEX)
    tracks = _concatenated(group, path) if concatenated else _by_video(group, path, rate)
    first = next(tracks, None)
    if first is None:
        return 0
    spec = _spec(name, group, first, rate)
    spec.encode(first.values)  # what is refused leaves no empty store behind
    store = _open(store)
    spec = store.create_feature(spec)
    there, denied = store.state(spec.name), list[str]()
    writer, fresh, pending = store.writer(), 0, 0
    try:
        track: Track | None = first
        while track is not None:
            if track.video_id in store.denied:
                denied.append(track.video_id)
            elif there.get(track.video_id) != "done":
                writer.put(spec.name, track)
                fresh, pending = fresh + 1, pending + 1
            if pending >= BUCKET_VIDEOS or writer.bytes >= BUCKET_BYTES:
                writer.commit()
                pending = 0
            track = next(tracks, None)
    except BaseException:
        writer.discard()
        raise
    writer.commit()
    store.index()
    if denied:
        logger.warning(
            "%d videos of %r were deleted from the store and stay out of it.", len(denied), name
        )
    return fresh


def _spec(name: str, group: Any, first: Track, rate: float) -> FeatureSpec:
    """The recipe in the file; without one, what the rows show."""
    if "mmf" in group.attrs:
        try:
            return FeatureSpec.from_json(json.loads(group.attrs["mmf"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MmfError(f"the attribute 'mmf' of /{name} is no recipe: {error}.") from error
    dtype = {"float16": "float16", "uint8": "uint8", "int32": "int32"}
    return FeatureSpec(
        name=name,
        modality=name,
        shape=first.values.shape[1:],
        dtype=dtype.get(first.values.dtype.name, "float32"),
        rate=rate,
        recipe={"backbone": "hdf5"},
    )


def _by_video(group: Any, path: Path, rate: float) -> Iterator[Track]:
    beside, ours = group.parent.get(group.name.lstrip("/") + TIMES), "mmf" in group.attrs
    if beside is None:
        logger.warning(
            "%s%s has no times; rows are taken to be 1/%g s apart.", path, group.name, rate
        )
    for link, dataset in group.items():
        _refuse_odd(dataset, path)
        values = dataset[()]
        times = np.arange(len(values)) / rate
        if beside is not None and link in beside:
            times = _plain(beside[link], path, values.shape[:1])
        yield Track(video_id=unquote(link) if ours else link, values=values, times=times)


def _concatenated(group: Any, path: Path) -> Iterator[Track]:
    values = group["values"]
    starts, rows = (_plain(group[n], path, group["video_id"].shape) for n in ("start", "rows"))
    row_bytes = int(np.prod(values.shape[1:], dtype=object)) * values.dtype.itemsize
    names = group["video_id"].asstr()
    total = min(len(values), len(group["times"]))
    for i, (start, n) in enumerate(zip(starts.tolist(), rows.tolist(), strict=True)):
        if not 0 <= start <= start + n <= total or n * row_bytes > MAX_VIDEO_BYTES:
            raise MmfError(
                f"{str(path)!r}: {group.name}: video {i} is said to have the rows {start} to "
                f"{start + n} of {total}."
            )
        at = slice(start, start + n)
        yield Track(video_id=names[i], values=values[at], times=group["times"][at])


def _refuse_odd(dataset: Any, path: Path) -> None:
    shaped = isinstance(dataset, h5py.Dataset) and dataset.ndim >= 1
    if not shaped or dataset.dtype.kind not in "fiu" or dataset.nbytes > MAX_VIDEO_BYTES:
        raise MmfError(
            f"{str(path)!r}: {dataset.name}: expected rows of numbers, at most {MAX_VIDEO_BYTES} "
            "bytes."
        )


def _plain(dataset: Any, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a small dataset of this shape."""
    if not isinstance(dataset, h5py.Dataset) or dataset.shape != shape:
        raise MmfError(f"{str(path)!r}: {dataset.name}: expected the shape {shape}.")
    return dataset[()]
