"""Videos that records of one run have with different rows: the first in the order of files stands.

Which of them was committed first is chance, with several processes and after a kill. So the others
are not looked at before the end; then the first record is read again, as a second attempt, wherever
another one stands.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmf import MmfError
from mmf.store.exchange import youtube8m
from mmf.store.exchange.import_file import FileImporter
from mmf.store.exchange.tfrecord import read_records
from mmf.store.feature_store import FeatureStore


def settle(
    store: FeatureStore, files: Sequence[Path], firsts: Mapping[str, tuple[int, int]]
) -> None:
    """Let the rows of each video be those of its first record, by (number of the file, offset).

    Rows that came from other files than these stay.
    """
    numbers = {str(path): i for i, path in enumerate(files)}
    importer, writer = FileImporter(store.path), store.writer()
    for video, (number, offset) in firsts.items():
        standing = [old for old in _standing(store, video) if old[0] in numbers]
        if not any((numbers[path], at) > (number, offset) for path, at, _ in standing):
            continue
        record = next(read_records(files[number], start=offset))
        try:
            found = youtube8m.read_video(record.data)
        except MmfError:  # the file has changed in between
            continue
        attempts = 1 + max(attempts for _, _, attempts in standing)
        importer.put(writer, found, files[number], record, attempts=attempts)
    writer.commit()


def _standing(store: FeatureStore, video: str) -> list[tuple[str, int, int]]:
    """File, offset and attempts of the rows that stand of a video, feature by feature."""
    found = []
    for feature in youtube8m.features_of(store):
        stored = store.stored(feature)
        at = stored.position(video)
        if at is None:
            continue
        row = stored.outcomes.slice(at, 1).to_pylist()[0]
        path, _, offset = row["path"].rpartition("@")
        if row["status"] == "done" and offset.isdigit():
            found.append((path, int(offset), row["attempts"]))
    return found
