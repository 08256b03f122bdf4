"""Video transformers over clips, from transformers.

VideoMAE: Tong et al., NeurIPS 2022, fine-tuned on Kinetics-400: 16 frames, every 4th; the row is
the mean of its tokens, normalised, as its classifier sees it. TimeSformer: Bertasius et al., Is
Space-Time Attention All You Need for Video Understanding?, ICML 2021: 8 frames, every 32nd; the row
is the class token. V-JEPA 2: Assran et al., 2025: 16 frames, every 4th, as it is probed on
Kinetics; the row is the mean of its tokens. With ``pool=grid`` VideoMAE and V-JEPA 2 give their
tokens, (t, h, w, D), one for two frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from mmf.extract.backbones.checkpoint import Loaded
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.pixels import IMAGENET, SLOWFAST, Scale, normalised, pool_of
from mmf.extract.backbones.transformer import LARGE, Known, Published, TransformerBackbone
from mmf.extract.signals import Clips, Signal


@dataclass(frozen=True, kw_only=True)
class Video(Known):
    """A published video network and how its frames are prepared."""

    scale: Scale = IMAGENET


class VideoTransformer(TransformerBackbone):
    """What the video networks of transformers share."""

    modality: ClassVar[str] = "clip"
    default_signal: ClassVar[Signal] = Clips()
    batches: ClassVar[Mapping[str, int]] = {"cpu": 1, "cuda": 8}

    def __init__(self, setup: Setup):
        self._pool = pool_of(setup)
        super().__init__(setup)
        frames, height = setup.signal.row_shape[:2]
        side = height // self.config.patch_size
        self._patches = (frames // 2, side, side)

    def load(self, setup: Setup) -> Loaded:
        """The network without its classifier."""
        loaded = super().load(setup)
        if isinstance(getattr(loaded.network, "classifier", None), nn.Module):
            loaded.network.classifier = nn.Identity()
        return loaded

    def prepare(self, payloads: UInt8[np.ndarray, "B T h w 3"]) -> Float32[Tensor, "B T 3 h w"]:
        """Clips (B, T, h, w, 3) → normalised frames."""
        return normalised(self.on_device(payloads), *self.known_as.scale)

    def wanted(self, network: Any, given: Tensor) -> Tensor:
        """What the classifier sees."""
        return network(pixel_values=given).logits


def _kinetics(model: str, repository: str, licence: str, **config: Any) -> Published:
    return Published(
        model=model,
        repository=repository,
        licence=licence,
        config={"num_labels": 400, **config},
    )


class VideoMae(VideoTransformer):
    """VideoMAE, fine-tuned on Kinetics-400: 768 numbers, large 1024."""

    options: ClassVar[Mapping[str, str]] = {"pool": "own"}
    known: ClassVar[Mapping[str, Video]] = {
        size: Video(
            network=_kinetics(
                "VideoMAEForVideoClassification",
                f"MCG-NJU/videomae-{size}-finetuned-kinetics",
                "cc-by-nc-4.0",
                **config,
            ),
            signal=Clips(fps=0.5, frames=16, stride=4, resize=224, crop=224),
        )
        for size, config in {"base": {}, "large": LARGE}.items()
    }

    def wanted(self, network: Any, given: Tensor) -> Tensor:
        """What the classifier sees, or the tokens."""
        if self._pool == "own":
            return super().wanted(network, given)
        return network.videomae(pixel_values=given).last_hidden_state.unflatten(1, self._patches)


class TimeSformer(VideoTransformer):
    """TimeSformer with divided space-time attention, fine-tuned on Kinetics-400: 768 numbers."""

    known: ClassVar[Mapping[str, Video]] = {
        "base": Video(
            network=_kinetics(
                "TimesformerForVideoClassification",
                "facebook/timesformer-base-finetuned-k400",
                "cc-by-nc-4.0",
            ),
            signal=Clips(fps=0.1, frames=8, stride=32, resize=224, crop=224),
            scale=SLOWFAST,
        )
    }


_VJEPA2: dict[str, dict[str, Any]] = {
    "large": {},
    "huge": {"hidden_size": 1280, "num_hidden_layers": 32},
    "giant": {
        "hidden_size": 1408,
        "num_attention_heads": 22,
        "num_hidden_layers": 40,
        "mlp_ratio": 48 / 11,
    },
}


class VJepa2(VideoTransformer):
    """V-JEPA 2's encoder: 1024 numbers (large), 1280 (huge) or 1408 (giant)."""

    options: ClassVar[Mapping[str, str]] = {"pool": "own"}
    known: ClassVar[Mapping[str, Video]] = {
        size: Video(
            network=Published(
                model="VJEPA2Model",
                repository=f"facebook/vjepa2-vit{size[0]}-fpc64-256",
                licence="mit",
                config=config,
            ),
            signal=Clips(fps=0.5, frames=16, stride=4, resize=292, crop=256),
        )
        for size, config in _VJEPA2.items()
    }

    def wanted(self, network: Any, given: Tensor) -> Tensor:
        """The mean of the tokens, or the tokens."""
        tokens = network.encoder(pixel_values_videos=given).last_hidden_state
        return tokens.mean(dim=1) if self._pool == "own" else tokens.unflatten(1, self._patches)
