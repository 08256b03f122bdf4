"""Image networks trained on ImageNet, from torchvision, as embeddings of single frames.

He et al., Deep Residual Learning, CVPR 2016; Sandler et al., MobileNetV2, CVPR 2018. A frame's
short side is resized to 256 (PIL, bilinear with antialias), the centre 224 × 224 is cut, ImageNet's
mean and standard deviation are taken out: torchvision's published evaluation transform. The row is
what the classifier would see, or with `:grid` the last feature map before it is averaged.
"""

from typing import ClassVar

import numpy as np
import torch
import torchvision
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from mmf import MmfError
from mmf.extract.backbones.checkpoint import load_network, torchvision_url
from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.signals import Frames, Signal

SIDE = 224
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
WIDTHS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "mobilenet_v2": 1280}
# rows per forward; on a CPU the activations of 8 fit its caches, more gain nothing
BATCH = {"cpu": 8, "cuda": 64}
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class ImageNetwork:
    """A torchvision network without its classifier: images (B, 3, 224, 224) → feature maps.

    What `Imagenet` and `SpectrogramNetwork` share; it is held by them, not inherited.
    """

    def __init__(self, setup: Setup):
        self.architecture = setup.name.partition(":")[0]
        self.width = WIDTHS[self.architecture]
        self.device = torch.device(setup.device)
        self.batch = setup.batch or BATCH[self.device.type]
        network, self.weights, self.weights_path = load_network(self.architecture, setup.weights)
        self.dtype = _TYPES[setup.precision]
        self.trunk = _without_head(network).to(self.device, self.dtype)
        self.trunk.to(memory_format=torch.channels_last)
        self._mean = torch.tensor(MEAN, device=self.device).view(3, 1, 1)
        self._deviation = torch.tensor(DEVIATION, device=self.device).view(3, 1, 1)

    def maps(self, images: Float32[Tensor, "B 3 h w"]) -> Float32[Tensor, "B D hh ww"]:
        """Images in 0…1, on the device → the last feature map; stride 32."""
        normal = ((images - self._mean) / self._deviation).to(self.dtype)
        try:
            # fp32 means fp32 on a GPU too, and one algorithm for one shape
            with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
                return self.trunk(normal.contiguous(memory_format=torch.channels_last)).float()
        except torch.OutOfMemoryError as error:
            raise MmfError(
                f"a batch of {self.batch} of {self.architecture!r} does not fit into the memory of "
                f"{self.device}. Ask for a smaller one (--batch-size); it is part of the recipe."
            ) from error

    def flops_per_row(self) -> float:
        """Floating point operations of one image, counted by torch on tensors without storage."""
        from torch.utils.flop_counter import FlopCounterMode

        with torch.device("meta"):
            network = torchvision.models.get_model(self.architecture, weights=None).eval()
            image = torch.empty(1, 3, SIDE, SIDE)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            _without_head(network)(image)
        return float(counter.get_total_flops())


def _without_head(network: nn.Module) -> nn.Module:
    """The network up to its last feature map; children stand in the order of the forward."""
    if isinstance(features := getattr(network, "features", None), nn.Module):
        return features
    return nn.Sequential(*[m for n, m in network.named_children() if n not in ("avgpool", "fc")])


def pooled_or_grid(
    maps: Float[Tensor, "B D h w"], variant: str
) -> Float[Tensor, "B D"] | Float[Tensor, "B h w D"]:
    """The mean over h and w, or with variant `grid` the map with its channels last."""
    return maps.permute(0, 2, 3, 1) if variant == "grid" else maps.mean(dim=(2, 3))


def torch_libraries(device: torch.device) -> dict[str, str]:
    """Versions of what computes a network's rows, and the device's name."""
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return {
        "numpy": np.__version__,
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "device": name,
    }


class NetworkBackbone(Backbone):
    """What an ImageNet network gives of images: its pooled embedding, or with `:grid` its map."""

    has_weights: ClassVar[bool] = True
    variants: ClassVar[tuple[str, ...]] = ("grid",)

    @classmethod
    def published(cls, name: str) -> str | None:
        """Torchvision's IMAGENET1K_V1."""
        return torchvision_url(name.partition(":")[0])

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self._network = ImageNetwork(setup)
        self._variant = setup.variant
        self.batch, self.precision = self._network.batch, setup.precision
        self.device = str(self._network.device)
        self.weights, self.weights_path = self._network.weights, self._network.weights_path
        width = self._network.width
        self.row_shape = (7, 7, width) if self._variant == "grid" else (width,)

    def embed(self, images: Float32[Tensor, "B 3 h w"]) -> Float32[np.ndarray, "B ..."]:
        """Images in 0…1 → (B, D), or (B, 7, 7, D) with `:grid`."""
        maps = self._network.maps(images)
        return pooled_or_grid(maps, self._variant).contiguous().cpu().numpy()

    def flops_per_row(self) -> float:
        """Floating point operations of one image; a multiply-add is two."""
        return self._network.flops_per_row()

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the rows."""
        return torch_libraries(self._network.device)


class Imagenet(NetworkBackbone):
    """Embedding of a frame by an ImageNet network: 512, 1280 or 2048 numbers, or a 7 × 7 grid."""

    modality: ClassVar[str] = "rgb"
    default_signal: ClassVar[Signal] = Frames(resize=256, crop=SIDE)

    @torch.inference_mode()
    def rows(self, payloads: UInt8[np.ndarray, "B h w 3"]) -> Float32[np.ndarray, "B ..."]:
        """Frames (B, 224, 224, 3) → (B, D), or (B, 7, 7, D) with `:grid`."""
        images = torch.from_numpy(payloads).to(self._network.device).permute(0, 3, 1, 2)
        return self.embed(images.float() / 255)
