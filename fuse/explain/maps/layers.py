"""Which layers of a network attend from step to step, and what the steps of each are.

gmsa            a layer of self-attention for each feature, as an aggregator or as a fusion
framewise       the same over fused steps, where its aggregator is gmsa
attention       pooling by a learned query: one row of weights for each feature
mmf_transformer BERT's layers, over the tokens of all features

A text encoder's own layers are not asked: they attend between the sub-words of one caption.
"""

import re
from dataclasses import dataclass

import numpy as np
from torch import nn

from mmf import MmfError
from mmf.fuse.aggregators.attention import Attention
from mmf.fuse.explain.maps.given import Given
from mmf.fuse.explain.subject import Subject
from mmf.fuse.fusions.mmf_transformer import MMFTransformer
from mmf.fuse.layers.self_attention import SelfAttention
from mmf.fuse.network import Network
from mmf.fuse.text.bert import QueryKeyValue

FUSED, TOKEN = "fused steps", "[token]"
_OF_FEATURE = re.compile(r"(?:aggregate|fusion\.streams)\.(\d+)(?:\.attention)?")
_OF_ENCODER = re.compile(r"fusion\.encoder\.layer\.(\d+)\.attention\.self")


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """The T steps that a layer attends between, for one item."""

    features: tuple[str, ...]  # of each step
    times: np.ndarray  # (T,) seconds; NaN of what stands for no row

    def __len__(self) -> int:
        return len(self.features)


def attention_layers(subject: Subject) -> dict[str, nn.Module]:
    """The layers of a run that attend, by the feature they serve or by their number.

    Raises MmfError where there is none.
    """
    found: dict[str, nn.Module] = {
        name: module
        for path, module in subject.network.named_modules()
        if isinstance(module, SelfAttention | Attention | QueryKeyValue)
        and (name := _name(subject.network, path))
    }
    if not found:
        raise MmfError(
            f"{_lacking(subject)} no attention between an item's steps. Those that have it: "
            "--aggregate gmsa or attention, --fusion gmsa or mmf_transformer."
        )
    return found


def self_attention_layers(subject: Subject) -> dict[str, SelfAttention]:
    """Those of GMSA, which have neighbourhoods; MmfError where there is none."""
    found = {
        name: module
        for path, module in subject.network.named_modules()
        if isinstance(module, SelfAttention) and (name := _name(subject.network, path))
    }
    if not found:
        raise MmfError(
            f"{_lacking(subject)} no layer of GMSA over an item's steps, whose local sensitivity "
            "this is. --aggregate gmsa and --fusion gmsa have one."
        )
    return found


def _lacking(subject: Subject) -> str:
    config = subject.run.config
    how = f"fusion {config.fusion!r} and aggregator {config.aggregate!r}"
    if subject.network.policy is not None:
        how = f"fusion {config.fusion!r}, which sees each segment alone"
    return f"run {str(subject.run.path)!r}, with {how}, has"


def steps_of(network: Network, layer: str, given: Given) -> Steps:
    """What a layer attends between when it is given this item."""
    if layer in network.features:
        return _repeated(layer, given.times.get(layer, np.empty(0)))
    if layer == FUSED:  # as many as the feature that has the most
        return _repeated(FUSED, max(given.times.values(), key=len))
    names, times = list[str](), list[np.ndarray]()
    if isinstance(network.fusion, MMFTransformer):
        if network.fusion.token is not None:
            names, times = [TOKEN], [np.array([np.nan])]
        for name, length in zip(network.features, network.fusion.lengths, strict=True):
            its = given.times.get(name, np.empty(0))[:length]
            names += [name] * len(its)
            times.append(its)
    return Steps(features=tuple(names), times=np.concatenate([np.empty(0), *times]))


def _repeated(name: str, times: np.ndarray) -> Steps:
    return Steps(features=(name,) * len(times), times=times)


def _name(network: Network, path: str) -> str:
    """What a layer is called; nothing where it is none of those that are asked."""
    if network.policy is not None:
        return ""
    if of := _OF_FEATURE.fullmatch(path):
        return network.features[int(of[1])]
    if of := _OF_ENCODER.fullmatch(path):
        return f"layer {int(of[1]) + 1}"
    return FUSED if path in ("fusion.aggregate", "fusion.aggregate.attention") else ""
