"""Every image network of timm by its name, with its own published preprocessing.

Wightman, PyTorch Image Models, 2019. ``timm:NAME`` or ``timm:NAME.TAG``, as `timm.list_pretrained`
lists them. Size, crop, interpolation, mean and standard deviation are those of the weights' own
configuration; they stand in the recipe, since a later timm may say otherwise. The row is what the
classifier would see, or with ``pool=grid`` the last feature map, (h, w, D).
"""

import difflib
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf import MmfError
from mmf.extract.backbones.checkpoint import Loaded, find, read_tensors, seed_of
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.extra import library
from mmf.extract.backbones.network import NetworkBackbone, Trunk
from mmf.extract.backbones.pixels import normalised, pool_of
from mmf.extract.signals import Frames, Signal


class Timm(NetworkBackbone):
    """Embedding of a frame by any network of timm."""

    modality: ClassVar[str] = "rgb"
    fuses: ClassVar[bool] = True
    default_signal: ClassVar[Signal] = Frames()
    variants: ClassVar[tuple[str, ...]] = ("resnet18", "vit_tiny_patch16_224")
    any_variant: ClassVar[str] = "NAME[.TAG]"
    options: ClassVar[Mapping[str, str]] = {"pool": "own"}

    def __init__(self, setup: Setup):
        published, prepared = _configuration(setup.name), _preparation(setup.name)
        self._pool = pool_of(setup)
        self._scale = prepared["mean"], prepared["std"]
        self._licence = published.license or "not stated"
        loaded = _load(setup, published)
        super().__init__(setup, loaded, Trunk(loaded.network, self._wanted))
        self.details = {"mean": list(self._scale[0]), "deviation": list(self._scale[1])}

    @classmethod
    def published(cls, name: str) -> str | None:
        """The place that the weights' own configuration names."""
        there = _configuration(name)
        if there.hf_hub_id:
            return f"hf://{there.hf_hub_id}/{there.hf_hub_filename or 'model.safetensors'}@main"
        return there.url or None

    @classmethod
    def signal_for(cls, name: str, options: Mapping[str, str]) -> Signal:
        """Frames as timm's own evaluation transform for these weights prepares them."""
        made = _preparation(name)
        side, squash = made["input_size"][-1], made["crop_mode"] == "squash"
        if made["input_size"] != (3, side, side) or made["crop_mode"] == "border":
            raise MmfError(
                f"backbone {name!r} takes {made['input_size']} in crop mode {made['crop_mode']!r}: "
                "expected a square picture of three channels, cropped or squashed."
            )
        return Frames(
            resize=math.floor(side / made["crop_pct"]),
            crop=side,
            interpolation=made["interpolation"],
            squash=squash,
        )

    def prepare(self, payloads: UInt8[np.ndarray, "B h w 3"]) -> Float32[Tensor, "B 3 h w"]:
        """Frames (B, h, w, 3) → normalised images."""
        return normalised(self.on_device(payloads), *self._scale)

    def _wanted(self, network: Any, pixels: Tensor) -> Tensor:
        if self._pool == "own":
            return network.forward_head(network.forward_features(pixels), pre_logits=True)
        if not hasattr(network, "forward_intermediates"):
            raise MmfError(f"backbone {self.name!r} gives no map; leave pool=grid out.")
        (last,) = network.forward_intermediates(
            pixels, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return last.permute(0, 2, 3, 1)

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the rows, and the licence of the published weights."""
        version = library("timm").__version__
        return {**super().libraries(), "timm": version, "licence": self._licence}


def _configuration(name: str) -> Any:
    """What timm knows of the weights of a network; MmfError where there is no such network."""
    timm = library("timm")
    model = name.partition(":")[2]
    try:
        found = timm.get_pretrained_cfg(model) if timm.is_model(model.partition(".")[0]) else None
    except RuntimeError:  # there is no such tag
        found = None
    if found is None and "." not in model and timm.is_model(model):
        found = timm.models.PretrainedCfg(architecture=model)  # without published weights
    if found is None:
        known = timm.list_models() + timm.list_pretrained()
        near = difflib.get_close_matches(model, known, n=3)
        hint = f" Did you mean {' or '.join(f'timm:{one}' for one in near)}?" if near else ""
        raise MmfError(
            f"timm {timm.__version__} has no model {model!r}.{hint} Expected timm:NAME[.TAG]; "
            "timm.list_pretrained() lists them."
        )
    return found


def _preparation(name: str) -> dict[str, Any]:
    published = _configuration(name)
    return library("timm.data").resolve_data_config({}, pretrained_cfg=published.to_dict())


def _load(setup: Setup, published: Any) -> Loaded:
    """The network, classifier included."""
    create = library("timm").create_model
    name = setup.variant
    if (seed := seed_of(setup.weights)) is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = create(name, num_classes=published.num_classes)
        return Loaded(network=network, identity=f"random:{seed}", path=None)
    found = find(setup.weights, Timm.published(setup.name), name=setup.name)
    given = {"state_dict": read_tensors(found)}
    try:
        # timm itself knows the names of its older checkpoints; it loads strictly
        network = create(
            name,
            pretrained=True,
            num_classes=published.num_classes,
            pretrained_cfg_overlay=given,
        )
    except (RuntimeError, KeyError) as error:
        raise MmfError(
            f"the weights in {str(found.path)!r} do not fit {setup.name!r}: "
            f"{' '.join(str(error).split())[:300]}. Expected the whole network of timm."
        ) from error
    path = str(found.path.absolute())
    return Loaded(network=network, identity=f"sha256:{found.sha256}", path=path)
