"""Which steps a step looks at: block-diagonal, Toeplitz and dilated Toeplitz neighbourhoods.

Sahu and Goyal 2021, arXiv:2110.13992 (GMSA), equation 2. Of steps i and j,

    block-diagonal BD_b     floor(i / b) = floor(j / b)
    Toeplitz TP_w           |i - j| <= w
    dilated TD_w^d          |i - j| <= w  and  d divides i - j

Each is symmetric, and every step is in its own. Whether b is a block's size or the number of
blocks, and w the width to one side or in all, is not said: the first is the default, the other an
option.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmf import MmfError, unknown

MASKS = ("block_diagonal", "toeplitz", "toeplitz_dilated")
_PART = 60  # steps that are looked from at once, or a few more
MEASURES = {"blocks": ("size", "number"), "width": ("side", "total")}


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """A rule that says which of T × T pairs of steps look at each other."""

    mask: Literal["block_diagonal", "toeplitz", "toeplitz_dilated"] = "toeplitz"
    extent: int = 30  # b or w
    blocks: Literal["size", "number"] = "size"  # what b is; a number is of `steps`
    width: Literal["side", "total"] = "side"  # what w is; in all: w // 2 to each side
    dilation: int = 2  # d, of toeplitz_dilated only
    steps: int = 300  # T

    def __post_init__(self) -> None:
        if self.mask not in MASKS:
            raise unknown("mask", self.mask, MASKS)
        for name, known in MEASURES.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        if min(self.extent, self.dilation, self.steps) < 1:
            raise MmfError(
                f"a neighbourhood of extent {self.extent} and dilation {self.dilation} among "
                f"{self.steps} steps: expected at least 1 of each."
            )

    @property
    def block(self) -> int:
        """Steps of a block; 0 where the mask is no block-diagonal one."""
        if self.mask != "block_diagonal":
            return 0
        return self.extent if self.blocks == "size" else -(-self.steps // self.extent)

    @property
    def side(self) -> int:
        """How far a Toeplitz mask reaches to each side."""
        return self.extent if self.width == "side" else self.extent // 2

    @property
    def stride(self) -> int:
        """The distance of two neighbours in a Toeplitz mask."""
        return self.dilation if self.mask == "toeplitz_dilated" else 1

    def pairs(self, steps: int, device: torch.device | None = None) -> Bool[Tensor, "T T"]:
        """[i, j]: step i looks at step j."""
        i = torch.arange(steps, device=device)
        if self.block:
            return i.unsqueeze(1) // self.block == i // self.block
        apart = i.unsqueeze(1) - i
        return (apart.abs() <= self.side) & (apart % self.stride == 0)

    def parts(self, steps: int) -> Iterator[tuple[slice, slice]]:
        """Where few of T × T pairs count: steps, all of them once, and what holds their neighbours.

        Slices of about 60 steps each; of a dilated mask they have its stride.
        """
        if self.block:
            length = self.block * -(-_PART // self.block)
            for start in range(0, steps, length):
                yield slice(start, start + length), slice(start, start + length)
            return
        stride = self.stride
        length, reach = _PART * stride, self.side // stride * stride
        for first in range(min(stride, steps)):
            for start in range(first, steps, length):
                before = max(first, start - reach)
                yield (
                    slice(start, start + length, stride),
                    slice(before, start + length + reach, stride),
                )

    def sizes(self, steps: int) -> Int[Tensor, " T"]:
        """|N_i|: how many steps each looks at, itself among them."""
        i = torch.arange(steps, device="cpu")
        if self.block:
            return (steps - i // self.block * self.block).clamp_max(self.block)
        before, after = i.clamp_max(self.side), i.flip(0).clamp_max(self.side)
        return before // self.stride + after // self.stride + 1
