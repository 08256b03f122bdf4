"""Shards of a bucket as far as they have been asked for, in files of this machine.

A file is as long as its shard and has holes where nothing has come yet; behind the shard's bytes
stands one byte for each page of them, 1 where the page is there. It is set after the page is
written, in the same file, so that processes may share a cache and be killed at any moment. Where
files together would be larger than the bound, the shards used longest ago go; who reads one keeps
it open until then.
"""

import hashlib
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import google_crc32c
import numpy as np

from mmf import MmfError
from mmf.store.bucket import Bucket, Object
from mmf.store.files import naming

CACHE_BYTES = 64 << 30
PAGE = 16 << 10
_PIECE_PAGES = (8 << 20) // PAGE  # the most that one request asks for
_MISSING, _THERE, _COMING = 0, 1, 2


class ShardCache:
    """The files of one store's shards, `most_bytes` together and one shard more."""

    def __init__(self, bucket: Bucket, folder: Path, most_bytes: int):
        self._bucket, self._folder, self._most_bytes = bucket, folder, most_bytes
        self._open: OrderedDict[Path, CachedShard] = OrderedDict()  # by their last use
        self._most_open = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._lock = threading.RLock()
        self._room = 0  # bytes that may come before the files are looked at again

    def open(self, shard: Object) -> "CachedShard":
        """A shard, with what has come of it before."""
        path = self._path(shard)
        with self._lock:
            found = self._open.get(path)
            if found is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                found = self._open[path] = CachedShard(self, self._bucket, shard, path)
            self._open.move_to_end(path)
            oldest = next(iter(self._open.values()))
            if len(self._open) > self._most_open and not oldest.coming_bytes:
                self._open.popitem(last=False)
            return found

    def make_room(self, size: int) -> None:
        """Have `size` bytes more fit; called before they are asked for."""
        with self._lock:
            self._room -= size
            if self._room >= 0:
                return
            files = list(_stats(self._folder.glob("*/*")))
            total = size + sum(s.st_blocks * 512 for _, s in files)
            total += sum(shard.coming_bytes for shard in self._open.values())
            use = {path: i for i, path in enumerate(self._open)}
            files.sort(key=lambda file: (use.get(file[0], -1), file[1].st_mtime))
            for path, stat in files:
                if total <= self._most_bytes:
                    break
                if self._drop(path):
                    total -= stat.st_blocks * 512
            self._room = min(max(0, self._most_bytes - total), self._most_bytes // 16)

    def keep_only(self, array: str, shards: Iterable[Object]) -> None:
        """Forget the shards of an array that are not among these."""
        kept = {self._path(shard) for shard in shards}
        self._forget(path for path in (self._folder / array).glob("*") if path not in kept)

    def forget(self, key: str) -> None:
        """Forget a shard that is no more."""
        array, name = key.split("/")[-2:]
        self._forget((self._folder / array).glob(f"{name}.*"))

    def let_go(self) -> None:
        """Ask no more for what was wanted and has not been asked for yet."""
        with self._lock:
            for shard in self._open.values():
                shard.let_go()

    def _forget(self, paths: Iterable[Path]) -> None:
        with self._lock:
            for path in list(paths):
                self._open.pop(path, None)
                path.unlink(missing_ok=True)

    def _drop(self, path: Path) -> bool:
        shard = self._open.get(path)
        if shard is not None and shard.coming_bytes:
            return False
        self._open.pop(path, None)
        path.unlink(missing_ok=True)
        return True

    def _path(self, shard: Object) -> Path:
        array, name = shard.key.split("/")[-2:]
        tag = hashlib.sha256(f"{shard.size_bytes} {shard.tag}".encode()).hexdigest()[:8]
        return self._folder / array / f"{name}.{tag}"


class CachedShard:
    """One shard; several threads may read it."""

    def __init__(self, cache: ShardCache, bucket: Bucket, shard: Object, path: Path):
        self.fd = -1
        self._cache, self._bucket, self._shard, self._file = cache, bucket, shard, path
        self._pages = -(-shard.size_bytes // PAGE)
        self._map_at = self._pages * PAGE
        self._lock = threading.RLock()
        self._runs: list[tuple[int, int, Future[None]]] = []  # pages that are coming
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with naming(path):
            if os.fstat(self.fd).st_size != self._map_at + self._pages:
                os.ftruncate(self.fd, self._map_at + self._pages)
        self._state = np.zeros(self._pages, np.uint8)
        self._look(0, self._pages)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    @property
    def coming_bytes(self) -> int:
        """Bytes that have been asked for and are not there."""
        return sum(last - first for first, last, _ in self._runs) * PAGE

    def has(self, offset: int) -> bool:
        """Asking for what is there costs nothing, so that it is always asked for."""
        return False

    def want(self, offset: int, size: int) -> None:
        """Ask the bucket for what is missing of these bytes."""
        first, last = offset // PAGE, min(-(-(offset + size) // PAGE), self._pages)
        if self._state[first:last].all():
            return
        with self._lock:
            self._look(first, last)
            for a, b in list(_gaps(self._state[first:last], first)):
                self._cache.make_room((b - a) * PAGE)
                self._state[a:b] = _COMING
                coming = self._bucket.pool.submit(self._fetch, a, b)
                self._runs.append((a, b, coming))
                coming.add_done_callback(partial(self._ended, a, b))

    def need(self, offset: int, size: int) -> None:
        """Return when these bytes are there; MmfError where they cannot be had."""
        first, last = offset // PAGE, min(-(-(offset + size) // PAGE), self._pages)
        while not (self._state[first:last] == _THERE).all():
            self.want(offset, size)
            with self._lock:
                runs = [run for a, b, run in self._runs if a < last and b > first]
            for run in runs:
                with suppress(CancelledError):  # somebody let go of it
                    run.result()

    def let_go(self) -> None:
        """Ask no more for what was wanted and has not been asked for yet."""
        for _, _, run in list(self._runs):
            run.cancel()

    def crc32c(self) -> int:
        """Checksum of all bytes as the bucket has them now, whatever had come before."""
        total = 0
        edges = [*range(0, self._pages, _PIECE_PAGES), self._pages]
        pieces = list(pairwise(edges))
        coming: list[Future[memoryview]] = []
        for i in range(len(pieces)):
            while len(coming) < min(i + 4, len(pieces)):  # a few ahead of the checksum
                a, b = pieces[len(coming)]
                self._cache.make_room((b - a) * PAGE)
                coming.append(self._bucket.pool.submit(self._get, a, b))
            data = coming[i].result()
            coming[i] = Future()  # lets go of the bytes
            total = google_crc32c.extend(total, np.frombuffer(data, np.uint8))
            self._keep(*pieces[i], data)
        return int(total)

    def _look(self, first: int, last: int) -> None:
        """Take in what other processes have brought."""
        there = np.frombuffer(os.pread(self.fd, last - first, self._map_at + first), np.uint8)
        np.maximum(self._state[first:last], there, out=self._state[first:last])

    def _get(self, first: int, last: int) -> memoryview:
        offset = first * PAGE
        size = min(last * PAGE, self._shard.size_bytes) - offset
        try:
            return self._bucket.get_range(self._shard.key, offset, size)
        except FileNotFoundError:
            raise MmfError(
                f"the store has lost '{self._bucket.url}/{self._shard.key}'. Restore it from a "
                "copy, or run `mmf repair`."
            ) from None

    def _fetch(self, first: int, last: int) -> None:
        self._keep(first, last, self._get(first, last))

    def _keep(self, first: int, last: int, data: memoryview) -> None:
        with naming(self._file):
            offset = first * PAGE
            while data:
                n = os.pwrite(self.fd, data, offset)
                data, offset = data[n:], offset + n
            os.pwrite(self.fd, b"\1" * (last - first), self._map_at + first)
        self._state[first:last] = _THERE

    def _ended(self, first: int, last: int, run: "Future[None]") -> None:
        with self._lock:
            self._runs = [one for one in self._runs if one[2] is not run]
            if run.cancelled() or run.exception():
                self._state[first:last] = _MISSING


def _gaps(state: np.ndarray, first: int) -> Iterator[tuple[int, int]]:
    """Runs of missing pages, none longer than a request asks for."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], state == _MISSING, [False]])))
    for a, b in edges.reshape(-1, 2).tolist():
        for begin in range(a, b, _PIECE_PAGES):
            yield first + begin, first + min(b, begin + _PIECE_PAGES)


def _stats(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        with suppress(FileNotFoundError):  # another process has just dropped it
            yield path, path.stat()
