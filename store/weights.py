"""Find a file of weights and pin it by its sha256; each stage loads the tensors itself."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

from mmf import MmfError


class WeightsMissing(MmfError, FileNotFoundError):
    """A file of weights cannot be had."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A local file of weights and the digest of its bytes."""

    path: Path
    sha256: str


def find_weights(location: str | Path, *, name: str) -> Weights:
    """The weights of the backbone `name` in the local file `location`, pinned by sha256."""
    path = Path(location).expanduser()
    if not path.is_file():
        raise WeightsMissing(
            f"there are no weights for {name!r} at {str(path)!r}. Name a local file "
            f"(--weights MODALITY=PATH), or ask for random ones on purpose (random:0)."
        )
    return Weights(path=path, sha256=_sha256(path.resolve(), path.stat().st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
