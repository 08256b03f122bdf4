"""Networks of clips trained on Kinetics-400, from torchvision.

R3D-18, MC3-18, R(2+1)D-18: Tran et al., A Closer Look at Spatiotemporal Convolutions, CVPR 2018;
S3D: Xie et al., Rethinking Spatiotemporal Feature Learning, ECCV 2018; MViT: Fan et al., ICCV 2021,
Li et al., CVPR 2022; Swin3D: Liu et al., Video Swin Transformer, CVPR 2022. Resize, crop, mean and
deviation are those of each network's published transform; clip lengths and strides those with which
torchvision states its accuracy (its frame rates of 15 and 7.5 are strides of 2 and 4 at 30). A row
is what the classifier would see.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torchvision
from torch import nn
from torchvision.ops import Permute

from mmf.extract.backbones.checkpoint import load, torchvision_source
from mmf.extract.backbones.clip_network import ClipNetwork
from mmf.extract.backbones.contract import Setup
from mmf.extract.signals import Clips, Signal

EDITION = "KINETICS400_V1"
# frames of a clip, and how many native frames they are apart
SAMPLING = {
    "mc3_18": (16, 2),
    "mvit_v1_b": (16, 4),
    "mvit_v2_s": (16, 4),
    "r2plus1d_18": (16, 2),
    "r3d_18": (16, 2),
    "s3d": (128, 2),
    "swin3d_b": (32, 2),
    "swin3d_s": (32, 2),
    "swin3d_t": (32, 2),
}


class Kinetics(ClipNetwork):
    """A Kinetics network of torchvision without its classifier; with `:grid` its map of places."""

    default_signal: ClassVar[Signal] = Clips()
    variants: ClassVar[tuple[str, ...]] = ("grid",)

    @classmethod
    def published(cls, name: str) -> str | None:
        """Torchvision's KINETICS400_V1."""
        return torchvision_source(_architecture(name), EDITION).published

    @classmethod
    def signal_for(cls, name: str, options: Mapping[str, str]) -> Signal:
        """Clips as the published transform of the network makes them."""
        frames, stride = SAMPLING[_architecture(name)]
        transform = _transform(name)
        resize, crop = transform.resize_size, transform.crop_size[0]
        return Clips(
            frames=frames,
            stride=stride,
            resize=resize[0],
            wide=resize[1] if len(resize) == 2 else 0,
            squash=len(resize) == 2,
            crop=crop,
            interpolation="bilinear_points",
        )

    def __init__(self, setup: Setup):
        loaded = load(torchvision_source(_architecture(setup.name), EDITION), setup.weights)
        transform = _transform(setup.name)
        self.scale = tuple(transform.mean), tuple(transform.std)
        grid = setup.variant == "grid"
        super().__init__(setup, loaded, _without_head(loaded.network, grid=grid))


class MultiscaleViT(Kinetics):
    """MViT: the row is its class token, so it has no grid; its clips have one size."""

    fuses: ClassVar[bool] = False  # nothing stands behind its convolutions
    variants: ClassVar[tuple[str, ...]] = ()


def _architecture(name: str) -> str:
    return name.partition(":")[0]


def _transform(name: str) -> Any:
    """The published transform: resize_size, crop_size, mean, std."""
    return torchvision.models.get_model_weights(_architecture(name))[EDITION].transforms()


def _without_head(network: Any, *, grid: bool) -> nn.Module:
    """The network up to what its classifier sees, or up to its last map."""
    if hasattr(network, "patch_embed"):  # Swin
        parts = (network.patch_embed, network.pos_drop, network.features, network.norm)
        return nn.Sequential(*parts, Permute([0, 4, 1, 2, 3]))
    if hasattr(network, "conv_proj"):  # MViT
        network.head = nn.Identity()
        made: nn.Module = network
        return made
    if hasattr(network, "stem"):  # the ResNets
        layers = (network.layer1, network.layer2, network.layer3, network.layer4)
        return nn.Sequential(network.stem, *layers)
    # S3D averages over windows of two steps in time, so the ends count less than the middle
    return nn.Sequential(network.features, *([] if grid else [network.avgpool]))
