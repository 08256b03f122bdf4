"""The small files of a bucket in a folder of this machine.

`sync` brings what others have changed, by a listing for each kind of file. A file's time says,
below the second, which version of its object it is; so both come to be at once, whichever process
of this machine fetches it.
"""

import os
import shutil
import time
import uuid
from pathlib import Path

import google_crc32c

from mmf.store import layout
from mmf.store.bucket import Bucket, Object
from mmf.store.files import ORIGIN, TMP, json_bytes, naming

KINDS = ("log", "index", "features", "catalog", "snapshots", "denied")
_CLOCK_SECONDS = 0.05  # that files' times may be behind
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Mirror:
    """The folder `root`, which stands for a bucket's URL; its files are those of the bucket."""

    def __init__(self, bucket: Bucket, root: Path):
        self.root, self._bucket = root, bucket
        self._tmp = root / TMP
        self._tmp.mkdir(parents=True, exist_ok=True)
        if not (root / ORIGIN).exists():
            self._write(root / ORIGIN, json_bytes({"url": bucket.url}))

    def begin(self, *, doubtful: Path) -> None:
        """The first sync: afresh, and without `doubtful`, where the machine was started since.

        One that stopped may not have brought to its disk what it had here.
        """
        boot = _BOOT.read_bytes() if _BOOT.exists() else b"unknown"
        mark = self.root / "boot"
        if mark.exists() and mark.read_bytes() == boot:
            self.sync()
            return
        shutil.rmtree(doubtful, ignore_errors=True)
        self.sync(afresh=True)
        self._write(mark, boot)

    def sync(self, *, afresh: bool = False) -> None:
        """Bring what others have changed; with `afresh` everything, whatever is here."""
        begun = time.time()
        kinds = self._bucket.pool.map(self._bucket.below, KINDS)
        (top, _), (group, arrays) = self._bucket.pool.map(self._bucket.folder, ("", layout.GROUP))
        listed = [o for objects in (top, group, *kinds) for o in objects]
        stale = [o for o in listed if afresh or not self._is_current(o)]
        # what names others comes after what it names
        tables = [o.key for o in stale if not o.key.endswith(".json")]
        named = [o.key for o in stale if o.key.endswith(".json")]
        for keys in (tables, [*named, *(f"{layout.GROUP}/{array}/zarr.json" for array in arrays)]):
            list(self._bucket.pool.map(self._fetch, keys))
        self._forget({o.key for o in listed}, set(arrays), begun)

    def _fetch(self, key: str) -> None:
        """Bring one object; nothing happens where it has just gone."""
        try:
            found, data = self._bucket.get(key)
        except FileNotFoundError:
            if key.endswith("/zarr.json"):
                (self.root / key).parent.mkdir(parents=True, exist_ok=True)
                (self.root / key).unlink(missing_ok=True)
            return
        self.keep(found, data)

    def keep(self, found: Object, data: bytes) -> None:
        """Write an object's bytes to its place here, with its time."""
        nanoseconds = int(found.modified) * 10**9 + _tag(found)
        target = self.root / found.key
        target.parent.mkdir(parents=True, exist_ok=True)
        self._write(target, data, nanoseconds)

    def _write(self, target: Path, data: bytes, nanoseconds: int | None = None) -> None:
        """Put a file here at once; it need not reach the disk, for the bucket has it."""
        part = self._tmp / f"{uuid.uuid4().hex}.part"
        with naming(part):
            part.write_bytes(data)
            if nanoseconds is not None:
                os.utime(part, ns=(nanoseconds, nanoseconds))
            os.replace(part, target)

    def _is_current(self, found: Object) -> bool:
        try:
            stat = (self.root / found.key).stat()
        except FileNotFoundError:
            return False
        return stat.st_size == found.size_bytes and stat.st_mtime_ns % 10**9 == _tag(found)

    def _forget(self, keys: set[str], arrays: set[str], begun: float) -> None:
        """Remove what is here and was not listed, unless it came here since."""
        folders = [self.root / kind for kind in KINDS]
        files = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
        files += [p for p in self.root.glob("*.json") if p.name != ORIGIN]
        for path in files:
            if path.relative_to(self.root).as_posix() not in keys and _is_older(path, begun):
                path.unlink(missing_ok=True)
        for folder in (self.root / layout.GROUP).glob("*/"):
            if folder.name not in arrays and _is_older(folder, begun):
                shutil.rmtree(folder, ignore_errors=True)


def _is_older(path: Path, than: float) -> bool:
    try:
        return path.stat().st_ctime < than - _CLOCK_SECONDS
    except FileNotFoundError:
        return False


def _tag(found: Object) -> int:
    """Nanoseconds below a second, whole microseconds, that tell versions of an object apart."""
    return int(google_crc32c.value(found.tag.encode())) % 10**6 * 1000
