"""What there is to choose from: every backbone and every optical flow, as its class says of itself.

Asking imports them all, torch among them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmf import MmfError
from mmf.extract.backbones import BACKBONES, backbone_class
from mmf.extract.backbones.own import offered
from mmf.extract.flow import FLOWS


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One name of a table."""

    name: str
    variants: tuple[str, ...] = ()  # NAME:VARIANT; of a name that takes any, how one is written
    weights: str | None = None  # where the bare name's published weights are
    needs_weights: bool = False
    takes_flow: bool = False  # whether it can be fed with optical flow
    package: str = ""  # that offers it, with its version; mmf itself where it is empty
    fault: str = ""  # why what a package offers cannot be used


def backbones(modality: str) -> Iterator[Choice]:
    """The backbones of a modality, those of installed packages last.

    Networks of pictures that can be fed with flow are not said again under ``flow``.
    """
    for name in BACKBONES[modality]:
        found = backbone_class(name, modality)
        if not hasattr(found, "inner"):
            takes_flow = modality in ("rgb", "clip") and name in BACKBONES["flow"]
            yield _choice(name, found, takes_flow=takes_flow)
    for name, package in offered(modality).items():
        try:
            yield _choice(name, backbone_class(name, modality), package=package)
        except MmfError as error:
            yield Choice(name=name, package=package, fault=str(error))


def flows() -> Iterator[Choice]:
    """The ways to compute optical flow."""
    for name in FLOWS:
        yield _choice(name, FLOWS.load(name))


def _choice(name: str, found: Any, **more: Any) -> Choice:
    any_variant = getattr(found, "any_variant", "")
    return Choice(
        name=name,
        variants=(any_variant,) if any_variant else found.variants,
        weights=None if any_variant else found.published(name),
        needs_weights=found.has_weights,
        **more,
    )
