"""The feature store: the only thing that the two stages share."""

from mmf.store.batch import Batch
from mmf.store.feature_store import FeatureStore
from mmf.store.items import Item
from mmf.store.spec import FeatureSpec, RecipeMismatch
from mmf.store.track import Media, Outcome, Track

__all__ = [
    "Batch",
    "FeatureSpec",
    "FeatureStore",
    "Item",
    "Media",
    "Outcome",
    "RecipeMismatch",
    "Track",
]
