"""The weights of a network: random on purpose, or from files that are found and read without risk.

Safetensors, or a `.pth`, `.bin` or `.pyth` of tensors only (`weights_only=True`): no file can run
code. A state dict is loaded strictly, name by name and shape by shape.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
# under which training code keeps the state dict, beside its optimizer and its epoch
_WRAPPERS = ("state_dict", "model_state", "model")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One network, and where its weights may come from."""

    name: str  # as errors call it
    build: Callable[[], nn.Module]
    published: str | None = None  # the location of the published file
    # the file's names → the network's, for files that others wrote under other names
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A network in eval mode with its weights."""

    network: nn.Module
    identity: str  # random:SEED or sha256:…
    path: str | None  # of the file


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


def load(source: Source, weights: str) -> Loaded:
    """The network with `weights`: random:SEED, pretrained, or the location of a file.

    Raises MmfError where the file cannot be had or does not fit.
    """
    if (seed := seed_of(weights)) is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = source.build().eval()
            _keep_in_range(network)
        return Loaded(network=network, identity=f"random:{seed}", path=None)
    found = find(weights, source.published, name=source.name)
    network = source.build().eval()
    tensors = source.rename(read_tensors(found))
    fill(network, tensors, where=f"{str(found.path)!r} for {source.name!r}")
    path = str(found.path.absolute())  # a cache's links say what kind of file it is
    return Loaded(network=network, identity=f"sha256:{found.sha256}", path=path)


def torchvision_source(architecture: str, edition: str) -> Source:
    """A network of torchvision and its published weights of that edition (IMAGENET1K_V1, …)."""
    return Source(
        name=architecture,
        build=lambda: _build(architecture),
        published=torchvision.models.get_model_weights(architecture)[edition].url,
    )


def load_network(architecture: str, weights: str) -> tuple[nn.Module, str, str | None]:
    """The ImageNet network `architecture` of torchvision, its weights' identity and their path."""
    loaded = load(torchvision_source(architecture, "IMAGENET1K_V1"), weights)
    return loaded.network, loaded.identity, loaded.path


def _build(architecture: str) -> nn.Module:
    # its own initial weights take a minute of scipy and are drawn anew in `load`
    quick = {"init_weights": False} if architecture == "inception_v3" else {}
    return torchvision.models.get_model(architecture, weights=None, **quick)


def _keep_in_range(network: nn.Module) -> None:
    # published initial weights lean on the batch norm of training; in eval mode nothing else
    # keeps 30 blocks from growing past float16, or 17 depthwise ones from vanishing in it
    modules = list(network.modules())
    if any(isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d) for module in modules):
        for module in modules:
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)
                with torch.no_grad():
                    module.weight *= 0.85


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
    if isinstance(tensors, Mapping):
        wrapped = [tensors[key] for key in _WRAPPERS if isinstance(tensors.get(key), Mapping)]
        tensors = wrapped[0] if wrapped else tensors
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
