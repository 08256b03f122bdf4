"""What every optical flow is: pairs of frames in, motion in pixels per frame out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mmf import MmfError, unknown

FITS = ("pad", "resize")


@dataclass(frozen=True, kw_only=True)
class FlowSetup:
    """How one flow is to be built."""

    name: str  # name or name:variant
    weights: str = "pretrained"  # pretrained | a location | random:SEED; a formula has none
    fit: str = "pad"  # how frames come to the size that a network takes: pad | resize
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise unknown("way to fit frames to a flow network", self.fit, FITS)

    @property
    def variant(self) -> str:
        """What follows the colon in the name."""
        return self.name.partition(":")[2]


class Flow(ABC):
    """One way to compute optical flow. The class itself is a formula without weights."""

    variants: ClassVar[tuple[str, ...]] = ()
    has_weights: ClassVar[bool] = False

    def __init__(self, setup: FlowSetup):
        if setup.variant and setup.variant not in self.variants:
            base = setup.name.partition(":")[0]
            known = ", ".join(f"{base}:{v}" for v in self.variants) or "none"
            raise MmfError(
                f"flow {base!r} has no variant {setup.variant!r}. Its variants: {known}."
            )
        self.weights: str | None = None  # random:SEED or sha256:…
        self.weights_path: str | None = None

    @classmethod
    def published(cls, name: str) -> str | None:
        """The location of the weights that `pretrained` means for `name`; None: there are none."""
        return None

    @abstractmethod
    def pairs(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        """Pairs of RGB frames → (x, y) in pixels per frame, x right and y down.

        Where a pair begins with the frame that the one before ended with, a network encodes that
        frame once; the result has the same bits either way.
        """

    def sequence(self, frames: UInt8[np.ndarray, "T h w 3"]) -> Float32[np.ndarray, "_ h w 2"]:
        """Flow from each of T frames to the next: T − 1 of them."""
        if len(frames) < 2:
            return np.zeros((0, *frames.shape[1:3], 2), np.float32)
        return self.pairs(np.stack([frames[:-1], frames[1:]], axis=1))

    def flops(self, height: int, width: int) -> float | None:
        """Operations of one pair (a product and its sum are two); None where no one counted."""
        return None

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the flow."""
        return {"cv2": cv2.__version__}
