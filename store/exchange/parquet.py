"""Embeddings as Parquet, for pandas, DuckDB and Hugging Face datasets.

``OUT/<feature>/part-00000.parquet``, …, a row per row of the store: ``video_id``, ``time`` in
seconds, ``embedding`` as a list of fixed size. A row of several dimensions is flattened; its shape
and the recipe stand in the schema's metadata under ``mmf``.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmf.store.exchange.output import chosen, finished, stored_track, videos_with_rows
from mmf.store.feature_store import FeatureStore
from mmf.store.spec import FeatureSpec

FILE_BYTES = 256 << 20  # of embeddings, before compression
GROUP_BYTES = 16 << 20


def export_parquet(
    store: FeatureStore,
    out: str | Path,
    *,
    features: Sequence[str] = (),
    codes: bool = False,
    file_bytes: int = FILE_BYTES,
) -> list[Path]:
    """Write the rows of features; returns the files. Memory is bounded by one group of rows.

    uint8 features become float32 numbers, or with `codes` stay as they are stored. Files of an
    earlier export are replaced one by one, and those that this one does not have are removed.
    """
    written: list[Path] = []
    for feature in chosen(store, features):
        folder = Path(out) / feature
        written += _export(store, feature, folder, codes=codes, file_bytes=file_bytes)
        for old in set(folder.glob("part-*.parquet")) - {*written}:
            old.unlink()
    return written


def _export(
    store: FeatureStore, feature: str, folder: Path, *, codes: bool, file_bytes: int
) -> Iterator[Path]:
    spec = store.features[feature]
    schema = _schema(spec, codes=codes)
    groups = _groups(store, spec, schema, codes=codes)
    group = next(groups, schema.empty_table())
    for number in range(100_000):
        path = folder / f"part-{number:05d}.parquet"
        size = 0
        with (
            finished(path) as part,
            pq.ParquetWriter(
                part,
                schema,
                compression="zstd",
                use_dictionary=["video_id"],
                write_page_checksum=True,
            ) as writer,
        ):
            while group is not None and (size == 0 or size + group.nbytes <= file_bytes):
                writer.write_table(group, row_group_size=max(1, len(group)))
                size += max(1, group.nbytes)
                group = next(groups, None)
        yield path
        if group is None:
            return


def _schema(spec: FeatureSpec, *, codes: bool) -> pa.Schema:
    numbers = pa.from_numpy_dtype(np.dtype(spec.dtype))
    if spec.dtype == "uint8" and not codes:
        numbers = pa.float32()
    width = int(np.prod(spec.shape, dtype=np.int64))
    fields = [("video_id", pa.string()), ("time", pa.float64())]
    return pa.schema(
        [*fields, ("embedding", pa.list_(numbers, width))], {"mmf": json.dumps(spec.to_json())}
    )


def _groups(
    store: FeatureStore, spec: FeatureSpec, schema: pa.Schema, *, codes: bool
) -> Iterator[pa.Table]:
    """The rows as tables of about GROUP_BYTES; a video too long for one is in several."""
    kind = schema.field("embedding").type
    pending: list[pa.Table] = []
    for video in videos_with_rows(store, spec.name):
        track = stored_track(store, spec.name, video)
        values = track.values
        if spec.dtype == "uint8" and not codes:
            values = spec.decode(values)
        flat = pa.array(values.reshape(-1))
        columns = [
            pa.array([video] * len(track), pa.string()),
            pa.array(track.times),
            pa.FixedSizeListArray.from_arrays(flat, type=kind),
        ]
        table = pa.table(columns, schema=schema)
        rows = max(1, GROUP_BYTES // max(1, table.nbytes // len(table)))
        for at in range(0, len(table), rows):
            pending.append(table.slice(at, rows))
            if sum(t.nbytes for t in pending) >= GROUP_BYTES:
                yield pa.concat_tables(pending)
                pending = []
    if pending:
        yield pa.concat_tables(pending)
