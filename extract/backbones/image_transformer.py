"""Vision transformers trained on images with text, or on images alone, from transformers.

CLIP: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
2021; the row is the image's embedding in the space that it shares with text. SigLIP 2: Tschannen et
al., 2025; the row is what its attention head pools. DINOv2: Oquab et al., TMLR 2024, and DINOv3:
Siméoni et al., 2025; the row is the class token. With ``pool=grid`` the row is the map of patch
tokens instead, (h, w, D). Each frame is resized, cropped and normalised as its checkpoint's own
processor does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.pixels import HALF, IMAGENET, Scale, normalised, pool_of
from mmf.extract.backbones.transformer import LARGE, Known, Published, TransformerBackbone
from mmf.extract.signals import Frames, Signal

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True, kw_only=True)
class Image(Known):
    """A published image network and how its frames are prepared."""

    scale: Scale = IMAGENET
    pooled: str = "pooler_output"  # the output that is the image's embedding


def _clip(name: str, side: int = 224, **config: Any) -> Image:
    return Image(
        network=Published(
            model="CLIPVisionModelWithProjection",
            repository=f"openai/clip-vit-{name}",
            licence="mit",
            config={"image_size": side, **config},
        ),
        signal=Frames(resize=side, crop=side, interpolation="bicubic"),
        scale=CLIP,
        pooled="image_embeds",
    )


def _siglip2(name: str, side: int, **config: Any) -> Image:
    return Image(
        network=Published(
            model="SiglipVisionModel",  # what its checkpoints of a fixed size are
            repository=f"google/siglip2-{name}-{side}",
            licence="apache-2.0",
            config={"image_size": side, **config},
        ),
        signal=Frames(resize=side, crop=side, squash=True),
        scale=HALF,
    )


def _dinov2(size: str, **config: Any) -> Image:
    return Image(
        network=Published(
            model="Dinov2Model",
            repository=f"facebook/dinov2-{size}",
            licence="apache-2.0",
            config={"image_size": 518, **config},
        ),
        signal=Frames(resize=256, crop=224, interpolation="bicubic"),
    )


def _dinov3(name: str, **config: Any) -> Image:
    return Image(
        network=Published(
            model="DINOv3ViTModel",
            repository=f"facebook/dinov3-{name}-pretrain-lvd1689m",
            licence="dinov3",
            config={"num_register_tokens": 4, **config},
        ),
        signal=Frames(resize=224, crop=224, squash=True),
    )


class ImageTransformer(TransformerBackbone):
    """What the image networks of transformers share."""

    modality: ClassVar[str] = "rgb"
    default_signal: ClassVar[Signal] = Frames()
    options: ClassVar[Mapping[str, str]] = {"pool": "own"}

    def __init__(self, setup: Setup):
        self._pool = pool_of(setup)
        super().__init__(setup)
        side = setup.signal.row_shape[0] // self.config.patch_size
        self._patches = (side, side)

    def prepare(self, payloads: UInt8[np.ndarray, "B h w 3"]) -> Float32[Tensor, "B 3 h w"]:
        """Frames (B, h, w, 3) → normalised images."""
        return normalised(self.on_device(payloads), *self.known_as.scale)

    def wanted(self, network: Any, given: Tensor) -> Tensor:
        """The embedding, or the map of patch tokens."""
        output = network(pixel_values=given)
        if self._pool == "own":
            return output[self.known_as.pooled]
        count = self._patches[0] * self._patches[1]  # class and register tokens stand before
        return output.last_hidden_state[:, -count:].unflatten(1, self._patches)


class Clip(ImageTransformer):
    """CLIP's image tower: 512 numbers (large: 768) in the space that it shares with text."""

    known: ClassVar[Mapping[str, Image]] = {
        "base32": _clip("base-patch32", patch_size=32),
        "base16": _clip("base-patch16", patch_size=16),
        "large14": _clip("large-patch14", patch_size=14, projection_dim=768, **LARGE),
        "large14-336": _clip("large-patch14-336", 336, patch_size=14, projection_dim=768, **LARGE),
    }


class Siglip2(ImageTransformer):
    """SigLIP 2's image tower: 768 numbers, large 1024, so400m 1152."""

    known: ClassVar[Mapping[str, Image]] = {
        "base16": _siglip2("base-patch16", 224),
        "base16-512": _siglip2("base-patch16", 512),
        "large16": _siglip2("large-patch16", 256, **LARGE),
        "so400m14": _siglip2(
            "so400m-patch14",
            384,
            patch_size=14,
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=27,
            num_attention_heads=16,
        ),
    }


_HEADS = {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16}


class Dinov2(ImageTransformer):
    """DINOv2's class token: 384 (small), 768 (base), 1024 (large) or 1536 (giant) numbers."""

    known: ClassVar[Mapping[str, Image]] = {
        "small": _dinov2("small", hidden_size=384, num_attention_heads=6),
        "base": _dinov2("base"),
        "large": _dinov2("large", **_HEADS),
        "giant": _dinov2(
            "giant",
            hidden_size=1536,
            num_hidden_layers=40,
            num_attention_heads=24,
            use_swiglu_ffn=True,
        ),
    }


class Dinov3(ImageTransformer):
    """DINOv3's class token: 384 (small), 768 (base) or 1024 (large) numbers."""

    known: ClassVar[Mapping[str, Image]] = {
        "small": _dinov3("vits16"),
        "base": _dinov3("vitb16", hidden_size=768, intermediate_size=3072, num_attention_heads=12),
        "large": _dinov3("vitl16", **LARGE),
    }
