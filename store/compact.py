"""Write what is visible of a feature into one more array, in one global order.

Many small commits, deletions and growth leave the rows in the order in which they came. The new
array holds the visible outcomes alone, in the order of a hash of (seed, video id), so that the
order of the disk is a random one. It fills up unseen; one new version of the feature then puts it
in the place of the old array, which those who have the store open go on reading until `gc` takes
it. What others commit to the old array meanwhile is taken over: by passes until none comes, by one
more after the new version stands, and by the late writer itself, which looks after its commit
whether its array is still the feature's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmf.store import head, layout
from mmf.store.feature_store import FeatureStore
from mmf.store.files import current


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """One feature that was written anew."""

    feature: str
    array: str  # its own now
    videos: int


def compact(
    path: str | Path, features: Sequence[str] | None = None, *, seed: int = 0
) -> list[Compacted]:
    """Compact some features of a store, or all of them.

    Needs free space for one copy of the feature at hand. A kill leaves an array that nobody sees
    and that `gc` removes.
    """
    store = FeatureStore(path)
    done = [_compact(store, name, seed) for name in features or sorted(store.features)]
    store.index()
    return [one for one in done if one is not None]


def _compact(store: FeatureStore, feature: str, seed: int) -> Compacted | None:
    store.writer().absorb(feature)
    files = store.files
    number, value = current(files.root / "features" / feature)
    source = store.stored(feature)
    array = layout.new_array(files, feature, source.spec, source.geometry)
    target = store.array_of(feature, array)
    writer = store.writer()
    while writer.copy_missing(target, source, seed):
        store.refresh()
    before = [*value.get("before", ()), source.array]
    value = {**value, "array": array, "before": before}
    if not files.publish(files.root / "features" / feature, value, after=number):
        return None  # somebody else has begun or compacted it: ours is what `gc` removes
    head.note(files)
    store.refresh()
    store.writer().absorb(feature)
    return Compacted(feature=feature, array=array, videos=len(store.stored(feature).outcomes))
