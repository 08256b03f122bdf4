"""Stage two: small fusion models on stored features; trained, evaluated and asked for predictions.

The tables of what lies in this folder stand here, the others in the folders of their own.
Importing this loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mmf import Registry

if TYPE_CHECKING:
    from mmf.fuse.config import TrainConfig
    from mmf.fuse.evaluation.classes import by_frequency, evaluate_classes
    from mmf.fuse.evaluation.measure import evaluate
    from mmf.fuse.evaluation.thresholds import choose_thresholds, thresholds
    from mmf.fuse.inference.ensemble import Ensemble
    from mmf.fuse.inference.files import write_predictions
    from mmf.fuse.inference.prediction import predict
    from mmf.fuse.inference.predictor import Predictor
    from mmf.fuse.run import load
    from mmf.fuse.training.loop import Interrupted, train

__all__ = [
    "Ensemble",
    "Interrupted",
    "Predictor",
    "TrainConfig",
    "by_frequency",
    "choose_thresholds",
    "evaluate",
    "evaluate_classes",
    "load",
    "predict",
    "thresholds",
    "train",
    "write_predictions",
]

LOSSES = Registry(
    "loss",
    {"bce": "mmf.fuse.losses:binary_cross_entropy", "ce": "mmf.fuse.losses:cross_entropy"},
)
METRICS = Registry(
    "metric",
    {
        "gap@20": "mmf.fuse.metrics:gap",
        "map@20": "mmf.fuse.metrics:mean_average_precision",
        "map": "mmf.fuse.metrics:mean_average_precision_full",
        "perr": "mmf.fuse.metrics:perr",
        "hit@1": "mmf.fuse.metrics:hit_at_one",
        "accuracy": "mmf.fuse.metrics:accuracy",
        "mean_class_accuracy": "mmf.fuse.metrics:mean_class_accuracy",
    },
)

# no module here is called as one of these: a submodule becomes an attribute of its package
_PLACES = {
    "Ensemble": "inference.ensemble",
    "Interrupted": "training.loop",
    "Predictor": "inference.predictor",
    "TrainConfig": "config",
    "by_frequency": "evaluation.classes",
    "choose_thresholds": "evaluation.thresholds",
    "evaluate": "evaluation.measure",
    "evaluate_classes": "evaluation.classes",
    "load": "run",
    "predict": "inference.prediction",
    "thresholds": "evaluation.thresholds",
    "train": "training.loop",
    "write_predictions": "inference.files",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'mmf.fuse' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mmf.fuse.{_PLACES[name]}"), name)
