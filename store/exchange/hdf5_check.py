"""What is refused in an HDF5 file before a value of it is read.

HDF5 follows external links, external storage and virtual datasets into any file that the user can
read, loads filters from shared libraries, and lets a file of a kilobyte claim terabytes.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mmf import MmfError

MAX_OBJECTS = 20_000_000
MAX_VIDEO_BYTES = 4 << 30
MAX_EXPANSION = 1100  # deflate's best is 1032
SLACK_BYTES = 64 << 20
FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_SZIP,
    h5py.h5z.FILTER_LZF,
}


class UnsafeFile(MmfError, ValueError):
    """A file that would read from elsewhere, or claims more than it can hold."""


def check(file: Any, path: Path) -> None:
    """Raise UnsafeFile unless every link is a hard one and every dataset lies in the file.

    `file` is an open h5py.File. Nothing but metadata is looked at, and no link is followed before
    it was seen to be a hard one.
    """
    links: list[tuple[bytes, int]] = []

    def look(name: bytes, info: Any) -> bool | None:
        links.append((name, info.type))
        return True if len(links) > MAX_OBJECTS else None  # it cannot raise through HDF5

    file.id.links.visit(look, info=True)
    if len(links) > MAX_OBJECTS:
        raise _refused(path, "/", f"holds more than {MAX_OBJECTS} objects")
    for name, kind in links:
        if kind != h5py.h5l.TYPE_HARD:
            external = kind == h5py.h5l.TYPE_EXTERNAL
            what = "is an external link, to another file" if external else "is a soft link"
            raise _refused(path, name.decode(errors="replace"), what)
    size = path.stat().st_size
    for name, _ in links:
        where, found = name.decode(errors="replace"), h5py.h5o.open(file.id, name)
        if isinstance(found, h5py.h5d.DatasetID):
            _check_dataset(found, path, where, size)
        elif not isinstance(found, h5py.h5g.GroupID):
            raise _refused(path, where, "is neither a group nor a dataset")


def _check_dataset(dataset: Any, path: Path, where: str, size: int) -> None:
    properties = dataset.get_create_plist()
    if properties.get_external_count():
        raise _refused(path, where, "keeps its values in another file")
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        raise _refused(path, where, "is a virtual dataset, made of other files")
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if filters - FILTERS:
        raise _refused(path, where, f"needs the filter {min(filters - FILTERS)}")
    if dataset.dtype.kind not in "fiu" and not _is_text(dataset):
        raise _refused(path, where, f"holds {dataset.dtype}, not numbers")
    claimed = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    if claimed > size * MAX_EXPANSION + SLACK_BYTES:
        raise _refused(path, where, f"claims {claimed} bytes in a file of {size}")


def _is_text(dataset: Any) -> bool:
    return h5py.check_string_dtype(dataset.dtype) is not None


def _refused(path: Path, where: str, what: str) -> UnsafeFile:
    return UnsafeFile(
        f"{str(path)!r} is refused: {where!r} {what}. Nothing of it was read. Copy the values into "
        "plain datasets of one file first."
    )
