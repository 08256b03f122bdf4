"""X3D: a residual network of depthwise 3-D convolutions, small for what it sees.

Feichtenhofer, X3D: Expanding Architectures for Efficient Video Recognition, CVPR 2020, table 3;
the parameters have the names and shapes of the published checkpoints. A clip (B, 3, T, h, w) keeps
its T frames; h and w are halved by the stem and by each of the four stages.
"""

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (24, 48, 96, 192)
INNER = 2.25  # the bottleneck is wider than what it joins
WIDE = 432  # = 2.25 × 192, before the pooling
EMBEDDING = 2048
CLASSES = 400
VECTORS = 32  # floats that torch takes at a time: two vectors of AVX-512

Clip = Float[Tensor, "B _ T _ _"]


class X3D(nn.Module):
    """The network with its classifier of Kinetics-400; `depths` are the blocks of each stage."""

    def __init__(self, depths: tuple[int, int, int, int]):
        super().__init__()
        stages = [
            _Stage(before, after, depth)
            for before, after, depth in zip((24, *WIDTHS), WIDTHS, depths, strict=False)
        ]
        self.blocks = nn.ModuleList([_Stem(), *stages, _Head()])

    def forward(self, clip: Float[Tensor, "B 3 T h w"]) -> Float[Tensor, "B C"]:
        """A normalised clip → logits."""
        logits: Tensor = self.head.proj(self.head.embed(self.maps(clip)))
        return logits

    @property
    def head(self) -> "_Head":
        """The last block."""
        return cast(_Head, self.blocks[-1])

    def maps(self, clip: Float[Tensor, "B 3 T h w"]) -> Float[Tensor, "B 432 T hh ww"]:
        """A normalised clip → the last feature map, at stride 32."""
        for block in self.blocks[:-1]:
            clip = block(clip)
        pool = self.head.pool
        return functional.relu(pool["pre_norm"](pool["pre_conv"](clip)))


class _Stem(nn.Module):
    """3 × 3 in space, then 5 in time for each channel; the names are swapped as published."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ModuleDict(
            {
                "conv_t": nn.Conv3d(3, 24, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
                "conv_xy": nn.Conv3d(24, 24, (5, 1, 1), 1, (2, 0, 0), groups=24, bias=False),
            }
        )
        self.norm = nn.BatchNorm3d(24)

    def forward(self, clip: Clip) -> Clip:
        return functional.relu(self.norm(self.conv["conv_xy"](self.conv["conv_t"](clip))))


class _Stage(nn.Module):
    """`depth` blocks; the first halves h and w, every second has squeeze and excitation."""

    def __init__(self, before: int, after: int, depth: int):
        super().__init__()
        self.res_blocks = nn.Sequential(
            *[
                _Block(after if i else before, after, first=i == 0, squeeze=i % 2 == 0)
                for i in range(depth)
            ]
        )

    def forward(self, clip: Clip) -> Clip:
        made: Tensor = self.res_blocks(clip)
        return made


class _Block(nn.Module):
    """x + the bottleneck of x; the first of a stage projects x, and norms it where it widens."""

    def __init__(self, before: int, after: int, *, first: bool, squeeze: bool):
        super().__init__()
        if first:
            self.branch1_conv = nn.Conv3d(before, after, 1, (1, 2, 2), bias=False)
        if before != after:
            self.branch1_norm = nn.BatchNorm3d(after)
        self.branch2 = _Bottleneck(before, after, stride=2 if first else 1, squeeze=squeeze)

    def forward(self, clip: Clip) -> Clip:
        beside = clip
        for name in ("branch1_conv", "branch1_norm"):
            beside = getattr(self, name, nn.Identity())(beside)
        return functional.relu(beside + self.branch2(clip))


class _Bottleneck(nn.Module):
    """1³ up, 3³ for each channel, squeeze and excitation, Swish, 1³ down."""

    def __init__(self, before: int, after: int, *, stride: int, squeeze: bool):
        super().__init__()
        inner = int(INNER * after)
        self.conv_a = nn.Conv3d(before, inner, 1, bias=False)
        self.norm_a = nn.BatchNorm3d(inner)
        self.conv_b = nn.Conv3d(inner, inner, 3, (1, stride, stride), 1, groups=inner, bias=False)
        self.norm_b = nn.Sequential(nn.BatchNorm3d(inner))
        if squeeze:
            self.norm_b.append(_SqueezeExcitation(inner))
        self.conv_c = nn.Conv3d(inner, after, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(after)

    def forward(self, clip: Clip) -> Clip:
        clip = functional.relu(self.norm_a(self.conv_a(clip)))
        clip = _swish(self.norm_b(self.conv_b(clip)))
        made: Tensor = self.norm_c(self.conv_c(clip))
        return made


class _SqueezeExcitation(nn.Module):
    """Each channel scaled by what the means of all channels say (Hu et al., CVPR 2018)."""

    def __init__(self, width: int):
        super().__init__()
        few = _multiple_of_8(width / 16)
        self.block = nn.Sequential(nn.Conv3d(width, few, 1), nn.ReLU(), nn.Conv3d(few, width, 1))

    def forward(self, clip: Clip) -> Clip:
        means = clip.mean(dim=(2, 3, 4), keepdim=True)
        return clip * _by_vectors(torch.sigmoid, self.block(means))


@torch.library.custom_op("mmf::swish", mutates_args=())
def _swish(maps: Tensor) -> Tensor:
    """One operation by name, so that `fusing` finds it behind a convolution."""
    return _by_vectors(functional.silu, maps)


@_swish.register_fake
def _(maps: Tensor) -> Tensor:
    return torch.empty_like(maps)


def _by_vectors(function: Callable[[Tensor], Tensor], maps: Clip) -> Clip:
    """A function of single numbers, by the same instructions for all of them.

    On a CPU torch leaves what remains after the last full vectors to scalar code with another
    exponential, so that the last bits would depend on a clip's place in its batch.
    """
    last = maps.dim() == 5 and maps.is_contiguous(memory_format=torch.channels_last_3d)
    laid_out = maps.movedim(1, -1) if last else maps  # in the order in which memory holds it
    flat = laid_out.flatten()
    filled = functional.pad(flat, (0, -len(flat) % VECTORS))
    made = function(filled)[: len(flat)].view(laid_out.shape)
    return made.movedim(-1, 1) if last else made


def _multiple_of_8(width: float) -> int:
    """The nearest one, at least 8, and the one above where that loses more than a tenth."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.ModuleDict(
            {
                "pre_conv": nn.Conv3d(WIDTHS[-1], WIDE, 1, bias=False),
                "pre_norm": nn.BatchNorm3d(WIDE),
                "post_conv": nn.Conv3d(WIDE, EMBEDDING, 1, bias=False),
            }
        )
        self.proj = nn.Linear(EMBEDDING, CLASSES)

    def embed(self, maps: Float[Tensor, "B 432 T h w"]) -> Float[Tensor, "B 2048"]:
        """The last feature map → what the classifier sees."""
        pooled = maps.mean(dim=(2, 3, 4), keepdim=True)
        return functional.relu(self.pool["post_conv"](pooled)).flatten(1)
