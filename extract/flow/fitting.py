"""Frames at a size that a flow network takes, and its flow back at the frames' own.

The two published tools of GMFlow differ, and so do their flows: `pad` repeats the edges evenly on
all sides (haofeixu/gmflow, and RAFT's); `resize` stretches to the next multiple and turns upright
frames on their side, as the networks were trained on wide ones (autonomousvision/unimatch).
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How frames of `height` × `width` become multiples of `multiple`, `least` or more."""

    height: int
    width: int
    multiple: int
    least: int = 1
    how: str = "pad"

    @property
    def _turned(self) -> bool:
        return self.how == "resize" and self.height > self.width

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that the network sees."""
        h, w = (self.width, self.height) if self._turned else (self.height, self.width)
        return self._reached(h), self._reached(w)

    def _reached(self, length: int) -> int:
        return -(-max(length, self.least) // self.multiple) * self.multiple

    def frames(self, frames: Float[Tensor, "F 3 h w"]) -> Float[Tensor, "F 3 hh ww"]:
        """Frames as the network sees them."""
        if self._turned:
            frames = frames.transpose(-2, -1)
        if tuple(frames.shape[-2:]) == self.size:
            return frames.contiguous()
        if self.how == "pad":
            return functional.pad(frames, self._margins, mode="replicate")
        return functional.interpolate(frames, self.size, mode="bilinear", align_corners=True)

    def flow(self, flow: Float[Tensor, "B 2 hh ww"]) -> Float[Tensor, "B 2 h w"]:
        """The network's flow at the frames' size, in their pixels."""
        tall, wide = self.size
        if self.how == "pad":
            left, _, top, _ = self._margins
            return flow[..., top : top + self.height, left : left + self.width]
        h, w = (self.width, self.height) if self._turned else (self.height, self.width)
        if (h, w) != (tall, wide):
            flow = functional.interpolate(flow, (h, w), mode="bilinear", align_corners=True)
            flow = flow * flow.new_tensor([w / wide, h / tall]).view(2, 1, 1)
        # unimatch leaves x and y exchanged after turning back; here x is right and y down always
        return flow.transpose(-2, -1).flip(1) if self._turned else flow

    @property
    def _margins(self) -> tuple[int, int, int, int]:
        """Left, right, top, bottom."""
        tall, wide = self.size[0] - self.height, self.size[1] - self.width
        return wide // 2, wide - wide // 2, tall // 2, tall - tall // 2


def exact_convolutions() -> AbstractContextManager[None]:
    """Within it float32 convolutions are float32 on a GPU too, one algorithm for one shape."""
    return torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False)
