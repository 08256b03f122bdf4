"""Damaged records as failures of the store, and what becomes of them when they can be read.

A record whose video is not known stands in the failures as ``file@offset``, under the feature that
tells most of the store: so the rows are the same whatever the order in which files were done.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc

from mmf import MmfError
from mmf.store.exchange import youtube8m
from mmf.store.exchange.import_file import Damage, FileResult
from mmf.store.feature_store import FeatureStore
from mmf.store.track import Media, Outcome

LOST = {"length_crc", "torn"}  # after these the rest of a file is not read


def mark_failures(store: FeatureStore, results: Sequence[FileResult]) -> None:
    """Damaged records become failures; those that were failures and are read now, skipped.

    Raises MmfError where the store has nothing of YouTube-8M's and got nothing.
    """
    features = youtube8m.features_of(store)
    damaged = [(r.path, d) for r in results for d in r.damage]
    if not features:
        raise MmfError(_nothing(results, damaged))
    writer = store.writer()
    for path, found in damaged:
        writer.mark(features[0], _failure(path, found))
    for feature in features:
        for name in _mended(store, feature, results):
            mended = Outcome(video_id=name, status="skipped", reason="mended", stage="import")
            writer.mark(feature, mended)
    writer.commit()


def _nothing(results: Sequence[FileResult], damaged: Sequence[tuple[Path, Damage]]) -> str:
    if denied := sum(r.denied for r in results):
        return (
            f"the {len(results)} files hold {denied} videos, all of which were deleted from this "
            "store and stay out of it."
        )
    if not damaged:
        return f"the {len(results)} files are empty; there is nothing to import."
    path, first = damaged[0]
    return (
        f"none of the {len(results)} files holds a record that can be read; the first: {path}, "
        f"byte {first.offset}: {first.message}."
    )


def _failure(path: Path, found: Damage) -> Outcome:
    return Outcome(
        video_id=f"{path.name}@{found.offset}",
        status="failed",
        reason=found.reason,
        stage="import",
        message=f"{path}, byte {found.offset}: {found.message}",
        media=Media(path=f"{path}@{found.offset}"),
    )


def _mended(store: FeatureStore, feature: str, results: Sequence[FileResult]) -> list[str]:
    """Records that failed in an earlier run and were read in this one."""
    broken = {f"{r.path}@{d.offset}" for r in results for d in r.damage}
    # behind a wrong length nothing was read
    whole = {str(r.path) for r in results if not {d.reason for d in r.damage} & LOST}
    table = store.stored(feature).outcomes
    failed = table.filter(
        pc.and_(pc.equal(table["status"], "failed"), pc.equal(table["stage"], "import"))
    )
    return [
        row["video_id"]
        for row in failed.select(["video_id", "path", "reason"]).to_pylist()
        if row["reason"] != "unfit"
        and row["path"].rpartition("@")[0] in whole
        and row["path"] not in broken
    ]
