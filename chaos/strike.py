"""A fault at one call of the system: a process that dies there, or is told that the disk is full.

`Fault` wraps what the store asks of the system (write, fsync, close, rename, link, unlink, …),
counts the calls and strikes at one of them: before, after or in the middle.
"""

import builtins
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa


class Fault:
    """Wraps what the store asks of the system, and strikes at one of the calls."""

    def __init__(self, strike: Callable[[object], None], at: int, when: str):
        self.calls: list[str] = []
        self._strike, self._at, self._when = strike, at, when

    def call(
        self,
        name: str,
        real: Callable[[], Any],
        *,
        path: object = None,
        half: Callable[[], None] | None = None,
    ) -> Any:
        """What the real call gives, unless the fault strikes here; `half` of it is its middle."""
        here = len(self.calls) == self._at
        self.calls.append(name)
        if here and self._when == "before":
            self._strike(path)
        if here and self._when == "middle":
            (half or real)()
            self._strike(path)
        try:
            return real()
        finally:
            if here and self._when == "after":
                self._strike(path)

    def install(self) -> None:
        """Take the place of the real calls in this process, for good."""
        for name in ("fsync", "link", "replace", "unlink", "mkdir", "posix_fallocate", "ftruncate"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        self._open_file, builtins.open = builtins.open, self._open  # type: ignore[assignment]
        pa.OSFile = self._wrapped("write", pa.OSFile)

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(first: object, *others: object, **named: object) -> Any:
            if name == "mkdir" and Path(str(first)).is_dir():
                return real(first, *others, **named)  # says so, whatever the disk's state
            path = None if isinstance(first, int) else first
            return self.call(name, lambda: real(first, *others, **named), path=path)

        return wrapped

    def _open(self, path: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        file = self._open_file(path, mode, *arguments, **named)
        return _File(file, self) if "x" in mode else file


class _File:
    """A file that is written, whose writes and whose close may be struck."""

    def __init__(self, file: Any, fault: Fault):
        self._file, self._fault = file, fault

    def write(self, data: Any) -> Any:
        """Write, or half of it."""
        half = memoryview(data)[: len(data) // 2]

        def write_half() -> None:
            self._file.write(half)
            self._file.flush()

        return self._fault.call("write", lambda: self._file.write(data), half=write_half)

    def close(self) -> Any:
        """Close."""
        return self._fault.call("close", self._file.close)

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def in_child(work: Callable[[], None], fault: Fault | None = None) -> tuple[int, str]:
    """Do the work in a forked process: its exit code, and the error or the calls it made."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code, text = 70, ""
        try:
            if fault:
                fault.install()
            work()
            code, text = 0, " ".join(fault.calls) if fault else ""
        except OSError as error:
            code, text = 74, str(error.filename or "")
        except BaseException as error:  # noqa: BLE001  the parent is told
            text = repr(error)
        os.write(write, text.encode()[:60000])
        os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        text = pipe.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def kill(_: object) -> None:
    """Die as by SIGKILL."""
    os._exit(137)


def refuse(number: int) -> Callable[[object], None]:
    """What raises this error of the system, as the system says it."""

    def strike(path: object) -> None:
        name = () if path is None else (str(path),)
        raise OSError(number, os.strerror(number), *name)

    return strike
