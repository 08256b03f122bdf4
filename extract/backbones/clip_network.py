"""What networks of clips share: frames in, normalised and channels first; maps out, pooled."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor

from mmf.extract.backbones.network import NetworkBackbone
from mmf.extract.backbones.pixels import Scale, normalised


class ClipNetwork(NetworkBackbone):
    """A trunk from clips (B, 3, T, h, w) to a map (B, D, t, h, w), or to rows (B, D) by itself.

    A row is the mean of the map, or with `:grid` its mean over time: (h, w, D).
    """

    modality: ClassVar[str] = "clip"
    # one clip fills a core; on a GPU 16 of them are 256 frames
    batches: ClassVar[Mapping[str, int]] = {"cpu": 1, "cuda": 16}
    fuses: ClassVar[bool] = True
    scale: Scale

    def prepare(self, payloads: UInt8[np.ndarray, "B T h w 3"]) -> Float32[Tensor, "B 3 T h w"]:
        """Clips (B, T, h, w, 3) → normalised, on the device."""
        clips = normalised(self.on_device(payloads), *self.scale)
        return clips.transpose(1, 2).contiguous()

    def finish(self, made: Float[Tensor, "B D ..."]) -> Shaped[Tensor, "B ..."]:
        """The mean of the map, or with `:grid` its mean over time with channels last."""
        if made.dim() == 2:
            return made
        if self.name.endswith(":grid"):
            return made.mean(dim=2).permute(0, 2, 3, 1)
        return made.mean(dim=(2, 3, 4))
