"""Media at a URL, brought to this machine before they are decoded: FFmpeg opens no network.

A few files ahead are fetched while one is decoded. Together they never take more bytes than they
may, in all processes of this machine that share a cache: each waits, in its process's turn, until
there is room. A file is removed as soon as it is decoded, and what a killed process left behind
when the next one begins.

Of the files for which a process has taken room, the first is always the one that it needs next; so
whoever holds room can go on, and gives it back.
"""

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

from mmf.extract.media.opening import Unusable
from mmf.extract.media.urls import is_far, shown
from mmf.store.local import alone_in
from mmf.store.objects import gigabytes

T = TypeVar("T")

AT_ONCE = 4  # files
ATTEMPTS = 3
FIRST_PAUSE = 0.5  # seconds before the second attempt; twice that before the third
LOOK = 0.05  # seconds between two looks for room
STAGED_BYTES = 16 << 30
CHUNK_BYTES = 8 << 20
_HOPELESS = (PermissionDeniedError, UnauthenticatedError, FileNotFoundError, NotImplementedError)


def staged_bytes() -> int:
    """How large the folder of fetched files may be: MMF_STAGED_GB, or 16."""
    return gigabytes("MMF_STAGED_GB", STAGED_BYTES)


@contextlib.contextmanager
def at_hand(path: str) -> Iterator[str]:
    """A local path of the file; one at a URL is fetched, and removed afterwards.

    Raises Unusable where it cannot be fetched.
    """
    if not is_far(path):
        yield path
        return
    staging = Staging()
    try:
        yield staging.fetch(path).path()
    finally:
        staging.close()


def _failure(url: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"cannot fetch {shown(url)!r}: there is no such file."
    said = (str(error) or type(error).__name__).splitlines()[0].replace(url, shown(url))
    query = urlsplit(url).query
    return f"cannot fetch {shown(url)!r}: {said.replace(query, '…') if query else said}"


class Staging:
    """A folder of fetched files; with those of other processes at most `limit` bytes."""

    def __init__(self, limit: int | None = None):
        self._limit = staged_bytes() if limit is None else limit
        self._folder: Path | None = None
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mmf-fetch")
        self._changed = threading.Condition()
        self._begun = self._next = 0  # files asked for; whose turn it is to take room
        self._closed = False

    def fetch(self, url: str, size: int | None = None) -> "Staged":
        """Begins to fetch a file, of `size` bytes where that is known."""
        if self._folder is None:
            self._folder = _own_folder()
        number = self._begun
        self._begun += 1
        path = self._folder / str(number)
        return Staged(self, path, self._pool.submit(self._fetch, number, url, path, size))

    def close(self) -> None:
        """Gives up what is on its way and removes everything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def release(self, path: Path) -> None:
        """Removes a file; its bytes are free for others."""
        path.unlink(missing_ok=True)

    def _fetch(self, number: int, url: str, path: Path, size: int | None) -> None:
        try:
            try:
                store, key = _opened(url)
                found = self._tried(lambda: obstore.head(store, key)["size"])
                if size is not None and size != found:
                    raise Unusable(
                        "size_mismatch", "fetch", f"{found} bytes; the manifest says {size}."
                    )
                self._take(number, path, found)
            finally:
                self._pass_on(number)
            self._tried(lambda: self._download(store, key, path, found))
        except (BaseError, OSError, NotImplementedError, ValueError) as error:
            path.unlink(missing_ok=True)
            raise Unusable("fetch_failed", "fetch", _failure(url, error)) from None

    def _tried(self, ask: Callable[[], T]) -> T:
        """The answer; what may be a moment's failure is tried again, a few times."""
        for attempt in range(1, ATTEMPTS):
            try:
                return ask()
            except (BaseError, OSError) as error:
                if self._closed or isinstance(error, _HOPELESS):
                    raise
            time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
        return ask()

    def _take(self, number: int, path: Path, size: int) -> None:
        """Waits for room, in turn, and takes it: a file without content, of that size."""
        if size > self._limit:
            raise Unusable(
                "limit_staged",
                "fetch",
                f"{size} bytes; at most {self._limit} are fetched (MMF_STAGED_GB).",
            )
        with self._changed:
            self._changed.wait_for(lambda: self._closed or number == self._next)
        while not self._closed:
            with alone_in(path.parents[1]):
                if _bytes_of_all(path.parents[1]) + size <= self._limit:
                    with open(path, "wb") as file:
                        file.truncate(size)
                    return
            time.sleep(LOOK)

    def _pass_on(self, number: int) -> None:
        """The next file's turn to take room, whether this one did or failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or number == self._next)
            self._next = number + 1
            self._changed.notify_all()

    def _download(self, store: Any, key: str, path: Path, size: int) -> None:
        written = 0
        with open(path, "r+b") as file:
            for chunk in obstore.get(store, key).stream(CHUNK_BYTES):
                written += len(chunk)
                if self._closed or written > size:
                    break
                file.write(chunk)
        if written != size:
            raise OSError(f"{written} bytes came of {size}")


class Staged:
    """One file that is fetched, or on its way."""

    def __init__(self, staging: Staging, path: Path, done: "Future[None]"):
        self._staging, self._path, self._done = staging, path, done

    @property
    def there(self) -> bool:
        """Whether it has come."""
        return self._done.done() and self._done.exception() is None

    def path(self) -> str:
        """Where the file lies; waits for it. Raises Unusable with the reason where it failed."""
        self._done.result()
        return str(self._path)

    def release(self) -> None:
        """Removes the file."""
        self._staging.release(self._path)


def _opened(url: str) -> tuple[Any, str]:
    """A store and the key in it; a URL of the web is its own store, with its query."""
    scheme, _, rest = url.partition("://")
    endpoint = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
    options: Any = {
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": timedelta(seconds=20),
        "timeout": timedelta(hours=12),  # of a whole file
        "allow_http": scheme == "http" or endpoint.startswith("http://"),
    }
    retry: Any = {"max_retries": 0}  # attempts are counted here
    if scheme in ("http", "https"):
        return from_url(url, client_options=options, retry_config=retry), ""
    bucket, _, key = rest.partition("/")
    return from_url(f"{scheme}://{bucket}", client_options=options, retry_config=retry), key


def _own_folder() -> Path:
    """A folder of this process in the cache; those of processes that are gone are removed."""
    cache = os.environ.get("MMF_CACHE")
    root = Path(cache or tempfile.gettempdir()).absolute() / "mmf-staged"
    root.mkdir(parents=True, exist_ok=True)
    host = f"{socket.gethostname()}-"
    for left in _left_behind(root, host):
        shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{host}{os.getpid()}-", dir=root))


def _bytes_of_all(root: Path) -> int:
    """What the processes of this machine have fetched, or are about to."""
    total = 0
    for path in root.glob(f"{socket.gethostname()}-*/*"):
        with contextlib.suppress(FileNotFoundError):  # decoded by now
            total += path.stat().st_size
    return total


def _left_behind(root: Path, host: str) -> Iterator[Path]:
    for folder in root.glob(f"{host}*"):
        with contextlib.suppress(ValueError, PermissionError):  # PermissionError: it lives
            try:
                os.kill(int(folder.name.removeprefix(host).partition("-")[0]), 0)
            except ProcessLookupError:
                yield folder
