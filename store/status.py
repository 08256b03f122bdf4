"""What is in a store, as plain values for people and programs."""

from collections import Counter
from typing import Any

import pyarrow.compute as pc

from mmf.store import layout
from mmf.store.feature_store import FeatureStore


def describe(store: FeatureStore) -> dict[str, Any]:
    """Videos, bytes, features with their recipes and outcomes, label sets: JSON values."""
    videos = len(store.videos())
    features = {name: _feature(store, name, videos) for name in sorted(store.features)}
    return {
        "store": store.files.name,
        "videos": videos,
        "bytes": sum(f["bytes"] for f in features.values()),
        "content": store.content_hash()[:16],
        "features": features,
        "label_sets": {name: _labels(store, name) for name in store.label_sets},
    }


def _feature(store: FeatureStore, name: str, videos: int) -> dict[str, Any]:
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
        "recipe": dict(stored.spec.recipe),
        "fingerprint": stored.spec.fingerprint,
        "array": f"{layout.GROUP}/{stored.array}",
        "rows": int(stored.rows.sum()),
        "bytes": sum(shard.size_bytes for shard in shards),
        **{s: outcomes[s] for s in ("done", "skipped", "failed")},
        "reasons": dict(sorted(Counter(reasons).items())),  # of what is done or skipped
        "missing": videos - outcomes.total(),  # no run has tried them yet
    }


def _labels(store: FeatureStore, name: str) -> dict[str, Any]:
    items = store.items(label_set=name)
    splits = Counter(item.split or "no split" for item in items)
    return {
        "items": len(items),
        "classes": len(store.classes(name)),
        "splits": dict(sorted(splits.items())),
    }
