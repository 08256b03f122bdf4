"""mmf: offline feature extraction and lightweight multimodal fusion for video.

Stage one (`mmf.extract`) turns media files into rows of features with times in seconds. The
store (`mmf.store`) keeps them. Stage two (`mmf.fuse`) trains small fusion models on them. The two
stages share the store and nothing else; they meet in `mmf.cli`.

Shapes are written with one legend of letters throughout:

==========  ====================================================
``B``       videos (items) in a batch
``T``       steps in time
``M``       modalities
``N``       tokens
``D``       feature size
``H``       hidden size
``C``       classes
``h w``     pixels, height and width
==========  ====================================================
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

__version__ = "0.1.0"


class MmfError(Exception):
    """The root of every error that mmf raises on purpose; its text is one sentence for a user."""


class UnknownName(MmfError, KeyError):
    """A name that no table has; the text suggests near ones and lists what exists."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for `name`, which is none of the `known` names of its `kind`."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UnknownName(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


_PACKAGES = {  # whose name is not the library's
    "dask_jobqueue": "dask-jobqueue",
    "dask_kubernetes": "dask-kubernetes",
    "sklearn": "scikit-learn",
}


def from_extra(extra: str, module: str, what: str) -> Any:
    """A module of a library that this extra installs; MmfError says `what` needs it, and how."""
    library = module.partition(".")[0]
    try:
        importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise  # it is there, and something that it needs is not
        raise MmfError(
            f"{what} needs {_PACKAGES.get(library, library)}, which is not installed. Install it "
            f"with: pip install 'mmf-video[{extra}]'."
        ) from error
    return importlib.import_module(module)


def package_of(entry: Any) -> str:
    """The package that offers an entry point, and its version."""
    # of importlib.metadata, or of its backport, which Dask loads where Python is old
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


def load_offered(kind: str, name: str, entry: Any) -> Any:
    """What a package offers as this entry point; MmfError where it cannot be imported."""
    try:
        return entry.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise MmfError(
            f"{kind} {name!r} of the package {package_of(entry)} cannot be imported from "
            f"{entry.value!r}: {error}."
        ) from error


class Registry(Mapping[str, str]):
    """A static table from a name to the place of its code, ``module:attribute``.

    A name is ``name`` or ``name:variant``; the variant is the code's own affair. Only the module
    of the name asked for is imported, so the heavy libraries of the others stay unloaded. What is
    not in the table may be offered by an installed package, as an entry point of `group`: a
    stranger's config can name that, and never a file.
    """

    def __init__(self, kind: str, places: Mapping[str, str], *, group: str = ""):
        self.kind, self.group = kind, group
        self._places = dict(places)

    def __getitem__(self, name: str) -> str:
        return self._places[name]

    def __iter__(self) -> Any:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def load(self, name: str) -> Any:
        """The class or function of `name`, its variant left out; UnknownName if there is none."""
        base = name.partition(":")[0]
        if base not in self._places:
            self.check(base)
            return load_offered(self.kind, base, self.offered()[base])
        module, _, attribute = self._places[base].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def offered(self) -> Mapping[str, Any]:
        """What installed packages offer beside the table: names to entry points."""
        if not self.group:
            return {}
        metadata = importlib.import_module("importlib.metadata")  # 45 ms that few names are worth
        return {one.name: one for one in metadata.entry_points(group=self.group)}

    def check(self, name: str) -> None:
        """Raise UnknownName where there is no such name; nothing of it is imported."""
        if name not in self._places and name not in (offers := self.offered()):
            raise unknown(self.kind, name, {*self._places, *offers})
