"""The libraries of networks that the base installation lacks: timm and transformers."""

from typing import Any

from mmf import from_extra


def library(name: str) -> Any:
    """The module `name`; MmfError says how to install it."""
    return from_extra("networks", name, "this backbone")
