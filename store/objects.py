"""A store in a bucket: its small files in a folder of this machine, its shards behind a cache.

The folder stands for the URL: opened as a store, it is the one in the bucket. Every change goes to
the bucket first and then to the folder (`mmf.store.mirror`).

A commit is what it is in a folder: shards, then a record under a key that nobody else has. Where a
folder relies on exclusive `link`, a bucket has conditional puts: a new object only where there is
none, newer bytes only in the place of those that were read. There are no locks.
"""

# ruff: noqa: D102  `Files` says what they do

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from mmf import MmfError
from mmf.store import layout
from mmf.store.bucket import Bucket, Object
from mmf.store.cache import CACHE_BYTES, CachedShard, ShardCache
from mmf.store.files import LOST, ORIGIN, Entry, Files
from mmf.store.mirror import Mirror

SHARDS = "shards"  # the cache's folder


def open_objects(where: str | os.PathLike[str]) -> "ObjectFiles":
    """The store at a URL, or the one that a folder stands for."""
    origin = Path(where) / ORIGIN
    if origin.exists():
        return ObjectFiles(json.loads(origin.read_bytes())["url"], Path(where))
    scheme, _, rest = str(where).partition(":/")
    url = f"{scheme}://{rest.strip('/')}"
    return ObjectFiles(url, cache_folder() / _folder_name(url))


