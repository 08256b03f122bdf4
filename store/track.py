"""What one video has of a feature: its rows, or why there are none."""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mmf import MmfError


@dataclass(frozen=True, kw_only=True)
class Track:
    """The rows that one video has of one feature."""

    video_id: str
    values: np.ndarray  # (T, *shape)
    times: np.ndarray  # float64 (T,), seconds
    # (t0, dt) that give exactly these times as t0 + i dt; None where none does
    regular: tuple[float, float] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        times = np.asarray(self.times, dtype=np.float64)
        object.__setattr__(self, "values", np.asarray(self.values))
        object.__setattr__(self, "times", times)
        if times.shape != (len(self.values),):
            raise MmfError(
                f"video {self.video_id!r} has {len(self.values)} rows and times of shape "
                f"{times.shape}; expected one time per row."
            )
        regular = _regular(times)
        object.__setattr__(self, "regular", regular)
        # in this order, finite ends make all of them finite
        in_order = regular[1] >= 0 if regular else (times[1:] >= times[:-1]).all()
        if len(times) and not (in_order and math.isfinite(times[0]) and math.isfinite(times[-1])):
            raise MmfError(f"video {self.video_id!r}: times must be finite and must not decrease.")

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        return f"Track({self.video_id!r}, values={self.values.dtype}{list(self.values.shape)})"


@dataclass(frozen=True, kw_only=True)
class Media:
    """What decoding one file showed of it; kept beside the outcome."""

    path: str = ""
    size_bytes: int = 0
    duration: float | None = None  # seconds
    frames: int = 0  # decoded
    bad_packets: int = 0  # skipped because they did not decode
    decode_seconds: float | None = field(default=None, compare=False)  # CPU, measured


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one video for one feature, where that is not rows.

    `skipped`: the stream is not there. `failed`: the video cannot be used. `reason` is a short
    code (`not_media`, `no_such_stream`, `timeout`, …), `stage` where it showed (open, decode,
    embed).
    """

    video_id: str
    status: Literal["skipped", "failed"]
    reason: str
    stage: str = ""
    message: str = ""
    attempts: int = 1
    media: Media = Media()


_STEPS = np.arange(4096, dtype=np.float64)


def _regular(times: np.ndarray) -> tuple[float, float] | None:
    if len(times) == 0:
        return 0.0, 0.0
    t0 = float(times[0])
    dt = float(times[1]) - t0 if len(times) > 1 else 0.0
    steps = _STEPS[: len(times)] if len(times) <= len(_STEPS) else np.arange(len(times))
    made = steps if (t0, dt) == (0.0, 1.0) else t0 + steps * dt
    return (t0, dt) if (made == times).all() else None
