"""When an item's segments are, in seconds, by the times of the rows in the store.

A row stands from its time until the next one of its feature that is read, and the last one for
``1 / rate``; where a feature has no rate, until the item's others end. The segments of an item are
cut from the rows of each feature by their number (`fuse.policy.segments`), so they are as far apart
as its rows are: of a sound that ends early, they are shorter than those of the pictures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mmf.fuse.policy.decisions import Decisions
from mmf.store import FeatureStore, Item
from mmf.store.batch import evenly
from mmf.store.items import Items
from mmf.store.stored_feature import StoredFeature


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentTimes:
    """Of one item of S segments and M modalities."""

    start: Float[np.ndarray, " S"]  # by the feature that has the most rows: it has one in each
    end: Float[np.ndarray, " S"]
    starts: Float[np.ndarray, "S M"]  # by each modality's own rows; where it has none, as above
    ends: Float[np.ndarray, "S M"]
    begins: float  # the first row of the video itself


def segment_times(
    store: FeatureStore, items: Items, decisions: Decisions
) -> Iterator[SegmentTimes]:
    """Of each of the items that were decided about."""
    features = {name: store.stored(name) for name in decisions.rows if name in store.features}
    spans = {n: f.spans(items, f.positions(items.video_ids)) for n, f in features.items()}
    for i, item in enumerate(items):
        n = int(decisions.valid[i].sum())
        counts = {m: of[i, :n] for m, of in decisions.rows.items() if m in spans and of[i].any()}
        each = {
            m: row_edges(features[m], spans[m][i].tolist(), int(of.sum()))
            for m, of in counts.items()
        }
        end = max((times[-1] for times in each.values()), default=0.0)
        for name, times in each.items():
            if features[name].spec.rate is None:
                times[-1] = end
        edges = {m: times[np.append(0, np.cumsum(counts[m]))] for m, times in each.items()}
        firsts = [features[m].times(int(spans[m][i, 0]))[0] for m in each]
        yield _cut(item, decisions.modalities, edges, counts, float(min(firsts, default=0.0)))


def row_edges(feature: StoredFeature, span: Sequence[int], rows: int) -> np.ndarray:
    """Seconds (T + 1,) of so many rows of an item, evenly, and the end of the last one."""
    position, first, number = span
    times = feature.times(position)
    if first + number < len(times):
        end = times[first + number]
    else:
        end = times[-1] + (1 / feature.spec.rate if feature.spec.rate else 0.0)
    return np.append(times[first + evenly(number, rows)], end)


def _cut(
    item: Item,
    modalities: Sequence[str],
    edges: Mapping[str, np.ndarray],
    counts: Mapping[str, np.ndarray],
    begins: float,
) -> SegmentTimes:
    """The times between the edges, within the item's own."""
    most = max(edges, key=lambda name: counts[name].sum(), default=None)
    of_item = np.zeros(1) if most is None else edges[most]
    low, high = (-np.inf, np.inf) if item.start is None else (item.start, item.end)
    n = len(of_item) - 1
    starts, ends = (np.repeat(x[:, None], len(modalities), 1) for x in (of_item[:-1], of_item[1:]))
    for m, name in enumerate(modalities):
        if name in edges:
            there = counts[name][:n] > 0
            starts[there, m], ends[there, m] = edges[name][:-1][there], edges[name][1:][there]
    found = (np.clip(x, low, high) for x in (of_item[:-1], of_item[1:], starts, ends))
    start, end, starts, ends = found
    return SegmentTimes(start=start, end=end, starts=starts, ends=ends, begins=begins)
