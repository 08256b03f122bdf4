"""The files of a store, and the two ways in which one comes to be: named once, or replaced.

Committed files are never changed. They are written beside, brought to the disk, and get their name
exclusively: of two writers one wins, the other looks again. Only a few, such as ``head.json``, are
replaced by newer ones.

`Files` is what the rest of the store goes by: a folder (`mmf.store.local`), or a prefix of a
bucket with a folder of this machine in front of it (`mmf.store.objects`). Small files are read in
the same way from both: they lie below `Files.root`.
"""

import hashlib
import json
import os
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmf import MmfError

TMP = "tmp"
LOST = "lost"
ORIGIN = "origin.json"  # in a folder that stands for a prefix of a bucket: its URL


def digest(data: bytes) -> str:
    """The first 32 hexadecimal digits of the sha256, as used in file names."""
    return hashlib.sha256(data).hexdigest()[:32]


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """One way to write JSON, so that equal values are equal bytes.

    With `indent`, which takes 20 times as long, it is for people to read.
    """
    return (json.dumps(value, indent=indent, sort_keys=True) + "\n").encode()


def sealed(value: Any) -> bytes:
    """JSON with its own digest in it; `read_sealed` reads it back."""
    return json_bytes({"digest": digest(json_bytes(value)), "value": value})


def read_sealed(path: Path) -> Any:
    """The value of a file of `sealed` bytes; MmfError where a byte of it has changed."""
    return unsealed(path.read_bytes(), path)


def unsealed(data: bytes, path: Path) -> Any:
    """The value of `sealed` bytes that come from `path`; MmfError where one has changed."""
    try:
        found = json.loads(data)
        whole = json_bytes(found) == data and digest(json_bytes(found["value"])) == found["digest"]
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise MmfError(
            f"{str(path)!r} is damaged: its digest does not match. Restore it from a copy."
        )
    return found["value"]


def current(folder: Path) -> tuple[int, Any]:
    """The number and the value of the version that stands; (0, None) where there is none."""
    newest = max(folder.glob("*.json"), default=None)
    if newest is None:
        return 0, None
    return int(newest.stem), read_sealed(newest)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the system say which file they befell."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_new(tmp: Path, data: bytes) -> Path:
    """Write `data` to a fresh file in the folder `tmp`, down to the disk."""
    path = tmp / f"{uuid.uuid4().hex}.part"
    try:
        with naming(path), open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):  # the first error says more
            path.unlink()
        raise
    return path


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A shard as it lies in its array's folder."""

    path: Path  # below the root, whether or not its bytes are there
    size_bytes: int
    since: float  # when it was last changed, seconds as files say the time


class OpenShard(Protocol):
    """A shard that is open for reading; closed when the last who has it lets go of it."""

    fd: int  # its bytes, where `need` has returned

    def need(self, offset: int, size: int) -> None:
        """Return when these bytes can be read."""

    def want(self, offset: int, size: int) -> None:
        """Ask for bytes that will be needed."""

    def has(self, offset: int) -> bool:
        """Whether a byte is in memory; reads nothing from the disk."""


class Files(ABC):
    """The files of one store. Paths are below `root`, and so are all small files."""

    root: Path
    name: str  # as people call the store
    far: bool  # whether bytes that nobody has asked for ahead cost a request each
    most_open: int  # shards that a reader keeps open

    @property
    def tmp(self) -> Path:
        """The folder of what is being written."""
        return self.root / TMP

    def write_new(self, data: bytes) -> Path:
        """Write `data` to a fresh file that has no name in the store yet."""
        return write_new(self.tmp, data)

    def publish(self, folder: Path, value: Any, *, after: int) -> bool:
        """Write version `after` + 1 of what `folder` names; False where another was first."""
        folder.mkdir(parents=True, exist_ok=True)
        part = self.write_new(sealed(value))
        won = self.place(part, folder / f"{after + 1:06d}.json")
        if not won:
            part.unlink()
            self.sync()
        return won

    @abstractmethod
    def sync(self, *, afresh: bool = False) -> None:
        """Bring the small files below `root` up to what others have written.

        With `afresh` all of them, whatever has become of those that are here.
        """

    @abstractmethod
    def names(self) -> set[str]:
        """What there is at the top of the store."""

    @abstractmethod
    def place(self, part: Path, target: Path) -> bool:
        """Give a finished file its name; False where the name is taken (the part is kept)."""

    @abstractmethod
    def put(self, path: Path, data: bytes) -> None:
        """Put newer bytes in the place of a file."""

    @abstractmethod
    def update(self, path: Path, change: Callable[[bytes | None], bytes | None]) -> None:
        """Put what `change` makes of a file's bytes (None: there are none) in their place.

        Nobody else's change comes in between, where the system can do that; so `change` may be
        called again. None leaves the file as it is.
        """

    @abstractmethod
    def remove(self, path: Path) -> None:
        """Remove a file; nothing happens where there is none."""

    @abstractmethod
    def remove_folder(self, folder: Path) -> None:
        """Remove a folder and all that is in it."""

    @abstractmethod
    def set_aside(self, path: Path, *, keep: bool) -> None:
        """Put a damaged file into ``lost/``; with `keep` it stays where it is too."""

    @abstractmethod
    def weigh(self, path: Path) -> tuple[int, float]:
        """Bytes of a file or folder, and when the newest of it was changed."""

    @abstractmethod
    def has(self, path: Path) -> bool:
        """Whether a file is there, also a shard."""

    @abstractmethod
    def shards(self, array: Path) -> list[Entry]:
        """The shards in an array's folder, by name."""

    @abstractmethod
    def next_slot(self, array: Path) -> int:
        """One more than the highest slot known in the array's folder."""

    @abstractmethod
    def open_shard(self, path: Path) -> OpenShard:
        """Open a shard; MmfError where it is lost."""

    @abstractmethod
    def let_go(self) -> None:
        """Ask no more for bytes of shards that were wanted ahead."""

    @abstractmethod
    def crc32c(self, path: Path) -> int:
        """Checksum of every byte that a shard has now, where it is kept."""


def open_files(where: str | os.PathLike[str] | Files) -> Files:
    """The files of the store in a folder, or at a URL such as ``s3://bucket/prefix``.

    A folder that stands for a URL is that URL.
    """
    if isinstance(where, Files):
        return where
    scheme, slashes, _ = str(where).partition(":/")  # a Path has lost one of two slashes
    folder = Path(where)
    if not (slashes and len(scheme) > 1 and scheme.isalnum()) and not (folder / ORIGIN).exists():
        from mmf.store.local import LocalFiles

        return LocalFiles(folder)
    try:
        from mmf.store.objects import open_objects
    except ModuleNotFoundError as error:
        raise MmfError(
            f"store {str(where)!r}: a store in a bucket needs {error.name}, which is not "
            "installed: pip install obstore."
        ) from error
    return open_objects(where)
