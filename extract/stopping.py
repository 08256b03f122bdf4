"""SIGTERM and SIGINT as a wish to stop: what is finished is committed first.

The signal raises `Stopped` only where the job waits (for rows, for a lane), never inside a forward
or a commit; elsewhere `requested` is looked at. A second SIGINT is a KeyboardInterrupt at once.
"""

import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The job was asked to stop while it waited."""


class Stop:
    """A context in which the signals set `requested`; outside the main thread, only `request`."""

    def __init__(self, signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT)):
        self._signals = signals
        self.requested = ""  # "", "SIGTERM", "SIGINT", or the reason given to `request`
        self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def request(self, reason: str) -> None:
        """Ask for the stop from inside."""
        self.requested = self.requested or reason

    def wait(self, call: Callable[[], T]) -> T:
        """`call()`; raises Stopped if the stop was or is asked for meanwhile."""
        self._waiting = True
        try:
            if self.requested:
                raise Stopped
            return call()
        finally:
            self._waiting = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.requested = self.requested or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._waiting:
            self._waiting = False
            raise Stopped
