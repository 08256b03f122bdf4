"""Media at a URL, brought to this machine before they are decoded: FFmpeg opens no network.

A few files ahead are fetched while one is decoded. Together they never take more bytes than they
may: each waits, in its turn, until those before it are gone. A file is removed as soon as it is
decoded, and what a killed process left behind when the next one begins.
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

T = TypeVar("T")

SCHEMES = ("s3://", "gs://", "az://", "https://", "http://")
AT_ONCE = 4  # files
ATTEMPTS = 3
FIRST_PAUSE = 0.5  # seconds before the second attempt; twice that before the third
CHUNK_BYTES = 8 << 20
_HOPELESS = (PermissionDeniedError, UnauthenticatedError, FileNotFoundError, NotImplementedError)


def is_far(path: str) -> bool:
    """Whether a path is a URL of media to be fetched."""
    return path.startswith(SCHEMES)


def shown(path: str) -> str:
    """A path as tables show it: of a URL neither the query nor a password, which open doors."""
    if not is_far(path):
        return path
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _failure(url: str, error: Exception) -> str:
    said = (str(error) or type(error).__name__).splitlines()[0].replace(url, shown(url))
    query = urlsplit(url).query
    return f"cannot fetch {shown(url)!r}: {said.replace(query, '…') if query else said}"


class Staging:
    """A folder of fetched files, at most `limit` bytes together."""

    def __init__(self, limit: int):
        self._limit = limit
        self._folder: Path | None = None
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mmf-fetch")
        self._changed = threading.Condition()
        self._room: dict[int, int] = {}  # bytes kept for each file, by its number
        self._begun = self._next = 0  # files asked for; whose turn it is to take room
        self._closed = False

    def fetch(self, url: str, size: int | None = None) -> "Staged":
        """Begins to fetch a file, of `size` bytes where that is known."""
        if self._folder is None:
            self._folder = _own_folder()
        number = self._begun
        self._begun += 1
        path = self._folder / str(number)
        return Staged(self, number, path, self._pool.submit(self._fetch, number, url, path, size))

    def close(self) -> None:
        """Gives up what is on its way and removes everything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def release(self, number: int, path: Path) -> None:
        """Removes a file; its bytes are free for others."""
        path.unlink(missing_ok=True)
        with self._changed:
            self._room.pop(number, None)
            self._changed.notify_all()

    def _fetch(self, number: int, url: str, path: Path, size: int | None) -> None:
        try:
            try:
                store, key = _opened(url)
                found = self._tried(lambda: obstore.head(store, key)["size"])
                if size is not None and size != found:
                    raise Unusable(
                        "size_mismatch", "fetch", f"{found} bytes; the manifest says {size}."
                    )
                self._take(number, found)
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

    def _take(self, number: int, size: int) -> None:
        """Waits for room; files take theirs in the order in which they were asked for."""
        if size > self._limit:
            raise Unusable(
                "limit_staged", "fetch", f"{size} bytes; at most {self._limit} are fetched."
            )
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or (number == self._next and sum(self._room.values()) + size <= self._limit)
                )
            )
            self._room[number] = size

    def _pass_on(self, number: int) -> None:
        """The next file's turn to take room, whether this one did or failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or number == self._next)
            self._next = number + 1
            self._changed.notify_all()

    def _download(self, store: Any, key: str, path: Path, size: int) -> None:
        written = 0
        with open(path, "wb") as file:
            for chunk in obstore.get(store, key).stream(CHUNK_BYTES):
                written += len(chunk)
                if self._closed or written > size:
                    break
                file.write(chunk)
        if written != size:
            raise OSError(f"{written} bytes came of {size}")


class Staged:
    """One file that is fetched, or on its way."""

    def __init__(self, staging: Staging, number: int, path: Path, done: "Future[None]"):
        self._staging, self._number, self._path, self._done = staging, number, path, done

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
        self._staging.release(self._number, self._path)


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


def _left_behind(root: Path, host: str) -> Iterator[Path]:
    for folder in root.glob(f"{host}*"):
        with contextlib.suppress(ValueError, PermissionError):  # PermissionError: it lives
            try:
                os.kill(int(folder.name.removeprefix(host).partition("-")[0]), 0)
            except ProcessLookupError:
                yield folder
