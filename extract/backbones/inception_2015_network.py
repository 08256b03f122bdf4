"""Inception v3 as Google released it on 2015-12-05: the network behind YouTube-8M's frames.

Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016. The
parameters have the names and shapes of pytorch-fid's conversion of `classify_image_graph_def.pb`,
which are torchvision's. It is not torchvision's network: 1008 classes, average pools that leave
the padding out of the mean, and a max pool in the last block.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 1008
EMBEDDING = 2048
Pool = Literal["average", "max", "stride"]  # "stride": max over every second place
Maps = Float[Tensor, "B _ _ _"]
# (name, channels, kernel) of the convolutions of a branch, one after the other
Branch = tuple[tuple[str, int, tuple[int, int]], ...]

_ONE, _THREE, _FIVE = (1, 1), (3, 3), (5, 5)
_WIDE, _TALL = (1, 7), (7, 1)


# the branches of each kind of block, as the paper's figures 5, 6, 7 and 10 draw them
_A: tuple[Branch, ...] = (
    (("branch1x1", 64, _ONE),),
    (("branch5x5_1", 48, _ONE), ("branch5x5_2", 64, _FIVE)),
    (
        ("branch3x3dbl_1", 64, _ONE),
        ("branch3x3dbl_2", 96, _THREE),
        ("branch3x3dbl_3", 96, _THREE),
    ),
)


_B: tuple[Branch, ...] = (
    (("branch3x3", 384, _THREE),),
    (
        ("branch3x3dbl_1", 64, _ONE),
        ("branch3x3dbl_2", 96, _THREE),
        ("branch3x3dbl_3", 96, _THREE),
    ),
)
_D: tuple[Branch, ...] = (
    (("branch3x3_1", 192, _ONE), ("branch3x3_2", 320, _THREE)),
    (
        ("branch7x7x3_1", 192, _ONE),
        ("branch7x7x3_2", 192, _WIDE),
        ("branch7x7x3_3", 192, _TALL),
        ("branch7x7x3_4", 192, _THREE),
    ),
)


def _c(width: int) -> tuple[Branch, ...]:
    return (
        (("branch1x1", 192, _ONE),),
        (
            ("branch7x7_1", width, _ONE),
            ("branch7x7_2", width, _WIDE),
            ("branch7x7_3", 192, _TALL),
        ),
        (
            ("branch7x7dbl_1", width, _ONE),
            ("branch7x7dbl_2", width, _TALL),
            ("branch7x7dbl_3", width, _WIDE),
            ("branch7x7dbl_4", width, _TALL),
            ("branch7x7dbl_5", 192, _WIDE),
        ),
    )


class Inception2015(nn.Module):
    """Images (B, 3, 299, 299) in -1…1 → pool_3 (B, 2048); `fc` is loaded and not used."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, _THREE, stride=2, padding=(0, 0))
        self.Conv2d_2a_3x3 = _Convolution(32, 32, _THREE, padding=(0, 0))
        self.Conv2d_2b_3x3 = _Convolution(32, 64, _THREE)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, _ONE)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, _THREE, padding=(0, 0))
        self.Mixed_5b = _Mixed(192, _A, pool_width=32)
        self.Mixed_5c = _Mixed(256, _A, pool_width=64)
        self.Mixed_5d = _Mixed(288, _A, pool_width=64)
        self.Mixed_6a = _Mixed(288, _B, pool="stride")
        self.Mixed_6b = _Mixed(768, _c(128), pool_width=192)
        self.Mixed_6c = _Mixed(768, _c(160), pool_width=192)
        self.Mixed_6d = _Mixed(768, _c(160), pool_width=192)
        self.Mixed_6e = _Mixed(768, _c(192), pool_width=192)
        self.Mixed_7a = _Mixed(768, _D, pool="stride")
        self.Mixed_7b = _Last(1280, pool="average")
        self.Mixed_7c = _Last(2048, pool="max")
        self.fc = nn.Linear(EMBEDDING, CLASSES)

    def forward(self, images: Float[Tensor, "B 3 h w"]) -> Float[Tensor, "B 2048"]:
        """Images → the means of the last map."""
        maps = images
        for name, block in self.named_children():
            if name != "fc":
                maps = block(maps)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                maps = functional.max_pool2d(maps, 3, stride=2)
        return maps.mean(dim=(2, 3))


class _Convolution(nn.Module):
    def __init__(
        self,
        before: int,
        after: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        padding: tuple[int, int] | None = None,
    ):
        super().__init__()
        same = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(
            before, after, kernel, stride, same if padding is None else padding, bias=False
        )
        self.bn = nn.BatchNorm2d(after, eps=0.001)

    def forward(self, maps: Maps) -> Maps:
        return functional.relu(self.bn(self.conv(maps)))


class _Mixed(nn.Module):
    """Branches of convolutions and a pool side by side; with pool `stride` all halve the map."""

    def __init__(
        self,
        before: int,
        branches: tuple[Branch, ...],
        *,
        pool: Pool = "average",
        pool_width: int = 0,
    ):
        super().__init__()
        self.pool = pool
        self.branches = [[name for name, *_ in branch] for branch in branches]
        for branch in branches:
            width = before
            for name, after, kernel in branch:
                halves = pool == "stride" and name == branch[-1][0]
                padding = (0, 0) if halves else None
                made = _Convolution(width, after, kernel, stride=1 + halves, padding=padding)
                self.add_module(name, made)
                width = after
        if pool_width:
            self.branch_pool = _Convolution(before, pool_width, _ONE)

    def forward(self, maps: Maps) -> Maps:
        made = []
        for branch in self.branches:
            through = maps
            for name in branch:
                through = self.get_submodule(name)(through)
            made.append(through)
        pooled = _pool(maps, self.pool)
        return torch.cat([*made, pooled if self.pool == "stride" else self.branch_pool(pooled)], 1)


class _Last(nn.Module):
    """The blocks at stride 32: two of the branches end in a wide and a tall convolution each."""

    def __init__(self, before: int, *, pool: Pool):
        super().__init__()
        self.pool = pool
        self.branch1x1 = _Convolution(before, 320, _ONE)
        self.branch3x3_1 = _Convolution(before, 384, _ONE)
        self.branch3x3_2a = _Convolution(384, 384, (1, 3))
        self.branch3x3_2b = _Convolution(384, 384, (3, 1))
        self.branch3x3dbl_1 = _Convolution(before, 448, _ONE)
        self.branch3x3dbl_2 = _Convolution(448, 384, _THREE)
        self.branch3x3dbl_3a = _Convolution(384, 384, (1, 3))
        self.branch3x3dbl_3b = _Convolution(384, 384, (3, 1))
        self.branch_pool = _Convolution(before, 192, _ONE)

    def forward(self, maps: Maps) -> Maps:
        single = self.branch3x3_1(maps)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(maps))
        made = [
            self.branch1x1(maps),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(_pool(maps, self.pool)),
        ]
        return torch.cat(made, 1)


def _pool(maps: Maps, kind: Pool) -> Maps:
    match kind:
        case "average":
            return functional.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)
        case "max":
            return functional.max_pool2d(maps, 3, 1, 1)
        case "stride":
            return functional.max_pool2d(maps, 3, 2)