def cache_folder() -> Path:
    """Where what is in a bucket is kept on this machine: MMF_CACHE, or the user's cache folder."""
    if chosen := os.environ.get("MMF_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "mmf"


def cache_bytes() -> int:
    """How large the cache of a store's shards may be: MMF_CACHE_GB, or 64."""
    return gigabytes("MMF_CACHE_GB", CACHE_BYTES)


def gigabytes(variable: str, usual: int) -> int:
    """Bytes that a variable of the environment allows, which says them in GiB; else the usual."""
    given = os.environ.get(variable, "")
    try:
        return int(float(given) * (1 << 30)) if given else usual
    except (ValueError, OverflowError):
        raise MmfError(
            f"{variable} is {given!r}; expected a number of GiB, such as {usual >> 30}."
        ) from None


def _folder_name(url: str) -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")  # there may be a bucket of the name at each
    hashed = hashlib.sha256(f"{endpoint}\0{url}".encode()).hexdigest()[:16]
    return f"{url.rpartition('/')[2][:32]}-{hashed}"


class ObjectFiles(Files):
    """The objects below a URL."""

    far = True
    most_open = 0  # the cache has them open

    def __init__(self, url: str, root: Path):
        self.root, self.name = root, url
        self._bucket = Bucket(url)
        self._mirror = Mirror(self._bucket, root)
        self._mirror.begin(doubtful=root / SHARDS)
        self._cache = ShardCache(self._bucket, root / SHARDS, cache_bytes())
        self._tried = False  # whether the storage does conditional puts
        self._listed: dict[str, dict[str, Object]] = {}  # array → its shards by key

    def sync(self, *, afresh: bool = False) -> None:
        self._mirror.sync(afresh=afresh)

    def names(self) -> set[str]:
        objects, folders = self._bucket.folder("")
        return {*(o.key for o in objects), *folders}

    # how files come to be

    def place(self, part: Path, target: Path) -> bool:
        key, data = self._key(target), part.read_bytes()
        made = self._bucket.create(key, data)
        if made is None:
            if not self._bucket.same(key, data):  # ours is there where an answer was lost
                self._listed.pop(target.parent.name, None)
                return False
            made = self._bucket.head(key)
        elif not self._tried and not _is_shard(key):
            self._try_exclusive(key, data)
        self._came(made, data)
        part.unlink()
        return True

    def _try_exclusive(self, key: str, data: bytes) -> None:
        """See once whether the storage keeps two writers apart: the same bytes harm nothing."""
        if self._bucket.create(key, data) is not None:
            raise MmfError(
                f"{self.name!r} puts an object where there is one, though it is asked not to "
                "(If-None-Match), so that two writers would overwrite each other. Keep the store "
                "in another storage."
            )
        self._tried = True

    def put(self, path: Path, data: bytes) -> None:
        self._came(self._bucket.put(self._key(path), data), data)

    def update(self, path: Path, change: Callable[[bytes | None], bytes | None]) -> None:
        while True:
            try:
                found, old = self._bucket.get(self._key(path))
            except FileNotFoundError:
                found, old = None, None
            new = change(old)
            if new is None or new == old:
                return
            if found is None:
                made = self._bucket.create(self._key(path), new)
            else:
                made = self._bucket.replace(found, new)
            if made is not None:
                self._came(made, new)
                return

    def _came(self, made: Object, data: bytes) -> None:
        """Keep here what has just been put there; a shard comes back when somebody reads it."""
        if _is_shard(made.key):
            self._listed.get(made.key.split("/")[-2], {})[made.key] = made
        else:
            self._mirror.keep(made, data)

    # how they go

    def remove(self, path: Path) -> None:
        if path.parent != self.tmp:
            self._delete([self._key(path)])
        path.unlink(missing_ok=True)

    def remove_folder(self, folder: Path) -> None:
        self._delete([o.key for o in self._bucket.below(self._key(folder))])
        shutil.rmtree(folder, ignore_errors=True)

    def _delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self._bucket.delete(keys)
        for key in filter(_is_shard, keys):
            self._listed.get(key.split("/")[-2], {}).pop(key, None)
            self._cache.forget(key)

    def set_aside(self, path: Path, *, keep: bool) -> None:
        key = self._key(path)
        self._bucket.copy(key, f"{LOST}/{key.replace('/', '.')}")
        if not keep:
            self.remove(path)

    # shards

    def weigh(self, path: Path) -> tuple[int, float]:
        found = [] if path.is_relative_to(self.tmp) else self._bucket.below(self._key(path))
        if not found and not _is_shard(self._key(path)):  # a file, as the bucket has it
            stat = path.stat()
            return stat.st_size, stat.st_mtime
        found = found or [self._bucket.head(self._key(path))]
        return sum(o.size_bytes for o in found), max(o.modified for o in found)

    def has(self, path: Path) -> bool:
        key = self._key(path)
        return self._shard(key) is not None if _is_shard(key) else path.is_file()

    def shards(self, array: Path) -> list[Entry]:
        return [
            Entry(path=self.root / key, size_bytes=one.size_bytes, since=one.modified)
            for key, one in sorted(self._list(array.name).items())
        ]

    def next_slot(self, array: Path) -> int:
        known = self._listed.get(array.name)
        keys = self._list(array.name) if known is None else known
        return max((int(key.split("/")[-1].split(".")[1]) for key in keys), default=-1) + 1

    def open_shard(self, path: Path) -> CachedShard:
        found = self._shard(self._key(path))
        if found is None:
            raise MmfError(
                f"the store has lost '{self.name}/{self._key(path)}'. Restore it from a copy, or "
                "run `mmf repair`."
            )
        return self._cache.open(found)

    def let_go(self) -> None:
        self._cache.let_go()

    def crc32c(self, path: Path) -> int:
        return self.open_shard(path).crc32c()

    def _shard(self, key: str) -> Object | None:
        array = key.split("/")[-2]
        found = self._listed.get(array, {}).get(key)
        return found or self._list(array).get(key)

    def _list(self, array: str) -> dict[str, Object]:
        """The shards that an array has now; the cache forgets all others."""
        objects = self._bucket.folder(f"{layout.GROUP}/{array}")[0]
        found = {o.key: o for o in objects if _is_shard(o.key)}
        self._listed[array] = found
        self._cache.keep_only(array, found.values())
        return found

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _is_shard(key: str) -> bool:
    return key.startswith(f"{layout.GROUP}/") and key.rpartition("/")[2].startswith("c.")
