"""Any image or clip network on optical flow: flow between neighbours, as pictures, as its input.

Simonyan and Zisserman, Two-Stream Convolutional Networks, NeurIPS 2014; the weights are those that
the network has for frames (cross-modality, Wang et al., Temporal Segment Networks, ECCV 2016).
``encode`` is a way of `mmf.extract.flow.encoding`, ``bound`` the speed in pixels per frame at which
its levels end, or ``frame`` for each picture's own largest. With ``encode=two`` the stem is adapted
to two channels: each gets the mean of the three colours' weights times 3/2, so that the stem's
response keeps its size (TSN's rule, scaled as timm does).

The class of ``resnet34`` is `flow_input.resnet34`, made when it is asked for: it has the variants
and options of the network that it feeds.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import nn

from mmf import MmfError, unknown
from mmf.extract.backbones import BACKBONES
from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.backbones.flow_backbone import OPTIONS, FlowBackbone
from mmf.extract.flow.encoding import WAYS, encode
from mmf.extract.signals import Clips, FramePairs, Frames, Signal

_WHOLE = {**OPTIONS, "encode": "zero", "bound": "20"}


class FlowInput(FlowBackbone):
    """Feeds flow to the backbone `inner`, which knows nothing of it."""

    inner: ClassVar[type[Backbone]]

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self._way, self._bound = self.chosen["encode"], _bound(self.chosen["bound"])
        if self._way not in WAYS:
            raise unknown("way to encode flow", self._way, WAYS)
        own = {k: v for k, v in setup.options.items() if k in self.inner.options}
        fed = self.inner(replace(setup, signal=_pictures(setup.signal), options=own))
        self._fed = fed
        self.batch, self.precision, self.device = fed.batch, fed.precision, fed.device
        self.weights, self.weights_path = fed.weights, fed.weights_path
        self.details, self.dtype, self.row_shape = fed.details, fed.dtype, fed.row_shape
        if self._way == "two":
            _adapt_stem(getattr(fed, "trunk", nn.Module()), setup.name)

    @classmethod
    def published(cls, name: str) -> str | None:
        """The weights for frames."""
        return cls.inner.published(name)

    @classmethod
    def signal_for(cls, name: str, options: Mapping[str, str]) -> Signal:
        """The network's own signal, of pairs of neighbours instead of frames."""
        own = {k: v for k, v in options.items() if k in cls.inner.options}
        signal = cls.inner.signal_for(name, own)
        if isinstance(signal, Clips):
            return replace(signal, pairs=True)
        return FramePairs(**{f.name: getattr(signal, f.name) for f in fields(signal)})

    def rows(
        self, payloads: UInt8[np.ndarray, "B *frames 2 h w 3"]
    ) -> Float32[np.ndarray, "B ..."]:
        """Pairs of frames, or clips of pairs → what the network makes of the flow's pictures."""
        pairs = payloads.reshape(-1, *payloads.shape[-4:])
        pictures = np.empty((len(pairs), *pairs.shape[2:]), np.uint8)
        for i, flow in enumerate(self.flow.pairs(pairs)):
            pictures[i] = encode(flow, pairs[i, 0], way=self._way, bound=self._bound)
        return self._fed.rows(pictures.reshape(*payloads.shape[:-4], *pairs.shape[2:]))

    def flops_per_row(self) -> float | None:
        """Operations of one row, the flow's included; None where either is not known."""
        looks, moves = self._fed.flops_per_row(), self.flow_flops()
        return None if looks is None or moves is None else looks + moves

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the rows."""
        return {**super().libraries(), **self._fed.libraries()}


@cache
def _feeding(name: str) -> type[FlowInput]:
    for modality in ("rgb", "clip"):
        if name in BACKBONES.get(modality, ()):
            inner: type[Backbone] = BACKBONES[modality].load(name)
            taken = ("variants", "any_variant", "has_weights", "known")
            members: dict[str, Any] = {k: getattr(inner, k) for k in taken if hasattr(inner, k)}
            members |= {"inner": inner, "options": {**_WHOLE, **inner.options}}
            if hasattr(inner, "default_signal"):
                members["default_signal"] = inner.default_signal
            return type(f"FlowInputOf{inner.__name__}", (FlowInput,), members)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _feeding(name)


def _pictures(signal: Signal) -> Signal:
    """The signal of pairs → that of what the network is shown."""
    if isinstance(signal, Clips):
        return replace(signal, pairs=False)
    return Frames(**{f.name: getattr(signal, f.name) for f in fields(signal)})


def _bound(text: str) -> float | None:
    if text == "frame":
        return None
    try:
        bound = float(text)
    except ValueError:
        bound = 0.0
    if not 0 < bound < 1e6:
        raise MmfError(f"bound={text!r}: expected pixels per frame above 0, or frame.")
    return bound


@torch.no_grad()
def _adapt_stem(trunk: nn.Module, name: str) -> None:
    """Two channels in, written as three of which the last counts for nothing."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.weight.shape[1] == 3:
            module.weight[:, :2] = 1.5 * module.weight.mean(dim=1, keepdim=True)
            module.weight[:, 2] = 0
            return
    raise MmfError(
        f"backbone {name!r} has no convolution of three colours that could be adapted to two "
        "channels. Choose another way: encode=zero, mean, wheel, gray."
    )
