"""The libraries of networks that the base installation lacks: timm and transformers."""

import importlib
from typing import Any

from mmf import MmfError


class LibraryMissing(MmfError, ImportError):
    """A backbone's library is not installed."""


def library(name: str) -> Any:
    """The module `name`; LibraryMissing says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise LibraryMissing(
            f"this backbone needs {error.name}, which is not installed. Install it with: "
            "pip install 'mmf-video[networks]'."
        ) from error
