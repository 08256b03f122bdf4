"""The decoder's process seen from outside: started, told what to do, listened to, ended.

It is exec'd, not forked, so it holds nothing of ours: no CUDA, no threads, no torch.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from typing import Any

import psutil

from mmf import unknown
from mmf.extract.decoder.ring import Ring, anonymous_file

# `mmf chaos` names another child by MMF_CHAOS, one of this table and nothing else. It does what
# the usual one does, but for files whose own names ask it to break.
CHILDREN = {"": "mmf.extract.decoder.child", "poison": "mmf.chaos.poisoned_child"}


class Process:
    """A process of `mmf.extract.decoder.child`, its two pipes and its ring."""

    def __init__(self, options: dict[str, Any], ring_bytes: int):
        child = _child()
        self.told = 0
        self.ready = False
        self.closed = False  # the process closed its end
        self._unsent = bytearray(json_line(options))
        self._heard = b""
        self._messages: deque[bytes] = deque()
        self._errors = anonymous_file("mmf-errors")
        with Ring.allocate(ring_bytes) as memory:
            self.ring = Ring(memory.fileno(), ring_bytes)
            commands, self._commands = os.pipe()
            self._events, events = os.pipe()
            os.set_blocking(self._commands, False)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", child]
                + [str(n) for n in (commands, events, memory.fileno(), ring_bytes, os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=(commands, events, memory.fileno()),
                env=_environment(),
            )
        os.close(commands)
        os.close(events)

    def tell(self, line: bytes) -> None:
        """Hands the process one line; what its pipe does not take now goes later."""
        self.told += 1
        self._unsent += line
        self._send()

    def listen(self, timeout: float) -> list[Any] | None:
        """The next message; None where none came in time or the process is gone."""
        deadline = time.monotonic() + timeout
        while not self._messages:
            poll = select.poll()
            poll.register(self._events, select.POLLIN)
            if self._unsent:
                poll.register(self._commands, select.POLLOUT)
            left = deadline - time.monotonic()
            ready = dict(poll.poll(left * 1000)) if left > 0 else {}
            if not ready:
                return None
            if self._commands in ready:
                self._send()
            if self._events in ready and not self._hear():
                return None
        message = json.loads(self._messages.popleft())
        if message[0] == "ready":
            self.ready = True
        return message

    @property
    def cpu_seconds(self) -> float:
        """What it has used of a processor so far; 0 once it has died."""
        with contextlib.suppress(psutil.Error):
            used = psutil.Process(self.process.pid).cpu_times()
            return float(used.user + used.system)
        return 0.0

    def kill(self) -> str:
        """Ends the process and closes what was shared with it; the end of its error output."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: abandoned
            self.process.wait(timeout=5)
        os.close(self._commands)
        os.close(self._events)
        with self._errors as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1000))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def cause_of_death(self) -> str:
        """``signal_11``, ``exit_1`` and the like."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "exit"
        return f"signal_{-code}" if code < 0 else f"exit_{code}"

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                del self._unsent[: os.write(self._commands, self._unsent)]

    def _hear(self) -> bool:
        data = os.read(self._events, 1 << 16)
        self.closed = not data
        *whole, self._heard = (self._heard + data).split(b"\n")
        self._messages.extend(whole)
        return bool(data)


def json_line(values: Any) -> bytes:
    """A message as it goes through a pipe."""
    return json.dumps(values).encode() + b"\n"


def _child() -> str:
    named = os.environ.get("MMF_CHAOS", "")
    if named not in CHILDREN:
        raise unknown("MMF_CHAOS", named, [name for name in CHILDREN if name])
    return CHILDREN[named]


def _environment() -> dict[str, str]:
    """Ours, with our import path, and no threads beside the decoder's one."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
