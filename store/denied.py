"""Videos that were deleted: hidden, or gone for good.

``denied/<n>.json`` holds a salted hash of each id, so that the list itself does not name what was
to be forgotten. What is denied is neither shown, nor extracted again, nor labelled.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mmf.store import head
from mmf.store.files import Files, read_sealed

FOLDER = "denied"


@dataclass(frozen=True, kw_only=True)
class Denied:
    """The denylist of a store, as of one version."""

    number: int = 0
    salt: str = ""
    hashes: Mapping[str, bool] = field(default_factory=dict)  # hash of an id → purged too

    def __contains__(self, video_id: object) -> bool:
        return bool(self.hashes) and self._hash(str(video_id)) in self.hashes

    def purged(self, video_id: str) -> bool:
        """Whether nothing of the video may stay in the store."""
        return bool(self.hashes) and self.hashes.get(self._hash(video_id), False)

    def without(self, table: pa.Table) -> pa.Table:
        """The rows of a table, by its column video_id, that are not of a denied video."""
        if not self.hashes or not len(table):
            return table
        kept = np.fromiter((v not in self for v in table["video_id"].to_pylist()), bool, len(table))
        return table if kept.all() else table.filter(pa.array(kept))

    def _hash(self, video_id: str) -> str:
        key = bytes.fromhex(self.salt)
        data = video_id.encode("utf-8", "surrogateescape")
        return hashlib.blake2b(data, key=key, digest_size=16).hexdigest()


def read(files: Files, known: Denied = Denied()) -> Denied:
    """The denylist that stands; `known` if that is the one."""
    folder = files.root / FOLDER
    newest = max(folder.glob("*.json"), default=None) if folder.is_dir() else None
    if newest is None or int(newest.stem) == known.number:
        return known
    try:
        value = read_sealed(newest)
    except FileNotFoundError:  # another one has just taken its place
        return read(files, known)
    return Denied(number=int(newest.stem), salt=value["salt"], hashes=value["hashes"])


def deny(files: Files, video_ids: Iterable[str], *, purge: bool) -> Denied:
    """Add videos to the denylist; with `purge`, nothing of them may stay."""
    ids = list(video_ids)
    while True:
        old = read(files)
        grown = Denied(salt=old.salt or os.urandom(16).hex(), hashes={**old.hashes})
        fresh = {grown._hash(v): purge or old.purged(v) for v in ids}
        hashes = {**old.hashes, **fresh}
        if hashes == old.hashes:
            return old
        value = {"salt": grown.salt, "hashes": hashes}
        if files.publish(files.root / FOLDER, value, after=old.number):
            head.note(files)
            return read(files)
