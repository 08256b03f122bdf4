"""The frames of YouTube-8M: Inception of 2015-12-05, read at pool_3, whitened with its matrices.

Abu-El-Haija et al., YouTube-8M: A Large-Scale Video Classification Benchmark, 2016. The frame
nearest each second is resized to 299 × 299 as TensorFlow 1 does it (bilinear between the four
nearest pixels, no antialias, the aspect not kept), here rounded to whole levels; (x - 128) / 128;
2048 numbers after the last ReLU and average. With `pca=FOLDER` (mean.npy, eigenvals.npy,
eigenvecs.npy of yt8m_pca.tgz) 1024 whitened numbers; stored as uint8 they are the data set's codes.
"""

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf.extract.backbones.checkpoint import Source, load
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.inception_2015_network import EMBEDDING, Inception2015
from mmf.extract.backbones.whitening import WhitenedBackbone
from mmf.extract.signals import Frames, Signal

SIDE = 299
URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth"
)
SOURCE = Source(name="inception_2015", build=Inception2015, published=URL)


class InceptionOf2015(WhitenedBackbone):
    """YouTube-8M's embedding of a frame: 2048 numbers, or 1024 whitened ones."""

    modality: ClassVar[str] = "rgb"
    default_signal: ClassVar[Signal] = Frames(
        resize=SIDE, crop=SIDE, squash=True, interpolation="bilinear_tf1"
    )
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    fuses: ClassVar[bool] = True

    @classmethod
    def published(cls, name: str) -> str | None:
        """Google's weights, as pytorch-fid converted them."""
        return URL

    def __init__(self, setup: Setup):
        loaded = load(SOURCE, setup.weights)
        super().__init__(setup, loaded, loaded.network, size=EMBEDDING)

    def prepare(self, payloads: UInt8[np.ndarray, "B h w 3"]) -> Float32[Tensor, "B 3 h w"]:
        """Frames (B, 299, 299, 3) → images in -1…1."""
        images = self.on_device(payloads).permute(0, 3, 1, 2)
        return (images.float() - 128) / 128
