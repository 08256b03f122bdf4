"""A known clip, whose rows show whether this machine computes as the first one did.

Same weights and same versions are not the same numbers yet: a kernel, a decoder or a processor may
differ in silence. So the first to work on a feature in a job of several machines keeps the rows
that its networks give for a clip that ships with mmf, and each later one compares its own.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmf import MmfError
from mmf.extract.decoder.events import Failed, Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.pipeline import Feature
from mmf.extract.rows import RowBatch, Rows
from mmf.store import FeatureStore
from mmf.store.files import current

CLIP = Path(__file__).with_name("canary.mp4")
FOLDER = "canary"
NUMBERS = 256  # of a row, that are kept
ROWS = 2
BOUND = 0.03  # of the rows' norm; other kernels stay far below it, other weights do not


class Differs(MmfError):
    """This machine's rows of the known clip are not those of the first machine."""


def check_canary(store: FeatureStore, features: Sequence[Feature]) -> None:
    """Keep the rows of the known clip, or compare them with those kept; raises Differs."""
    for feature, rows in zip(features, canary_rows(features), strict=True):
        folder = store.files.root / FOLDER / store.stored(feature.spec.name).array
        store.files.sync()
        _, kept = current(folder)
        if kept is None:
            kept = {"rows": rows.tolist(), "host": platform.node()}
            if not store.files.publish(folder, kept, after=0):
                _, kept = current(folder)  # another machine was first
        _compare(feature.spec.name, rows, kept or {})


def _compare(name: str, rows: np.ndarray, first: Mapping[str, Any]) -> None:
    kept, host = np.array(first["rows"]), first["host"]
    away = np.inf
    if rows.shape == kept.shape:
        norm = float(np.linalg.norm(kept))
        away = float(np.linalg.norm(rows - kept)) / max(norm, 1e-12)
    if rows.size and away > BOUND:
        raise Differs(
            f"feature {name!r}: on {platform.node()!r} the rows of mmf's known clip are {away:.2g} "
            f"of their norm away from those on {host!r}; expected {BOUND} at most. Its weights, "
            "libraries or hardware compute something else: `mmf doctor` on both shows versions."
        )


def canary_rows(features: Sequence[Feature]) -> list[np.ndarray]:
    """The first numbers of the first rows that each feature has of the known clip, float64."""
    signals = [feature.backbone.signal for feature in features]
    batches = [RowBatch(feature.backbone) for feature in features]
    found = [Rows() for _ in features]
    with Decoder(signals) as decoder:
        decoder.submit("canary", os.fspath(CLIP))
        for event in decoder.events():
            if isinstance(event, Failed):
                raise Differs(
                    f"on {platform.node()!r} mmf's known clip cannot be decoded: {event.message}"
                )
            if isinstance(event, Sample) and len(found[event.signal].times) < ROWS:
                found[event.signal].times.append(event.time)
                batches[event.signal].add(found[event.signal], event.payload)
    for batch in batches:
        batch.finish()
    return [_kept(one) for one in found]


def _kept(rows: Rows) -> np.ndarray:
    """(rows, numbers): few of them, as a float16 would have them."""
    some = [np.asarray(value, np.float64).reshape(-1)[:NUMBERS] for value in rows.values]
    return np.stack(some) if some else np.zeros((0, 0))
