"""The published tensors of a BERT: found on this machine, pinned, and read without risk.

``bert:base`` and ``bert:large`` are the uncased English ones in the Hugging Face cache; any other
place is one of `mmf.store.weights`: a folder with config.json and tensors, or ``hf://ORG/NAME@…``.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.text.bert import BertConfig
from mmf.store.weights import Weights, find_weights

PUBLISHED = {
    "bert:base": "hf://google-bert/bert-base-uncased@main",
    "bert:large": "hf://google-bert/bert-large-uncased@main",
}
_BROKEN = (SafetensorError, UnpicklingError, EOFError, KeyError, RuntimeError, ValueError)
# what published files hold beside the encoder: heads, and a counter that older ones keep
_BESIDE = ("cls.", "classifier.", "qa_outputs.", "pooler.", "embeddings.position_ids")


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """The tensors of a BERT under the names of `text.bert`, with its sizes and its digest."""

    where: str
    config: BertConfig
    tensors: dict[str, Tensor]  # with the pooler, where the files have one
    sha256: str


def find(location: str) -> Weights:
    """The files of the BERT at a location; WeightsMissing where they are not on this machine."""
    return find_weights(
        PUBLISHED.get(location, location),
        name=location,
        otherwise="Or name the local folder of a BERT, with its config.json.",
    )


def read(location: str) -> Checkpoint:
    """The BERT at a location.

    Raises MmfError where it is not on this machine, cannot be read, or is another network.
    """
    found = find(location)
    tensors: dict[str, Tensor] = {}
    for file in found.files:
        tensors |= _read(file)
    return Checkpoint(
        where=str(found.path),
        config=_config(found),
        tensors={_renamed(name): tensor for name, tensor in tensors.items()},
        sha256=found.sha256,
    )


def fill(network: nn.Module, checkpoint: Checkpoint, prefix: str = "") -> None:
    """Load the tensors below `prefix` into the network: every one of its own must be there.

    Raises MmfError that names the first that misfit.
    """
    wanted = network.state_dict()
    given = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(prefix)
    }
    given = {n: t for n, t in given.items() if n in wanted or not (prefix + n).startswith(_BESIDE)}
    faults = [f"{prefix}{name} is missing" for name in wanted if name not in given]
    faults += [f"{prefix}{name} is not in the network" for name in given if name not in wanted]
    faults += [
        f"{prefix}{name} has shape {tuple(given[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise MmfError(
            f"the weights in {checkpoint.where!r} do not fit: {'; '.join(faults[:3])}{more}. "
            f"They are of a BERT of {said(checkpoint.config)}."
        )
    network.load_state_dict({n: t.to(wanted[n].dtype) for n, t in given.items()})


def said(config: BertConfig) -> str:
    """The sizes in words."""
    return (
        f"{config.num_hidden_layers} layers, {config.hidden_size} units and "
        f"{config.num_attention_heads} heads"
    )


def _renamed(name: str) -> str:
    """The name without the part for the whole network; TensorFlow's gamma and beta as torch's."""
    name = name.removeprefix("bert.")
    for old, own in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + own
    return name


def _config(found: Weights) -> BertConfig:
    if found.config is None:
        return BertConfig()
    try:
        values = json.loads(found.config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MmfError(f"{str(found.config)!r} cannot be read: {error}.") from error
    _check_kind(values, found.config)
    known = {f.name: values[f.name] for f in dataclasses.fields(BertConfig) if f.name in values}
    try:
        return BertConfig(**known)
    except TypeError as error:
        raise MmfError(f"{str(found.config)!r} does not say a BERT's sizes: {error}.") from error


def _check_kind(values: Any, path: Path) -> None:
    expected = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
    }
    for key, wanted in expected.items():
        there = values.get(key, wanted) if isinstance(values, Mapping) else None
        if there != wanted:
            raise MmfError(
                f"{str(path)!r} is of another network than BERT's encoder: "
                f"{key} {there!r}, expected {wanted!r}."
            )


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)  # no file can run code
    except _BROKEN as error:
        raise MmfError(
            f"{str(path)!r} cannot be read as weights ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). Expected .safetensors, or tensors only."
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise MmfError(f"{str(path)!r} holds no state dict: expected names with their tensors.")
    return tensors
