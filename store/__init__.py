"""The feature store: the only thing that the two stages share."""

from mmf.store.batch import Batch
from mmf.store.feature import FeatureSpec, Media, Outcome, RecipeMismatch, Track
from mmf.store.feature_store import FeatureStore
from mmf.store.items import Item

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
