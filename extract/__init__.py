"""Stage one: media files → timed signals → backbones → rows in the store.

`from mmf.extract import extract, backbone` imports what it names, and no torch before a backbone
asks for it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmf.extract.asked import JobOptions
    from mmf.extract.backbones import BACKBONES, Backbone, backbone
    from mmf.extract.chosen import Chosen, Counted, choosable, count_rows
    from mmf.extract.job import extract
    from mmf.extract.lanes import lanes_kept
    from mmf.extract.manifest import Input, Manifest, read_manifest
    from mmf.extract.pipeline import VideoEnded
    from mmf.extract.planning import Estimate, Plan, measure, plan
    from mmf.extract.presets import PRESETS, preset
    from mmf.extract.recipe import request_from_spec
    from mmf.extract.request import FeatureRequest, parse_feature
    from mmf.extract.tally import Counts, JobResult, JobStarted

_PLACES = {
    "backbones": ("BACKBONES", "Backbone", "backbone"),
    "asked": ("JobOptions",),
    "chosen": ("Chosen", "Counted", "choosable", "count_rows"),
    "job": ("extract",),
    "lanes": ("lanes_kept",),
    "manifest": ("Input", "Manifest", "read_manifest"),
    "pipeline": ("VideoEnded",),
    "planning": ("Estimate", "Plan", "measure", "plan"),
    "presets": ("PRESETS", "preset"),
    "recipe": ("request_from_spec",),
    "request": ("FeatureRequest", "parse_feature"),
    "tally": ("Counts", "JobResult", "JobStarted"),
}
_MODULE = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "BACKBONES",
    "PRESETS",
    "Backbone",
    "Chosen",
    "Counted",
    "Counts",
    "Estimate",
    "FeatureRequest",
    "Input",
    "JobOptions",
    "JobResult",
    "JobStarted",
    "Manifest",
    "Plan",
    "VideoEnded",
    "backbone",
    "choosable",
    "count_rows",
    "extract",
    "lanes_kept",
    "measure",
    "parse_feature",
    "plan",
    "preset",
    "read_manifest",
    "request_from_spec",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
