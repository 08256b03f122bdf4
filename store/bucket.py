"""The objects below a URL, by plain requests.

Whatever a network does to a request can be done to its answer: a put whose answer is lost shows as
"there already" when it is tried again. So `create` and `replace` only say that the object is not
as it was wanted; who calls them looks at what is there.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from mmf import MmfError
from mmf.store.patience import asked, denied, is_denied, said

IN_FLIGHT = 32
_SCHEMES = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss")


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

        return asked(self.url, f"get {key}", ask)

    def get_range(self, key: str, offset: int, size: int) -> memoryview:
        """Bytes of an object; FileNotFoundError where it is not there."""

        def ask() -> memoryview:
            found = memoryview(obstore.get_range(self._store, key, start=offset, length=size))
            if len(found) != size:
                raise MmfError(
                    f"{self.url}/{key} is damaged: it ends {size - len(found)} bytes early."
                )
            return found

        return asked(self.url, f"get {key}", ask)

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

        return asked(self.url, f"put {key}", ask)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; nothing happens where there is none."""

        def delete_one(key: str) -> None:
            try:
                asked(self.url, f"delete {key}", lambda: obstore.delete(self._store, key))
            except FileNotFoundError:
                return

        list(self.pool.map(delete_one, keys))

    def copy(self, key: str, target: str) -> None:
        """Copy an object within the bucket."""
        asked(self.url, f"copy {key}", lambda: obstore.copy(self._store, key, target))

    def below(self, prefix: str) -> list[Object]:
        """Every object below a prefix, by key."""

        def ask() -> list[Object]:
            parts = obstore.list(self._store, prefix or None)
            return sorted((_object(o) for part in parts for o in part), key=lambda o: o.key)

        return asked(self.url, f"list {prefix}", ask)

    def folder(self, prefix: str) -> tuple[list[Object], list[str]]:
        """The objects right in a folder, and the names of the folders in it."""

        def ask() -> tuple[list[Object], list[str]]:
            found = obstore.list_with_delimiter(self._store, prefix or None)
            folders = [p.rstrip("/").rpartition("/")[2] for p in found["common_prefixes"]]
            return [_object(o) for o in found["objects"]], folders

        return asked(self.url, f"list {prefix}", ask)

    def head(self, key: str) -> Object:
        """What there is to say of an object; FileNotFoundError where it is not there."""
        return asked(self.url, f"head {key}", lambda: _object(obstore.head(self._store, key)))

    def same(self, key: str, data: bytes) -> bool:
        """Whether an object holds exactly these bytes; reads no more of it than it takes."""
        try:
            return self.head(key).size_bytes == len(data) and all(
                self.get_range(key, at, size) == memoryview(data)[at : at + size]
                for at, size in _growing(len(data))
            )
        except FileNotFoundError:
            return False


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
        if is_denied(error):
            raise denied(url, "open it", error) from error
        raise MmfError(f"store {url!r} cannot be opened: {said(error)}") from error


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
