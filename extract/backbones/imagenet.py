"""Image networks trained on ImageNet, from torchvision, as embeddings of single frames.

He et al., Deep Residual Learning, CVPR 2016; Sandler et al., MobileNetV2, CVPR 2018; Szegedy et
al., Rethinking the Inception Architecture, CVPR 2016. A frame's short side is resized (PIL,
bilinear with antialias), the centre is cut, mean and standard deviation are taken out: each
network's published evaluation transform. The row is what the classifier would see, or with `:grid`
the last feature map before it is averaged.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from mmf.extract.backbones.checkpoint import load, torchvision_source
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.folding import folded
from mmf.extract.backbones.network import NetworkBackbone
from mmf.extract.backbones.pixels import HALF, IMAGENET, Scale, normalised
from mmf.extract.signals import Frames, Signal

SIDE = 224
EDITION = "IMAGENET1K_V1"
# children that come after the last feature map, or beside the way to it
_HEAD = ("AuxLogits", "avgpool", "dropout", "fc")


class ImageNetwork(NetworkBackbone):
    """An ImageNet network without its classifier: its pooled embedding, or with `:grid` its map."""

    variants: ClassVar[tuple[str, ...]] = ("grid",)
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    fuses: ClassVar[bool] = True
    scale: ClassVar[Scale] = IMAGENET

    @classmethod
    def published(cls, name: str) -> str | None:
        """Torchvision's IMAGENET1K_V1."""
        return torchvision_source(name.partition(":")[0], EDITION).published

    def __init__(self, setup: Setup):
        architecture, _, self._variant = setup.name.partition(":")
        loaded = load(torchvision_source(architecture, EDITION), setup.weights)
        super().__init__(setup, loaded, folded(_without_head(loaded.network)))

    def finish(
        self, made: Float[Tensor, "B D h w"]
    ) -> Float[Tensor, "B D"] | Float[Tensor, "B h w D"]:
        """The mean over h and w, or with `:grid` the map with its channels last."""
        return made.permute(0, 2, 3, 1) if self._variant == "grid" else made.mean(dim=(2, 3))


def _without_head(network: nn.Module) -> nn.Module:
    """The network up to its last feature map; children stand in the order of the forward."""
    if isinstance(features := getattr(network, "features", None), nn.Module):
        return features
    return nn.Sequential(*[m for name, m in network.named_children() if name not in _HEAD])


class Imagenet(ImageNetwork):
    """Embedding of a frame by an ImageNet network: 512, 1280 or 2048 numbers, or a 7 × 7 grid."""

    modality: ClassVar[str] = "rgb"
    default_signal: ClassVar[Signal] = Frames(resize=256, crop=SIDE)

    def prepare(self, payloads: UInt8[np.ndarray, "B h w 3"]) -> Float32[Tensor, "B 3 h w"]:
        """Frames (B, h, w, 3) → normalised images."""
        return normalised(self.on_device(payloads), *self.scale)


class InceptionV3(Imagenet):
    """torchvision's Inception v3: 2048 numbers, or an 8 × 8 grid.

    Its weights came from TensorFlow, so its pixels lie in -1…1. YouTube-8M's Inception is another
    network: `inception_2015`.
    """

    default_signal: ClassVar[Signal] = Frames(resize=342, crop=299)
    batches: ClassVar[Mapping[str, int]] = {"cpu": 4, "cuda": 64}
    scale: ClassVar[Scale] = HALF
