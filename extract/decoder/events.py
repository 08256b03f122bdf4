"""What becomes of the files that a decoder was given, as it is told: rows, and how each ends."""

from dataclasses import dataclass

import numpy as np

from mmf.store.track import Media


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row. `payload` is an array in shared memory, valid until the next event, or a text."""

    key: str
    signal: int
    row: int
    time: float
    payload: np.ndarray | str


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The file is done. `missing` has a reason for each signal whose stream is not there."""

    key: str
    media: Media
    rows: tuple[int, ...]
    missing: dict[int, str]
    transcribed: frozenset[int] = frozenset()  # signals whose rows were heard


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The file cannot be used; the rows given of it are to be dropped."""

    key: str
    reason: str
    stage: str
    message: str
    media: Media


@dataclass(frozen=True, kw_only=True)
class Restarted:
    """The process died in this file and another begins it anew; drop the rows given of it."""

    key: str


Event = Sample | Ended | Failed | Restarted
