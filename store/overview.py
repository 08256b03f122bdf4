"""What there is in a store: as tables, as plain values, and as one hash."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmf.store import layout

if TYPE_CHECKING:
    from mmf.store.feature_store import FeatureStore

_FAILURE = ["video_id", "feature", "reason", "stage", "message", "attempts"]


def videos(store: "FeatureStore") -> pa.Table:
    """Every video: id, split, labels, status per feature, the columns of its manifest."""
    table, splits = store.catalog.videos(), store.catalog.splits("default")
    labels = _whole_labels(store)
    ids = {*table["video_id"].to_pylist(), *splits, *labels}
    states = {f: store.state(f) for f in store.features}
    known = sorted(ids.union(*states.values()))
    columns: dict[str, Mapping] = {"split": splits, "labels": labels, **states}
    rows = pa.table({"video_id": pa.array(known, pa.string())})
    for name, of in columns.items():
        kind = pa.list_(pa.string()) if name == "labels" else pa.string()
        rows = rows.append_column(name, pa.array([of.get(v) for v in known], kind))
    at = pc.index_in(rows["video_id"], table["video_id"])
    for name in table.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(name, pc.take(table[name], at))
    return rows


def _whole_labels(store: "FeatureStore") -> dict[str, list[str]]:
    if "default" not in store.label_sets:
        return {}
    classes = store.classes()
    whole = (i for i in store.items() if i.start is None)
    return {i.video_id: [classes[c] for c in i.labels] for i in whole}


def failures(store: "FeatureStore") -> pa.Table:
    """Videos that could not be used: video_id, feature, reason, stage, message, attempts."""
    parts = [store.stored(f).outcomes for f in sorted(store.features)]
    parts = [p.filter(pc.equal(p["status"], "failed")).select(_FAILURE) for p in parts]
    if not parts:
        return pa.table({n: pa.array([], pa.string()) for n in _FAILURE})
    return pa.concat_tables(parts)


def content_hash(store: "FeatureStore") -> str:
    """A hash of the visible rows and outcomes, whatever commits they came in."""
    total = hashlib.sha256()
    for name in sorted(store.features):
        feature = store.stored(name)
        total.update(f"{name}\0{feature.spec.fingerprint}\n".encode())
        for position, row in enumerate(feature.outcomes.to_pylist()):
            times = feature.times(position) if row["rows"] else np.empty(0)
            fields = [row[c] for c in ("video_id", "status", "reason", "rows", "crc32c")]
            total.update(f"{fields!r}{hashlib.sha256(times.tobytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def describe(store: "FeatureStore") -> dict[str, Any]:
    """Videos, bytes, features with their recipes and outcomes, label sets: JSON values."""
    videos = len(store.videos())
    features = {name: _feature(store, name, videos) for name in sorted(store.features)}
    return {
        "store": store.files.name,
        "videos": videos,
        "bytes": sum(f["bytes"] for f in features.values()),
        "content": store.content_hash()[:16],
        "features": features,
        "label_sets": {name: _label_set(store, name) for name in store.label_sets},
    }


def _feature(store: "FeatureStore", name: str, videos: int) -> dict[str, Any]:
    stored = store.stored(name)
    outcomes = Counter(stored.outcomes["status"].to_pylist())
    shards = store.files.shards(stored.folder)
    failed = pc.equal(stored.outcomes["status"], "failed")
    reasons = stored.outcomes.filter(pc.invert(failed))["reason"].drop_null().to_pylist()
    return {
        "modality": stored.spec.modality,
        "backbone": str(stored.spec.recipe.get("backbone", "added")),
        "shape": list(stored.spec.shape),
        "dtype": stored.spec.dtype,
        "rate": stored.spec.rate,
        "flops_per_row": stored.spec.flops_per_row,
        "milliseconds_per_row": vars(stored.milliseconds_per_row),
        "recipe": dict(stored.spec.recipe),
        "fingerprint": stored.spec.fingerprint,
        "array": f"{layout.GROUP}/{stored.array}",
        "rows": int(stored.rows.sum()),
        "bytes": sum(shard.size_bytes for shard in shards),
        **{s: outcomes[s] for s in ("done", "skipped", "failed")},
        "reasons": dict(sorted(Counter(reasons).items())),  # of what is done or skipped
        "missing": videos - outcomes.total(),  # no run has tried them yet
    }


def _label_set(store: "FeatureStore", name: str) -> dict[str, Any]:
    items = store.items(label_set=name)
    splits = Counter(item.split or "no split" for item in items)
    return {
        "items": len(items),
        "classes": len(store.classes(name)),
        "splits": dict(sorted(splits.items())),
    }


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What a store holds by number alone: as cheap as counting, however large its rows are."""

    features: Mapping[str, Mapping[str, int]]  # name → videos done, failed, skipped
    committed: float | None  # seconds since 1970 of the last commit; None: there is none


def glance(store: "FeatureStore") -> Glance:
    """Videos by feature and outcome, and when something was last committed."""
    features = {}
    for name in sorted(store.features):
        found = pc.value_counts(store.stored(name).outcomes["status"]).to_pylist()
        counts = {one["values"]: one["counts"] for one in found}
        features[name] = {s: counts.get(s, 0) for s in ("done", "failed", "skipped")}
    times = []
    for record in store.newest:  # of all records, the ones that no other was made after
        with contextlib.suppress(OSError):  # a compaction has just been here
            times.append(store.files.weigh(store.path / "log" / record)[1])
    return Glance(features=features, committed=max(times, default=None))
