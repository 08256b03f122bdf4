"""A published projection of embeddings: minus the mean, onto the principal axes, whitened.

The matrices are the user's, in the files in which they were published:

- YouTube-8M's frames: a folder with ``mean.npy``, ``eigenvals.npy`` and ``eigenvecs.npy``
  (yt8m_pca.tgz); (f - mean) @ eigenvecs.T[:, :1024] / sqrt(eigenvals[:1024] + 1e-4).
- VGGish: ``vggish_pca_params`` as .npz, or as torchvggish's .pth or .safetensors;
  (e - means) @ eigen_vectors.T, the whitening included.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from mmf import MmfError
from mmf.extract.backbones.checkpoint import Loaded, read_tensors
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.network import NetworkBackbone
from mmf.store.weights import find_weights

YOUTUBE8M = ("mean.npy", "eigenvals.npy", "eigenvecs.npy")
YOUTUBE8M_SIZE = 1024
_FLOOR = 1e-4  # added to an eigenvalue before its root is taken
_VGGISH = ("pca_means", "pca_eigen_vectors")


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """(x - mean) @ matrix."""

    mean: Float32[np.ndarray, " D"]
    matrix: Float32[np.ndarray, "D E"]

    @classmethod
    def read(cls, location: str, *, size: int) -> "Whitening":
        """The whitening of embeddings of `size` numbers in a file or folder; MmfError if none."""
        path = Path(location).expanduser()
        try:
            found = cls._youtube8m(path) if path.is_dir() else cls._vggish(path)
        except (OSError, ValueError, KeyError) as error:
            raise MmfError(
                f"pca={location!r} cannot be read ({error}). Expected a folder with "
                f"{', '.join(YOUTUBE8M)}, or a .npz or .pth with {' and '.join(_VGGISH)}."
            ) from error
        if found.mean.shape != (size,) or found.matrix.shape[0] != size:
            raise MmfError(
                f"pca={location!r} has a mean of shape {found.mean.shape} and axes of shape "
                f"{found.matrix.shape[::-1]}; expected those of {size} numbers."
            )
        return found

    @classmethod
    def _youtube8m(cls, folder: Path) -> "Whitening":
        mean, values, vectors = (np.load(folder / name, allow_pickle=False) for name in YOUTUBE8M)
        axes = vectors.T[:, :YOUTUBE8M_SIZE]
        deviation = np.sqrt(values.reshape(-1)[:YOUTUBE8M_SIZE] + _FLOOR)
        return cls._of(mean, axes / deviation)

    @classmethod
    def _vggish(cls, path: Path) -> "Whitening":
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                mean, vectors = (arrays[name] for name in _VGGISH)
        else:
            tensors = read_tensors(find_weights(path, name="pca"))
            mean, vectors = (tensors[name].numpy() for name in _VGGISH)
        return cls._of(mean, vectors.T)

    @classmethod
    def _of(cls, mean: np.ndarray, matrix: np.ndarray) -> "Whitening":
        mean = np.ascontiguousarray(mean.reshape(-1), dtype=np.float32)
        return cls(mean=mean, matrix=np.ascontiguousarray(matrix, dtype=np.float32))

    @property
    def identity(self) -> str:
        """The sha256 of the numbers, whatever file they came in."""
        return f"sha256:{hashlib.sha256(self.mean.tobytes() + self.matrix.tobytes()).hexdigest()}"

    def __call__(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """Embeddings → whitened ones, on their device."""
        mean, matrix = (torch.from_numpy(a).to(rows.device) for a in (self.mean, self.matrix))
        return (rows - mean) @ matrix


class WhitenedBackbone(NetworkBackbone):
    """A network whose embedding may be whitened: option `pca`, a path.

    The recipe holds the digest of the matrices, the environment their path; `sha256:…@PATH` asks
    for the very same ones again.
    """

    options: ClassVar[Mapping[str, str]] = {"pca": "none"}

    def __init__(self, setup: Setup, loaded: Loaded, trunk: nn.Module, *, size: int):
        super().__init__(setup, loaded, trunk)
        self._whitening: Whitening | None = None
        if (asked := self.chosen["pca"]) == "none":
            return
        digest, at, path = asked.partition("@") if asked.startswith("sha256:") else ("", "", asked)
        self._whitening = Whitening.read(path, size=size)
        if at and digest != self._whitening.identity:
            raise MmfError(
                f"the matrices in {path!r} are not those that the feature was made with: "
                f"{digest} then, {self._whitening.identity} now. Put the same file there again."
            )
        self.chosen["pca"] = self._whitening.identity
        self.option_paths = {"pca": str(Path(path).expanduser().resolve())}

    def finish(self, made: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """The embedding, whitened where that was asked for."""
        return self._whitening(made) if self._whitening else made
