"""The weights of a network: random on purpose, or from files that are found and read without risk.

Safetensors, or a `.pth`, `.bin` or `.pyth` of tensors only (`weights_only=True`): no file can run
code. A state dict is loaded strictly, name by name and shape by shape.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmf import MmfError
from mmf.store.weights import Weights, find_weights, none_published

_BROKEN = (SafetensorError, UnpicklingError, EOFError, KeyError, RuntimeError, ValueError)


def seed_of(weights: str) -> int | None:
    """The seed of `random:SEED`; None for weights that are looked for."""
    kind, _, seed = weights.partition(":")
    if kind != "random":
        return None
    if not seed.isdecimal():
        raise MmfError(f"weights {weights!r}: expected random:SEED, a whole number ≥ 0.")
    return int(seed)


def find(weights: str, published: str | None, *, name: str) -> Weights:
    """The files that `weights` (pretrained | a location) means for the backbone `name`.

    `published` is the location of the network's published weights, which `pretrained` stands for.
    """
    location = published if weights == "pretrained" else weights
    if location is None:
        raise none_published(name)
    return find_weights(location, name=name)


def load_network(architecture: str, weights: str) -> tuple[nn.Module, str, str | None]:
    """The torchvision network `architecture` in eval mode, its weights' identity and their path.

    `weights`: `random:SEED`, `pretrained` (torchvision's IMAGENET1K_V1, from the torch hub's cache)
    or the location of a file. The identity is `random:SEED` or `sha256:…`. Raises MmfError where
    the file cannot be had or does not fit.
    """
    if (seed := seed_of(weights)) is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _build(architecture)
            _rescale_depthwise(network)
        return network, f"random:{seed}", None
    network = _build(architecture)
    found = find(weights, torchvision_url(architecture), name=architecture)
    fill(network, read_tensors(found), where=f"{str(found.path)!r} for {architecture!r}")
    return network, f"sha256:{found.sha256}", str(found.path.resolve())


def torchvision_url(architecture: str) -> str:
    """Where torchvision publishes the weights IMAGENET1K_V1 of an architecture."""
    return torchvision.models.get_model_weights(architecture)["IMAGENET1K_V1"].url


def _build(architecture: str) -> nn.Module:
    return torchvision.models.get_model(architecture, weights=None).eval()


def _rescale_depthwise(network: nn.Module) -> None:
    # torchvision's initial depthwise weights are too small without training-time batch norm: all
    # rows of a random MobileNetV2 would be 0 in float16
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            nn.init.kaiming_normal_(module.weight, mode="fan_in")


def read_tensors(weights: Weights) -> dict[str, Tensor]:
    """The state dict of all the files, on the CPU."""
    tensors: dict[str, Tensor] = {}
    for file in weights.files:
        tensors.update(_read(file))
    return tensors


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        raise MmfError(
            f"{str(path)!r} cannot be read as weights ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). Expected .safetensors, or .pth with tensors only."
        ) from error
    if isinstance(tensors, Mapping) and set(tensors) == {"state_dict"}:
        tensors = tensors["state_dict"]
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise MmfError(f"{str(path)!r} holds no state dict: expected names with their tensors.")
    return tensors


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load the whole of a state dict, strictly; MmfError names the first tensors that misfit."""
    wanted = network.state_dict()
    # counters of training steps; published files from before 2018 lack them
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    faults = [f"{name} is missing" for name in wanted if name not in {*tensors, *optional}]
    faults += [f"{name} is not in the network" for name in tensors if name not in wanted]
    faults += [
        f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if faults:
        raise unfit(where, faults)
    cast = {name: t.to(wanted[name].dtype) for name, t in tensors.items()}
    network.load_state_dict({**wanted, **cast}, strict=True)


def unfit(where: str, faults: list[str]) -> MmfError:
    """The error for weights that are not those of the network."""
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    return MmfError(
        f"the weights in {where} do not fit: {'; '.join(faults[:3])}{more}. Expected the whole "
        "network as it was published, classifier included."
    )
