"""RAFT from torchvision: flow by recurrent updates from all-pairs correlation.

Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020. `raft` alone
is `raft:large`; 12 updates, torchvision's default and its best published weights. Pixels lie in
-1…1, sizes are multiples of 8 and at least 128.
"""

from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
import torchvision
from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf.extract.backbones.checkpoint import Source, torchvision_source
from mmf.extract.flow.fitting import Fit
from mmf.extract.flow.network import NetworkFlow

_EDITIONS = {"large": "C_T_SKHT_V2", "small": "C_T_V2"}


class Raft(NetworkFlow):
    """RAFT, large or small."""

    variants: ClassVar[tuple[str, ...]] = tuple(_EDITIONS)
    multiple = 8
    least: ClassVar[int] = 128

    @classmethod
    def source(cls, name: str) -> Source:
        """Torchvision's network and weights."""
        size = name.partition(":")[2] or "large"
        return torchvision_source(f"raft_{size}", _EDITIONS[size])

    def flows(
        self, pairs: UInt8[np.ndarray, "B 2 h w 3"], fit: Fit
    ) -> Float32[np.ndarray, "B h w 2"]:
        """Pair by pair."""
        network = deepcopy(self.network)  # it keeps a pair's correlation: one for a thread
        return np.stack([self._flow(network, pair, fit) for pair in pairs])

    def _flow(
        self, network: Any, pair: UInt8[np.ndarray, "2 h w 3"], fit: Fit
    ) -> Float32[np.ndarray, "h w 2"]:
        first, second = (self.fitted(pair, fit) / 127.5 - 1).split(1)
        return fit.flow(network(first, second)[-1])[0].permute(1, 2, 0).cpu().numpy()

    def run_once(self, network: Any, frame: Float32[Tensor, "1 3 h w"]) -> None:
        """Encoder, correlation and all updates."""
        network(frame, frame)

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the flow."""
        return {**super().libraries(), "torchvision": str(torchvision.__version__)}
