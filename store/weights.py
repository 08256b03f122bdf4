"""Find weights and pin them by sha256, without torch and without a network.

A location is one string:

=================================  ===============================================================
``net.safetensors``, ``folder``    a local file; or a folder with config.json and its tensors
``https://host/net-1a2b3c.pth``    a published file, in the torch hub's cache
``hf://ORG/NAME[/FILE]@REVISION``  a file or the whole of a Hugging Face repository, in its cache
=================================  ===============================================================

Nothing here fetches: what is not there is an error that says how to get it (`mmf weights --fetch`).
"""

import functools
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mmf import MmfError

CONFIG = "config.json"
# a repository may hold the same network in several forms; the first of these counts
TENSORS = (
    r"model\.safetensors",
    r"model-\d+-of-\d+\.safetensors",
    r"pytorch_model\.bin",
    r"pytorch_model-\d+-of-\d+\.bin",
)
_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?@(?P<revision>[\w./-]+)")
_OTHERWISE = (
    "Name a local file (--weights MODALITY=PATH), or ask for random ones on purpose "
    "(--weights MODALITY=random:0)."
)


class WeightsMissing(MmfError, FileNotFoundError):
    """A file of weights cannot be had."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Local weights and the digest of their bytes.

    `path` is the file or folder; `files` are those with tensors. The digest of a folder is that of
    the list of the digests and names of config.json and of its tensors.
    """

    path: Path
    files: tuple[Path, ...]
    sha256: str

    @property
    def config(self) -> Path | None:
        """The description of the network that lies beside the tensors of a folder."""
        return self.path / CONFIG if (self.path / CONFIG).is_file() else None


@dataclass(frozen=True, kw_only=True)
class HubLocation:
    """A Hugging Face repository at a revision, or one file of it."""

    repo: str
    file: str | None
    revision: str


def hub_location(location: str) -> HubLocation:
    """`hf://ORG/NAME[/FILE]@REVISION` in its parts; MmfError where it is not of that form."""
    found = _HUB.fullmatch(location)
    if not found or ".." in location:
        raise MmfError(
            f"weights {location!r}: expected hf://ORG/NAME[/FILE]@REVISION; the revision is a "
            "commit, a tag or a branch (main)."
        )
    return HubLocation(repo=found["repo"], file=found["file"], revision=found["revision"])


def place(location: str | Path) -> Path:
    """Where the weights of a location are looked for on this machine, there or not."""
    location = str(location)
    if location.startswith("hf://"):
        hub = hub_location(location)
        home = _hub_cache() / f"models--{hub.repo.replace('/', '--')}"
        named = home / "refs" / hub.revision  # a branch or a tag; a commit stands for itself
        commit = named.read_text().strip() if named.is_file() else hub.revision
        return home / "snapshots" / commit / (hub.file or "")
    if "://" in location:
        if not location.startswith("https://"):
            raise MmfError(
                f"weights {location!r}: expected a path, hf://ORG/NAME@REVISION or https://…"
            )
        return _torch_cache() / "hub" / "checkpoints" / location.rpartition("/")[2]
    return Path(location).expanduser()


def find_weights(location: str | Path, *, name: str, otherwise: str = "") -> Weights:
    """The weights of the network `name` at `location`, on this machine, pinned by sha256.

    Raises WeightsMissing where they are not there, with the ways on; `otherwise` is what else can
    be done where that is not the extraction's --weights.
    """
    path = place(location)
    if path.is_file():
        return Weights(path=path, files=(path,), sha256=_digest(path))
    tensors = tensor_files([file.name for file in path.iterdir()]) if path.is_dir() else []
    if not tensors:
        raise _missing(str(location), path, name, otherwise or _OTHERWISE)
    used = [CONFIG] * (path / CONFIG).is_file() + tensors
    listed = "".join(f"{_digest(path / file)}  {file}\n" for file in used)
    return Weights(
        path=path,
        files=tuple(path / file for file in tensors),
        sha256=hashlib.sha256(listed.encode()).hexdigest(),
    )


def none_published(name: str) -> WeightsMissing:
    """The error for `pretrained` where the backbone `name` knows of no published weights."""
    return WeightsMissing(
        f"backbone {name!r} has no published weights. Name a local file (--weights MODALITY=PATH), "
        "or ask for random ones on purpose (--weights MODALITY=random:0)."
    )


def tensor_files(names: list[str]) -> list[str]:
    """Those of the names in a folder that hold the network's tensors, in order."""
    for form in TENSORS:
        if found := sorted(name for name in names if re.fullmatch(form, name)):
            return found
    return []


def _missing(location: str, path: Path, name: str, otherwise: str) -> WeightsMissing:
    if path.is_dir():
        return WeightsMissing(
            f"there are no weights for {name!r} in the folder {str(path)!r}: expected "
            f"model.safetensors or pytorch_model.bin. {otherwise}"
        )
    if "://" not in location:
        return WeightsMissing(f"there are no weights for {name!r} at {str(path)!r}. {otherwise}")
    return WeightsMissing(
        f"the weights of {name!r} are not on this machine: {location} was looked for at "
        f"{str(path)!r}, and nothing is fetched unasked. Fetch them where there is a network "
        f"(mmf weights --fetch). {otherwise}"
    )


def _torch_cache() -> Path:
    return Path(os.environ.get("TORCH_HOME") or _cache() / "torch").expanduser()


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or _cache() / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def _digest(path: Path) -> str:
    return _sha256(path.resolve(), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
