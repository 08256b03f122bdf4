"""Rows on their way: payloads of any videos into one batch, its rows back to each video.

A batch is always of the recipe's shape; where too few payloads came, what is left of it holds
whatever was there before, and no row depends on it.
"""

import time
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


class RowBatch:
    """Rows of any videos that wait for one forward of one feature."""

    def __init__(self, backbone: Backbone):
        self._backbone = backbone
        self._payloads = backbone.empty_batch()
        self._rows: list[Rows] = []
        self.spent = Forward()

    def add(self, rows: Rows, payload: np.ndarray | str) -> bool:
        """Copy one payload in; True when a forward was made."""
        self._payloads[len(self._rows)] = payload
        self._rows.append(rows)
        return len(self._rows) == self._backbone.batch and self.forward()

    def forward(self) -> bool:
        """Compute what is there and hand every row to its video; False if nothing was there."""
        if not self._rows:
            return False
        began, cpu = time.perf_counter(), time.thread_time()
        values = self._backbone.rows(self._payloads)
        self.spent += Forward(
            rows=len(self._rows),
            seconds=time.perf_counter() - began,
            cpu_seconds=time.thread_time() - cpu,
        )
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        for rows, value, good in zip(self._rows, values, finite, strict=False):
            rows.values.append(value)
            rows.finite &= bool(good)
        self._rows.clear()
        return True


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
