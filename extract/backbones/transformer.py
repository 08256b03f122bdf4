"""Networks of the library transformers: as published, from a folder of anyone's, or random.

A folder, or a repository `hf://ORG/NAME@REVISION`, brings its config.json; a bare file of tensors
must fit the network as published. No code of a repository is ever run: only classes that
transformers itself has are built.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmf import MmfError
from mmf.extract.backbones.checkpoint import Loaded, find, read_tensors, seed_of, unfit
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.extra import library
from mmf.extract.backbones.network import NetworkBackbone, Trunk
from mmf.extract.signals import Signal

LARGE: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A network as it was published: its class in transformers, its sizes, its weights."""

    model: str
    repository: str  # on the Hugging Face hub
    licence: str
    revision: str = "main"
    config: Mapping[str, Any] = field(default_factory=dict)  # where it differs from the class's
    build: Mapping[str, Any] = field(default_factory=dict)  # further arguments of the class

    @property
    def location(self) -> str:
        """Where the published weights are."""
        return f"hf://{self.repository}@{self.revision}"


@dataclass(frozen=True, kw_only=True)
class Known:
    """A published network and the signal that it takes."""

    network: Published
    signal: Signal


def load_transformer(published: Published, weights: str, *, name: str) -> Loaded:
    """The network with `weights`, in fp32 on the CPU; it has its `config`.

    Raises MmfError where they cannot be had or a tensor of the network is missing among them;
    what the files hold beside it (other heads, a text tower) is left out.
    """
    model = getattr(library("transformers"), published.model)
    if (seed := seed_of(weights)) is not None:
        config = random_config(model, published)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = model(config, **published.build)
        return Loaded(network=network.eval(), identity=f"random:{seed}", path=None)
    found = find(weights, published.location, name=name)
    config = model.config_class(**published.config)
    if found.config:
        config = read_config(model.config_class, found.path)
    where = f"{str(found.path)!r} for {name!r}"
    network = _filled(model, config, read_tensors(found), published.build, where)
    path = str(found.path.absolute())
    return Loaded(network=network, identity=f"sha256:{found.sha256}", path=path)


class TransformerBackbone(NetworkBackbone):
    """What the backbones that transformers has share; each names the networks it knows."""

    # Known by variant; the first stands for the bare name; a class that takes any has none
    known: ClassVar[Mapping[str, Any]]

    def __init_subclass__(cls) -> None:
        cls.variants = tuple(getattr(cls, "known", ()))

    def __init__(self, setup: Setup):
        self.known_as = self.entry(setup.name)
        loaded = self.load(setup)
        self.config: Any = getattr(loaded.network, "config", None)
        super().__init__(setup, loaded, Trunk(loaded.network, self.wanted))

    def load(self, setup: Setup) -> Loaded:
        """The network and its weights."""
        return load_transformer(self.known_as.network, setup.weights, name=setup.name)

    @abstractmethod
    def wanted(self, network: Any, given: Tensor) -> Tensor:
        """What of the network's output makes the rows."""

    @classmethod
    def entry(cls, name: str) -> Any:
        """The published network that the name means."""
        cls.check_variant(name)
        return cls.known[name.partition(":")[2] or next(iter(cls.known))]

    @classmethod
    def published(cls, name: str) -> str | None:
        """Its repository on the hub."""
        return cls.entry(name).network.location

    @classmethod
    def signal_for(cls, name: str, options: Mapping[str, str]) -> Signal:
        """The signal as the network's own processor prepares it."""
        return cls.entry(name).signal

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the rows, and the licence of the published weights."""
        version = library("transformers").__version__
        licence = self.entry(self.name).network.licence
        return {**super().libraries(), "transformers": version, "licence": licence}


def random_config(model: Any, published: Published) -> Any:
    """The configuration of a network without weights; tests put smaller ones here."""
    return model.config_class(**published.config)


def read_config(config_class: Any, folder: Path, **more: Any) -> Any:
    """The configuration in the config.json of a folder; MmfError where it is not of that class."""
    try:
        return config_class.from_pretrained(str(folder), local_files_only=True, **more)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MmfError(
            f"the config.json in {str(folder)!r} is not that of a network that is known here: "
            f"{said} Expected one of transformers itself; code of others is never run."
        ) from error


def _filled(
    model: Any,
    config: Any,
    tensors: Mapping[str, Tensor],
    build: Mapping[str, Any],
    where: str,
) -> nn.Module:
    # transformers knows the names that its older checkpoints use
    network, report = model.from_pretrained(
        None,
        config=config,
        state_dict=dict(tensors),
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
        **build,
    )
    faults = [f"{name} is missing" for name in sorted(report["missing_keys"])]
    faults += [
        f"{name} has shape {tuple(have)}, expected {tuple(want)}"
        for name, have, want in sorted(report["mismatched_keys"])
    ]
    if faults:
        raise unfit(where, faults)
    return network.eval()
