"""VGGish: a VGG on the log-mel spectrogram of 0.96 s, trained on YouTube-8M's sound.

Hershey et al., CNN Architectures for Large-Scale Audio Classification, ICASSP 2017. The (96, 64)
log-mel of `logmel.py` → 128 numbers before any activation, as Google's `vggish_slim.py` defines
them; torchvggish and torchaudio end with a ReLU, which `final_relu=yes` repeats. With `pca=FILE`
the published whitening follows (`vggish_pca_params`), which is what AudioSet and YouTube-8M hold;
stored as uint8 (`dtype=uint8`) those rows are their 8-bit codes.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from mmf import MmfError
from mmf.extract.backbones.checkpoint import Source, load
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.logmel import log_mel
from mmf.extract.backbones.whitening import WhitenedBackbone
from mmf.extract.signals import Signal, Waves

SIZE = 128
URL = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth"
# channels of the convolutions between two poolings
_CONVOLUTIONS = ((64,), (128,), (256, 256), (512, 512))
# Google's TensorFlow checkpoint → torchvggish's file
_TENSORFLOW = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3/conv3_1": "features.6",
    "conv3/conv3_2": "features.8",
    "conv4/conv4_1": "features.11",
    "conv4/conv4_2": "features.13",
    "fc1/fc1_1": "embeddings.0",
    "fc1/fc1_2": "embeddings.2",
    "fc2": "embeddings.4",
}
_TORCHAUDIO = {"features_network.": "features.", "embedding_network.": "embeddings."}


class VggishNetwork(nn.Module):
    """Log-mel (B, 1, 96, 64) → (B, 128), pre-activation; names as in vggish-10086976.pth."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        before = 1
        for widths in _CONVOLUTIONS:
            for width in widths:
                self.features += nn.Sequential(nn.Conv2d(before, width, 3, padding=1), nn.ReLU())
                before = width
            self.features.append(nn.MaxPool2d(2))
        self.embeddings = nn.Sequential(
            nn.Linear(before * 6 * 4, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()
        )
        self.embeddings.append(nn.Linear(4096, SIZE))

    def forward(self, log_mels: Float[Tensor, "B 1 96 64"]) -> Float[Tensor, "B 128"]:
        """Log-mels → embeddings."""
        maps = self.features(log_mels).permute(0, 2, 3, 1)  # TensorFlow flattens channels last
        embedding: Tensor = self.embeddings(maps.flatten(1))
        return embedding


def published_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names of Google's checkpoint or torchaudio's → torchvggish's names."""
    return dict(_renamed(name, tensor) for name, tensor in tensors.items())


def _renamed(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    for prefix, ours in _TORCHAUDIO.items():
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix), tensor
    layer, _, part = name.removeprefix("vggish/").rpartition("/")
    if layer not in _TENSORFLOW:
        return name, tensor
    if part == "weights":  # (h, w, in, out) or (in, out)
        return f"{_TENSORFLOW[layer]}.weight", tensor.permute(
            (3, 2, 0, 1) if tensor.dim() == 4 else (1, 0)
        )
    return f"{_TENSORFLOW[layer]}.bias", tensor


SOURCE = Source(name="vggish", build=VggishNetwork, published=URL, rename=published_names)


class Vggish(WhitenedBackbone):
    """VGGish's embedding of 0.96 s of sound: 128 numbers, as they are or whitened."""

    modality: ClassVar[str] = "audio"
    default_signal: ClassVar[Signal] = Waves()
    options: ClassVar[Mapping[str, str]] = {**WhitenedBackbone.options, "final_relu": "no"}
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    fuses: ClassVar[bool] = True

    @classmethod
    def published(cls, name: str) -> str | None:
        """Google's weights, as torchvggish converted them."""
        return URL

    def __init__(self, setup: Setup):
        if setup.signal.row_shape != self.default_signal.row_shape:
            raise MmfError("vggish hears 0.96 s at a time; leave out window, or say window=0.96.")
        loaded = load(SOURCE, setup.weights)
        super().__init__(setup, loaded, loaded.network, size=SIZE)
        self._final_relu = self.switch("final_relu")

    def prepare(self, payloads: Float32[np.ndarray, "B samples"]) -> Float32[Tensor, "B 1 96 64"]:
        """Waves (B, 15600) → log-mels."""
        return torch.from_numpy(log_mel(payloads)[:, None]).float().to(self.torch_device)

    def finish(self, made: Float[Tensor, "B 128"]) -> Float[Tensor, "B 128"]:
        """The embedding, after the ReLU and the whitening that were asked for."""
        return super().finish(made.relu() if self._final_relu else made)
