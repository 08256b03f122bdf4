"""X3D-XS, S, M and L on clips of Kinetics-400's actions.

Feichtenhofer, X3D, CVPR 2020. Frames × stride, the short side and the centre crop are those of the
paper's test of one view. Pixels are normalised as pytorchvideo's model zoo does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mmf.extract.backbones.checkpoint import Source, load
from mmf.extract.backbones.clip_network import ClipNetwork
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.network import Trunk
from mmf.extract.backbones.pixels import SLOWFAST
from mmf.extract.backbones.x3d_network import X3D
from mmf.extract.signals import Clips, Signal

URL = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/X3D_{}.pyth"
DEFAULT = "m"


@dataclass(frozen=True, kw_only=True)
class Size:
    """One size of the network: its clips and the blocks of its stages."""

    frames: int
    stride: int
    resize: int
    crop: int
    depths: tuple[int, int, int, int] = (3, 5, 11, 7)


SIZES = {
    "xs": Size(frames=4, stride=12, resize=182, crop=160),
    "s": Size(frames=13, stride=6, resize=182, crop=160),
    "m": Size(frames=16, stride=5, resize=256, crop=224),
    "l": Size(frames=16, stride=5, resize=356, crop=312, depths=(5, 10, 25, 15)),
}


class X3DNetwork(ClipNetwork):
    """X3D's 2048 numbers before its classifier, or with `:grid` its 432 at each place."""

    default_signal: ClassVar[Signal] = Clips()
    variants: ClassVar[tuple[str, ...]] = (*SIZES, *(f"{size}:grid" for size in SIZES))
    scale = SLOWFAST

    @classmethod
    def published(cls, name: str) -> str | None:
        """pytorchvideo's checkpoint of that size."""
        return URL.format(_size(name).upper())

    @classmethod
    def signal_for(cls, name: str, options: Mapping[str, str]) -> Signal:
        """Clips of the size's length, stride and crop."""
        size = SIZES[_size(name)]
        return Clips(
            frames=size.frames,
            stride=size.stride,
            resize=size.resize,
            crop=size.crop,
            interpolation="bilinear_points",
        )

    def __init__(self, setup: Setup):
        size = _size(setup.name)
        source = Source(
            name=f"x3d:{size}",
            build=lambda: X3D(SIZES[size].depths),
            published=self.published(setup.name),
        )
        loaded = load(source, setup.weights)
        wanted = _maps if setup.name.endswith(":grid") else _embed
        super().__init__(setup, loaded, Trunk(loaded.network, wanted))


def _maps(network: nn.Module, clips: Float[Tensor, "B 3 T h w"]) -> Float[Tensor, "B _ _ _ _"]:
    maps: Tensor = network.maps(clips)  # type: ignore[operator]
    return maps


def _embed(network: nn.Module, clips: Float[Tensor, "B 3 T h w"]) -> Float[Tensor, "B _"]:
    embedding: Tensor = network.head.embed(_maps(network, clips))  # type: ignore[operator, union-attr]
    return embedding


def _size(name: str) -> str:
    variant = name.split(":")[1] if ":" in name else DEFAULT
    return variant if variant in SIZES else DEFAULT  # the contract refuses other names
