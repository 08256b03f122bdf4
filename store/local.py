"""A store in a folder: files get their name by `link`, which is exclusive.

Some shared file systems have no links. There writers take turns, by a folder that only one of them
can make, and the name is given by `rename`, which every system has.
"""

# ruff: noqa: D102  `Files` says what they do

import errno
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import google_crc32c

from mmf import MmfError
from mmf.store.files import LOST, Entry, Files, OpenShard, sync_folder

_PIECE_BYTES = 1 << 20
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_TURN_SECONDS = 60.0  # that nobody takes to rename a file


class LocalFiles(Files):
    """A folder."""

    far = False

    def __init__(self, root: Path):
        self.root, self.name = root, str(root)
        self.most_open = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)

    def sync(self, *, afresh: bool = False) -> None:
        """What others write is there at once."""

    def names(self) -> set[str]:
        return {p.name for p in self.root.iterdir()} if self.root.exists() else set()

    def place(self, part: Path, target: Path) -> bool:
        try:
            os.link(part, target)
            part.unlink()
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if not _renamed_alone(part, target):
                return False
        sync_folder(target.parent)
        return True

    def put(self, path: Path, data: bytes) -> None:
        os.replace(self.write_new(data), path)
        sync_folder(path.parent)

    def update(self, path: Path, change: Callable[[bytes | None], bytes | None]) -> None:
        with alone_in(path.parent):
            old = path.read_bytes() if path.exists() else None
            new = change(old)
            if new is not None and new != old:
                os.replace(self.write_new(new), path)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_folder(self, folder: Path) -> None:
        if folder.is_dir():
            shutil.rmtree(folder)

    def set_aside(self, path: Path, *, keep: bool) -> None:
        (self.root / LOST).mkdir(exist_ok=True)
        target = self.root / LOST / ".".join(path.relative_to(self.root).parts)
        target.unlink(missing_ok=True)
        if keep:
            shutil.copyfile(path, target)
        else:
            os.replace(path, target)

    def weigh(self, path: Path) -> tuple[int, float]:
        inside = [path, *path.rglob("*")] if path.is_dir() else [path]
        stats = [p.stat() for p in inside]
        size = sum(s.st_size for p, s in zip(inside, stats, strict=True) if p.is_file())
        return size, max(s.st_mtime for s in stats)

    def has(self, path: Path) -> bool:
        return path.is_file()

    def shards(self, array: Path) -> list[Entry]:
        found = []
        for path in sorted(array.glob("c.*")):
            with suppress(FileNotFoundError):  # just removed
                stat = path.stat()
                found.append(Entry(path=path, size_bytes=stat.st_size, since=stat.st_mtime))
        return found

    def next_slot(self, array: Path) -> int:
        taken = (int(e.name.split(".")[1]) for e in os.scandir(array) if e.name.startswith("c."))
        return max(taken, default=-1) + 1

    def open_shard(self, path: Path) -> OpenShard:
        return _LocalShard(path)

    def let_go(self) -> None:
        """The system has been asked already."""

    def crc32c(self, path: Path) -> int:
        total = 0
        with open(path, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                total = google_crc32c.extend(total, piece)
        return int(total)


def _renamed_alone(part: Path, target: Path) -> bool:
    """Give a file its name without links; False where the name is taken."""
    turn = target.with_name(f"{target.name}.turn")
    while True:
        try:
            turn.mkdir()
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - turn.stat().st_mtime > _TURN_SECONDS:  # its writer was killed
                    turn.rmdir()
            time.sleep(0.01)
    try:
        if target.exists():
            return False
        os.rename(part, target)
        return True
    finally:
        with suppress(FileNotFoundError):
            turn.rmdir()


class _LocalShard:
    """An open file."""

    def __init__(self, path: Path):
        self.fd = -1
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise MmfError(f"the store has lost {str(path)!r}. Restore it from a copy.") from None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise MmfError(
                f"{str(path)!r} is a link to another file; the rows of a store lie in it. Put the "
                "file in the link's place if you know whose it is."
            ) from None

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def need(self, offset: int, size: int) -> None:
        """The system brings what is read."""

    def want(self, offset: int, size: int) -> None:
        os.posix_fadvise(self.fd, offset, size, os.POSIX_FADV_WILLNEED)

    def has(self, offset: int) -> bool:
        try:
            return os.preadv(self.fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except OSError:
            return False  # not there, or a file system that cannot say


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other writers of this machine out of `folder`, where the system can do that."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
