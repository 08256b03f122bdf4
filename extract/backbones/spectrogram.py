"""An image network on the log-mel spectrogram, as embedding of a second of sound.

Hershey et al., CNN Architectures for Large-Scale Audio Classification, ICASSP 2017, and after it
the fusion models that put an ImageNet ResNet-34 on the spectrogram image. The (96, 64) log-mel of
`logmel.py` becomes an image, frequency upwards and time to the right: silence, ln 0.01, is 0 and a
band magnitude of 10 is 1; resized bilinearly to 224 × 224, repeated to three channels, normalised
as ImageNet is. The row is the mean of the last feature map, or with `:grid` that map: (frequency,
time, channels) = (7, 7, 512).
"""

import math
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn import functional

from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.backbones.imagenet import SIDE, ImageNetwork, pooled_or_grid, torch_libraries
from mmf.extract.backbones.logmel import LOG_OFFSET, log_mel
from mmf.extract.signals import Signal, Waves

_SILENCE = math.log(LOG_OFFSET)
_LOUD = math.log(10.0)


class SpectrogramNetwork(Backbone):
    """Embedding of a log-mel spectrogram by an ImageNet network: 512 numbers, or a 7 × 7 grid."""

    modality: ClassVar[str] = "audio"
    default_signal: ClassVar[Signal] = Waves()
    has_weights: ClassVar[bool] = True
    variants: ClassVar[tuple[str, ...]] = ("grid",)

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self._network = ImageNetwork(setup)
        self._variant = setup.variant
        self.batch, self.precision = self._network.batch, setup.precision
        self.device = str(self._network.device)
        self.weights, self.weights_path = self._network.weights, self._network.weights_path
        width = self._network.width
        self.row_shape = (7, 7, width) if self._variant == "grid" else (width,)

    @torch.inference_mode()
    def rows(self, payloads: Float32[np.ndarray, "B samples"]) -> Float32[np.ndarray, "B ..."]:
        """Waves (B, samples) → (B, D), or (B, 7, 7, D) with `:grid`."""
        scaled = (log_mel(payloads) - _SILENCE) / (_LOUD - _SILENCE)  # (B, time, bands)
        upwards = np.ascontiguousarray(scaled.transpose(0, 2, 1)[:, ::-1], dtype=np.float32)
        image = torch.from_numpy(upwards).to(self._network.device)[:, None]
        image = functional.interpolate(image, (SIDE, SIDE), mode="bilinear", align_corners=False)
        maps = self._network.maps(image.expand(-1, 3, -1, -1))
        return pooled_or_grid(maps, self._variant).contiguous().cpu().numpy()

    def flops_per_row(self) -> float:
        """Floating point operations of one image; a multiply-add is two."""
        return self._network.flops_per_row()

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the rows."""
        return torch_libraries(self._network.device)
