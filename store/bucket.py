"""The objects below a URL: plain requests, tried again while that may help.

Whatever a network does to a request can be done to its answer: a put whose answer is lost shows as
"there already" when it is tried again. So `create` and `replace` only say that the object is not
as it was wanted; who calls them looks at what is there.
"""

import errno
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from mmf import MmfError

logger = logging.getLogger(__name__)

T = TypeVar("T")

IN_FLIGHT = 32
RETRY_SECONDS = 120.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
_SCHEMES = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss")
# not those that say: too late, in conflict, too many
_HOPELESS = re.compile(r"status code: (4(?!08|09|29)\d\d|501)")
_NO_CREDENTIALS = re.compile(r"169\.254\.|[Cc]redential|AccessKey|Signature")


class Unreachable(MmfError, ConnectionError):
    """Object storage does not do what is asked of it."""

    exit_code = 74


@dataclass(frozen=True, kw_only=True)
class Object:
    """One object as a listing or an answer describes it."""

    key: str
    size_bytes: int
    modified: float  # seconds since 1970
    tag: str  # changes with the bytes
    version: str | None = None


class Bucket:
    """The objects below a URL, by keys relative to it; several threads may ask at once."""

    def __init__(self, url: str):
        self.url = url
        self._store = _open(url)
        self.pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="mmf-objects")

    def get(self, key: str) -> tuple[Object, bytes]:
        """An object and its bytes; FileNotFoundError where it is not there."""

        def ask() -> tuple[Object, bytes]:
            answer = obstore.get(self._store, key)
            return _object(answer.meta), bytes(answer.bytes())

        return self._asked(f"get {key}", ask)

    def get_range(self, key: str, offset: int, size: int) -> memoryview:
        """Bytes of an object; FileNotFoundError where it is not there."""

        def ask() -> memoryview:
            found = memoryview(obstore.get_range(self._store, key, start=offset, length=size))
            if len(found) != size:
                raise MmfError(
                    f"{self.url}/{key} is damaged: it ends {size - len(found)} bytes early."
                )
            return found

        return self._asked(f"get {key}", ask)

    def put(self, key: str, data: bytes) -> Object:
        """Put an object, whatever is there."""
        return self._put(key, data, "overwrite")

    def create(self, key: str, data: bytes) -> Object | None:
        """Put an object where there is none; None where there is one, perhaps this very one."""
        try:
            return self._put(key, data, "create")
        except (AlreadyExistsError, PreconditionError):
            return None

    def replace(self, old: Object, data: bytes) -> Object | None:
        """Put newer bytes in the place of an object; None where it has changed, perhaps so."""
        try:
            read = {"e_tag": old.tag, **({"version": old.version} if old.version else {})}
            return self._put(old.key, data, read)
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return None

    def _put(self, key: str, data: bytes, mode: Any) -> Object:
        def ask() -> Object:
            answer = obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            return Object(
                key=key,
                size_bytes=len(data),
                modified=time.time(),
                tag=answer["e_tag"] or "",
                version=answer["version"],
            )

        return self._asked(f"put {key}", ask)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; nothing happens where there is none."""

        def delete_one(key: str) -> None:
            try:
                self._asked(f"delete {key}", lambda: obstore.delete(self._store, key))
            except FileNotFoundError:
                return

        list(self.pool.map(delete_one, keys))

    def copy(self, key: str, target: str) -> None:
        """Copy an object within the bucket."""
        self._asked(f"copy {key}", lambda: obstore.copy(self._store, key, target))

    def below(self, prefix: str) -> list[Object]:
        """Every object below a prefix, by key."""

        def ask() -> list[Object]:
            parts = obstore.list(self._store, prefix or None)
            return sorted((_object(o) for part in parts for o in part), key=lambda o: o.key)

        return self._asked(f"list {prefix}", ask)

    def folder(self, prefix: str) -> tuple[list[Object], list[str]]:
        """The objects right in a folder, and the names of the folders in it."""

        def ask() -> tuple[list[Object], list[str]]:
            found = obstore.list_with_delimiter(self._store, prefix or None)
            folders = [p.rstrip("/").rpartition("/")[2] for p in found["common_prefixes"]]
            return [_object(o) for o in found["objects"]], folders

        return self._asked(f"list {prefix}", ask)

    def head(self, key: str) -> Object:
        """What there is to say of an object; FileNotFoundError where it is not there."""
        return self._asked(f"head {key}", lambda: _object(obstore.head(self._store, key)))

    def same(self, key: str, data: bytes) -> bool:
        """Whether an object holds exactly these bytes; reads no more of it than it takes."""
        try:
            return self.head(key).size_bytes == len(data) and all(
                self.get_range(key, at, size) == memoryview(data)[at : at + size]
                for at, size in _growing(len(data))
            )
        except FileNotFoundError:
            return False

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        """The answer; asks again, ever more slowly, while the storage may come round."""
        end, pause, said = time.monotonic() + RETRY_SECONDS, _FIRST_PAUSE, False
        while True:
            try:
                return ask()
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise self._told(what, error) from None
                raise
            except (AlreadyExistsError, PreconditionError):
                raise
            except (BaseError, OSError) as error:
                late = time.monotonic() + pause > end
                if late or _is_hopeless(error):
                    raise self._told(what, error) from error
                if pause > 1 and not said:
                    said = True
                    logger.warning("%s: trying again to %s: %s", self.url, what, _said(error))
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _told(self, what: str, error: Exception) -> Unreachable:
        """One sentence for a user."""
        text, what = str(error), what.strip()
        if "NoSuchBucket" in text:
            return Unreachable(
                f"there is no bucket at {self.url!r}. Make it, or name another with --store."
            )
        if _is_denied(error):
            return _denied(self.url, what, error)
        return Unreachable(
            f"{self.url!r} could not {what}: {_said(error)} What was committed is safe; run "
            "the same command again when the storage can be reached."
        )


def _open(url: str) -> Any:
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES:
        raise MmfError(
            f"store {url!r}: {scheme!r} is no storage that mmf knows. Expected a folder, or a URL "
            f"that begins with {', '.join(_SCHEMES)}."
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
    options: Any = {
        "connect_timeout": timedelta(seconds=10),
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(minutes=15),
        "allow_http": endpoint.startswith("http://"),  # as who gave it wants it
    }
    try:
        # retries are ours: obstore has none for a put that must not double, nor for its answer
        return from_url(url, client_options=options, retry_config={"max_retries": 0})
    except (BaseError, ValueError) as error:
        if _is_denied(error):
            raise _denied(url, "open it", error) from error
        raise MmfError(f"store {url!r} cannot be opened: {_said(error)}") from error


def _is_denied(error: Exception) -> bool:
    kinds = (PermissionDeniedError, UnauthenticatedError)
    return isinstance(error, kinds) or bool(_NO_CREDENTIALS.search(str(error)))


def _denied(url: str, what: str, error: Exception) -> Unreachable:
    told = Unreachable(
        f"{url!r} does not let us {what}: the credentials are missing, or not allowed to. Set "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for S3; AWS_REGION and AWS_ENDPOINT_URL "
        f"where they are needed), or those of your cloud. It said: {_said(error)}"
    )
    told.errno = errno.EACCES
    return told


def _object(meta: Any) -> Object:
    return Object(
        key=meta["path"],
        size_bytes=meta["size"],
        modified=meta["last_modified"].timestamp(),
        tag=meta["e_tag"] or json.dumps([meta["size"], str(meta["last_modified"])]),
        version=meta["version"],
    )


def _growing(total: int) -> Iterator[tuple[int, int]]:
    """(offset, size) of pieces: a small first one, which tells most objects apart."""
    at, size = 0, 64 << 10
    while at < total:
        yield at, min(size, total - at)
        at, size = at + size, 8 << 20


def _is_hopeless(error: Exception) -> bool:
    if _is_denied(error):
        return True
    text = str(error)
    if "RequestTimeout" in text:
        return False
    return bool(_HOPELESS.search(text))


def _said(error: Exception) -> str:
    """The first line of what an error says, without what was asked."""
    line = re.sub(r"\s+", " ", str(error).partition("\nDebug source")[0]).strip()
    line = re.sub(r".* - (Server returned .*?status code: )?", "", line, count=1)
    return line[:300].rstrip(".") + "."
