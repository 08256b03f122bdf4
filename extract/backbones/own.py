"""Backbones of anyone's: a class in a file, `./mine.py:Net`, or one that a package offers.

A package offers them as entry points of the group ``mmf.backbones``, named ``MODALITY.NAME``:

    [project.entry-points."mmf.backbones"]
    "rgb.mine" = "my_package.nets:Mine"

Such a class keeps the contract of all backbones. The digest of the file that it stands in is part
of the recipe, so that rows of two editions of it are never mixed.
"""

import functools
import hashlib
import importlib.util
import inspect
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mmf import MmfError, load_offered, package_of
from mmf.extract.backbones.contract import Backbone

GROUP = "mmf.backbones"


def own_class(base: str, modality: str | None) -> type[Backbone] | None:
    """The class that `base` names, outside of mmf; None where it is no such name.

    Without a modality only files are looked at. Raises MmfError where the file or the class cannot
    be had, or is no backbone of that modality.
    """
    place, _, attribute = base.partition(":")
    if place.endswith(".py"):
        found = getattr(_module(Path(place).expanduser()), attribute, None)
        if found is None:
            raise MmfError(f"{place!r} has no class {attribute!r}: expected ./FILE.py:CLASS.")
    else:
        entries = entry_points(group=GROUP, name=f"{modality}.{base}")
        if not entries:
            return None
        found = load_offered("backbone", base, next(iter(entries)))
    return _checked(base, modality, found)


def offered(modality: str) -> dict[str, str]:
    """The backbones that installed packages offer for a modality: name → package and version."""
    return {
        entry.name.partition(".")[2]: package_of(entry)
        for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
        if entry.name.startswith(f"{modality}.")
    }


def code_of(found: type[Backbone]) -> tuple[Path, str]:
    """The file that a class stands in, and its digest."""
    path = Path(inspect.getfile(found)).absolute()
    return path, f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _module(path: Path) -> Any:
    if not path.is_file():
        raise MmfError(f"there is no file {str(path)!r}: expected ./FILE.py:CLASS as a backbone.")
    return _imported(path.absolute(), hashlib.sha256(path.read_bytes()).hexdigest())


@functools.cache
def _imported(path: Path, digest: str) -> Any:
    name = f"mmf_own_{digest[:16]}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise MmfError(f"{str(path)!r} cannot be imported as Python.")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except (ImportError, SyntaxError) as error:
        del sys.modules[name]
        raise MmfError(f"{str(path)!r} cannot be imported: {error}.") from error
    return module


def _checked(base: str, modality: str | None, found: Any) -> type[Backbone]:
    if not (isinstance(found, type) and issubclass(found, Backbone)):
        raise MmfError(f"{base!r} is no backbone: expected a class derived from mmf's Backbone.")
    if modality not in (None, found.modality):
        raise MmfError(
            f"backbone {base!r} is of the modality {found.modality!r}, not {modality!r}. Ask for "
            f"--backbone {found.modality}={base}."
        )
    return found
