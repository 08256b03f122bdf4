"""The weights of a torchvision network: random, from a local file, or torchvision's published ones.

A file holds the whole network, classifier included, and is loaded strictly. Safetensors or a
`.pth` of tensors only (`weights_only=True`): no file can run code.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmf import MmfError
from mmf.store.weights import Weights, WeightsMissing, find_weights

_BROKEN = (SafetensorError, UnpicklingError, EOFError, KeyError, RuntimeError, ValueError)


def load_network(architecture: str, weights: str) -> tuple[nn.Module, str, str | None]:
    """The network `architecture` in eval mode, its weights' identity and their path.

    `weights`: `random:SEED`, `pretrained` (torchvision's IMAGENET1K_V1, from the torch hub's cache
    or downloaded into it) or the path of a file. The identity is `random:SEED` or `sha256:…`.
    Raises MmfError where the file cannot be had or does not fit.
    """
    kind, _, seed = weights.partition(":")
    if kind == "random":
        if not seed.isdecimal():
            raise MmfError(f"weights {weights!r}: expected random:SEED, a whole number ≥ 0.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            network = _build(architecture)
            _rescale_depthwise(network)
        return network, f"random:{int(seed)}", None
    network = _build(architecture)
    file = _published(architecture) if weights == "pretrained" else _local(architecture, weights)
    _fill(network, _read(file.path), where=f"{str(file.path)!r} for {architecture!r}")
    return network, f"sha256:{file.sha256}", str(file.path.resolve())


def _build(architecture: str) -> nn.Module:
    return torchvision.models.get_model(architecture, weights=None).eval()


def _rescale_depthwise(network: nn.Module) -> None:
    # torchvision's initial depthwise weights are too small without training-time batch norm: all
    # rows of a random MobileNetV2 would be 0 in float16
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            nn.init.kaiming_normal_(module.weight, mode="fan_in")


def _local(architecture: str, location: str) -> Weights:
    return find_weights(location, name=architecture)


def _published(architecture: str) -> Weights:
    url = torchvision.models.get_model_weights(architecture)["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        digest = path.stem.rpartition("-")[2]  # torchvision writes it into the file's name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsMissing(
                f"the pretrained weights of {architecture!r} cannot be had: {path.name!r} is not "
                f"in {str(path.parent)!r} and {url} gave: {error}. Name a local file "
                f"(--weights MODALITY=PATH), or ask for random ones on purpose "
                f"(--weights MODALITY=random:0)."
            ) from error
    return find_weights(path, name=architecture)


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


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
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
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise MmfError(
            f"the weights in {where} do not fit: {'; '.join(faults[:3])}{more}. Expected the whole "
            "network of torchvision, classifier included."
        )
    cast = {name: t.to(wanted[name].dtype) for name, t in tensors.items()}
    network.load_state_dict({**wanted, **cast}, strict=True)
