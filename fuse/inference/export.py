"""A run as one file that torch runs without mmf: a graph of torch.export, and what it means.

    archive = {"mmf.json": ""}
    graph = torch.export.load("model.pt2", extra_files=archive).module()
    logits = graph({"rgb": rgb}, {"rgb": mask})  # float32 (B, T, D), bool (B, T) → (B, C)

Every feature is given, as numbers, any number of items and steps at a time; of one that is missing
the mask is False throughout. The normalisation is inside. ``mmf.json`` in the archive says what
the numbers are: features, classes, the loss, and what makes probabilities of the logits.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmf import MmfError, __version__
from mmf.fuse.network import Network
from mmf.fuse.run import Run
from mmf.store.exchange.output import finished

META = "mmf.json"  # in the archive
CANNOT = {
    # torch.export (2.14) writes a recurrent network out step by step, as many as it is shown
    "aggregate": ("lstm", "gru"),
    "head": ("sequence",),  # whose steps are the items of a video
}
_PROBABILITIES = {"ce": "softmax over the classes", "bce": "sigmoid"}


def export_torch(run: str | Path, path: str | Path) -> dict[str, Any]:
    """Write a run as OUT.pt2; what its ``mmf.json`` says.

    Raises MmfError for what no such graph can be made of (`CANNOT`, and text encoders).
    """
    opened, path = Run.open(run), Path(path)
    if path.suffix != ".pt2":
        raise MmfError(f"cannot write a graph to {str(path)!r}: expected a name in .pt2.")
    _refuse(opened)
    shapes = {name: spec.shape for name, spec in opened.specs.items()}
    graph, said = graph_of(opened.trained(), shapes), _said(opened)
    with finished(path) as part, open(part, "wb") as file:
        torch.export.save(graph, file, extra_files={META: json.dumps(said, indent=1)})
    return said


class _Named(nn.Module):
    """A network with the two arguments that a graph has."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        """Logits (B, C)."""
        return self.network(features, masks)


def graph_of(
    network: Network, shapes: Mapping[str, tuple[int, ...]]
) -> torch.export.ExportedProgram:
    """A network as a graph; `shapes` are those of its features' rows."""
    features, masks = {}, {}
    for steps, (name, shape) in enumerate(shapes.items(), 3):  # none is like another
        features[name] = torch.zeros(2, steps, *shape)
        masks[name] = torch.ones(2, steps, dtype=torch.bool)
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    sizes = (dict.fromkeys(features, any_size), dict.fromkeys(masks, any_size))
    named = _Named(network)
    return torch.export.export(named, (features, masks), dynamic_shapes=sizes, strict=False)


def _refuse(run: Run) -> None:
    config = run.config
    options: Mapping[str, Any] = config.fusion_options  # of framewise, which has one of its own
    used: dict[str, list[Any]] = {
        "head": [config.head],
        "aggregate": [config.aggregate, options.get("aggregate")],
    }
    for what, names in CANNOT.items():
        for name in used[what]:
            if name in names:
                raise MmfError(
                    f"run {str(run.path)!r} has the {what} {name!r}, of which torch makes no graph "
                    "for any number of steps: it writes a recurrent network out step by step. Use "
                    "`mmf.fuse.Predictor`, or train with another."
                )
    tokens = [name for name, spec in run.specs.items() if spec.dtype == "int32"]
    if tokens:
        raise MmfError(
            f"run {str(run.path)!r} reads token ids of {tokens[0]!r} with a text encoder, of which "
            "no graph is made. Use `mmf.fuse.Predictor`, or features of text that are vectors."
        )


def _said(run: Run) -> dict[str, Any]:
    """What the numbers in and out are."""
    features = {
        name: {
            "modality": spec.modality,
            "shape": list(spec.shape),  # of a row: (B, T, *shape) goes in
            "stored_as": spec.dtype,
            "scale_offset": list(spec.scale_offset),  # number = code · scale + offset
            "fingerprint": spec.fingerprint,
        }
        for name, spec in run.specs.items()
    }
    return {
        "mmf": __version__,
        "features": features,
        "max_steps": run.config.max_steps,  # rows of an item that the run was trained on at most
        "classes": list(run.classes),
        "task": run.task,
        "loss": run.loss,
        "probabilities": _PROBABILITIES[run.loss],
    }
