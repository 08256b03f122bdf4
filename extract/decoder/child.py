"""The decoder's process: files come by one pipe, their rows go by a ring, the rest by a pipe.

Started by `process` as ``python -m mmf.extract.decoder.child COMMANDS EVENTS RING NBYTES
PARENT``: three inherited descriptors, a size, a process id. It loads no torch and holds no secret:
a file that breaks FFmpeg breaks this process, and the parent starts another. Both pipes carry one
JSON array a line, so that the parent never unpickles what a hostile file may have written.

Its memory, its files and, file by file, its CPU time are limited; it leaves no core behind.
"""

import contextlib
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import av
import numpy as np

from mmf.extract.decoder.ring import Ring
from mmf.extract.media.decoding import Done, Facts, Opened, Request, Row, decode
from mmf.extract.media.opening import Limits, Unusable, check_identity
from mmf.extract.media.row_counts import plan
from mmf.extract.media.some_rows import decode_some
from mmf.extract.signals import from_json
from mmf.lifeline import end_with

# one file may be written, the errors that the parent reads; the ring is mapped and not written
_WRITTEN_BYTES = 64 << 10
# times the deadline: the parent's clock stops while it is busy, and is to be the first to ring
_CPU_PER_DEADLINE = 2


def main() -> None:
    """Decodes the files that come by the command pipe until it is closed."""
    commands, events, memory, nbytes, parent = map(int, sys.argv[1:])
    with os.fdopen(commands, "r") as lines:
        options = json.loads(next(lines))
        limits = Limits(**options["limits"])
        _confine(limits.memory_bytes, parent)
        av.logging.set_level(None)
        worker = _Worker(options, limits, Ring(memory, nbytes), events)
        worker.say("ready", time.process_time())
        for line in lines:
            worker.work(*json.loads(line))


def _confine(memory_bytes: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_FSIZE, _WRITTEN_BYTES)
    _limit(resource.RLIMIT_AS, memory_bytes)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it must not break in on the forward pass at each row
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    end_with(parent)


def _limit(what: int, to: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # not every system has it
        resource.setrlimit(what, (to, to))


def _allow_cpu(deadline: float) -> None:
    """Renew the CPU time for a file: what was used, and what its deadline allows; else SIGXCPU."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    seconds = math.ceil(time.process_time() + _CPU_PER_DEADLINE * deadline) + 1
    with contextlib.suppress(ValueError, OSError):  # a hard limit of the user's own is nearer
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


class _Worker:
    def __init__(self, options: dict[str, Any], limits: Limits, ring: Ring, events: int):
        self._signals = [from_json(values) for values in options["signals"]]
        self._options = options
        self._work = plan if options["plan"] else decode
        self._limits, self._ring, self._events = limits, ring, events

    def say(self, *message: Any) -> None:
        """One line to the parent; waits while the parent is busy and the pipe full."""
        left = memoryview(json.dumps(message).encode() + b"\n")
        while left:
            left = left[os.write(self._events, left) :]

    def work(
        self,
        path: str,
        captions: str | None,
        size: int | None,
        sha256: str | None,
        some: tuple[float, list[list[tuple[int, int]]]] | None,
    ) -> None:
        """One file: its rows, or some of them, then `done` or `failed`."""
        facts = Facts()
        _allow_cpu(self._limits.deadline(0.0))
        try:
            check_identity(path, size, sha256)
            request = Request(
                limits=self._limits,
                allow_partial=bool(self._options["allow_partial"]),
                captions=captions,
                exactly=bool(self._options["exactly"]),
                facts=facts,
            )
            if some is None:
                self._tell(self._work(path, self._signals, request), facts)
                return
            seconds, ranges = some
            only = {i: [n for r in of for n in range(*r)] for i, of in enumerate(ranges)}
            request = replace(request, only=only)
            self._tell(decode_some(path, self._signals, request, seconds), facts)
        except Unusable as error:
            self.say("failed", error.reason, error.stage, str(error), asdict(facts))
        except MemoryError:
            message = f"asks for more than {self._limits.memory_bytes} bytes of memory."
            self.say("failed", "limit_memory", "decode", message, asdict(facts))

    def _tell(self, decoded: Iterator[Opened | Row | Done], facts: Facts) -> None:
        began = time.process_time()
        for event in decoded:
            if isinstance(event, Opened):
                _allow_cpu(self._limits.deadline(event.duration or 0.0))
                self.say("opened", event.duration)
            elif isinstance(event, Done):
                facts.decode_seconds = time.process_time() - began
                self.say("done", event.rows, sorted(event.missing.items()), asdict(facts))
            elif isinstance(event.payload, np.ndarray):
                at, behind = self._ring.put(event.payload)
                self.say("row", event.signal, event.row, event.time, at, behind)
            else:
                self.say("text", event.signal, event.row, event.time, event.payload)


if __name__ == "__main__":
    main()
