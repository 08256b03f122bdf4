"""Rows on their way: payloads of any videos into one batch, its rows back to each video.

A batch is always of the recipe's shape; where too few payloads came, what is left of it holds
whatever was there before, and no row depends on it.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mmf import MmfError
from mmf.extract.backbones import Backbone
from mmf.extract.spent import Forward
from mmf.store import FeatureSpec


@dataclass(kw_only=True)
class Rows:
    """What one video has of one feature so far."""

    times: list[float] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    finite: bool = True


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A batch on its way."""

    rows: list[Rows]
    payloads: np.ndarray
    wait: Callable[[], np.ndarray]


class RowBatch:
    """Rows of any videos that wait for one forward of one feature.

    A GPU computes one batch while the next is gathered in memory of its own.
    """

    def __init__(self, backbone: Backbone):
        self._backbone = backbone
        self._free = [backbone.empty_batch() for _ in range(backbone.in_flight)]
        self._rows: list[Rows] = []
        self._begun: deque[_Begun] = deque()
        self.spent = Forward()
        self._first = Forward()  # the batch in which a network is fused, and memory is had

    @property
    def row_seconds(self) -> float | None:
        """What a row takes once all is warm: CPU seconds, or a device's; None before any."""
        later = self.spent - self._first
        one = later if later.rows else self.spent
        if not one.rows:
            return None
        return one.busy(self._backbone.device) / one.rows

    def add(self, rows: Rows, payload: np.ndarray | str) -> bool:
        """Copy one payload in; True when rows may have come of it."""
        self._free[-1][len(self._rows)] = payload
        self._rows.append(rows)
        return len(self._rows) == self._backbone.batch and self._forward()

    def finish(self) -> None:
        """Compute what is there, and hand every row to its video."""
        if self._rows:
            self._forward()
        while self._begun:
            self._collect()

    def _forward(self) -> bool:
        began, cpu = time.perf_counter(), time.thread_time()
        payloads = self._free.pop()
        wait = self._backbone.begin(payloads)
        self._begun.append(_Begun(rows=self._rows, payloads=payloads, wait=wait))
        self._rows = []
        self._spend(0, began, cpu)
        while len(self._begun) >= self._backbone.in_flight:
            self._collect()
        return True

    def _collect(self) -> None:
        """Hand the rows of the batch begun first to their videos."""
        began, cpu = time.perf_counter(), time.thread_time()
        first = self._begun.popleft()
        values = first.wait()
        self._free.append(first.payloads)
        self._spend(len(first.rows), began, cpu)
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        for rows, value, good in zip(first.rows, values, finite, strict=False):
            rows.values.append(value)
            rows.finite &= bool(good)

    def _spend(self, rows: int, began: float, cpu: float) -> None:
        self.spent += Forward(
            rows=rows,
            seconds=time.perf_counter() - began,
            cpu_seconds=time.thread_time() - cpu,
        )
        if not self._first.rows:
            self._first = self.spent


class Unstorable(MmfError):
    """The rows that were computed cannot be stored: a short reason code and a sentence."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def storable(spec: FeatureSpec, rows: Rows) -> np.ndarray:
    """The rows in the stored dtype, (T, *shape); raises Unstorable."""
    if not rows.finite:
        raise Unstorable("nonfinite", f"feature {spec.name!r}: the rows hold NaN or infinity.")
    try:
        return spec.encode(np.stack(rows.values) if rows.values else np.zeros((0, *spec.shape)))
    except MmfError as error:
        raise Unstorable("out_of_range", str(error)) from error
