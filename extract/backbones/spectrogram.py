"""An image network on the log-mel spectrogram, as embedding of a second of sound.

Hershey et al., CNN Architectures for Large-Scale Audio Classification, ICASSP 2017, and after it
the fusion models that put an ImageNet network on the spectrogram image. The (96, 64) log-mel of
`logmel.py` becomes an image, frequency upwards and time to the right: silence, ln 0.01, is 0 and a
band magnitude of 10 is 1; resized bilinearly to 224 × 224, repeated to three channels, normalised
as ImageNet is. The row is the mean of the last feature map, or with `:grid` that map: (frequency,
time, channels) = (7, 7, 512) for ResNet-34.
"""

import math
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from mmf.extract.backbones.imagenet import SIDE, ImageNetwork
from mmf.extract.backbones.logmel import LOG_OFFSET, log_mel
from mmf.extract.backbones.pixels import standardised
from mmf.extract.signals import Signal, Waves

_SILENCE = math.log(LOG_OFFSET)
_LOUD = math.log(10.0)


class SpectrogramNetwork(ImageNetwork):
    """Embedding of a log-mel spectrogram by an ImageNet network, pooled or as a 7 × 7 grid."""

    modality: ClassVar[str] = "audio"
    default_signal: ClassVar[Signal] = Waves()

    def prepare(self, payloads: Float32[np.ndarray, "B samples"]) -> Float32[Tensor, "B 3 h w"]:
        """Waves (B, samples) → normalised images."""
        scaled = (log_mel(payloads) - _SILENCE) / (_LOUD - _SILENCE)  # (B, time, bands)
        upwards = np.ascontiguousarray(scaled.transpose(0, 2, 1)[:, ::-1], dtype=np.float32)
        image = torch.from_numpy(upwards).to(self.torch_device)[:, None]
        image = functional.interpolate(image, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return standardised(image.expand(-1, 3, -1, -1), *self.scale)
