"""RAFT from torchvision: flow by recurrent updates from all-pairs correlation.

Teed and Deng, RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, ECCV 2020. `raft` alone
is `raft:large`; 12 updates, torchvision's default and its best published weights. Pixels lie in
-1…1, sizes are multiples of 8 and at least 128. Always float32.
"""

from typing import ClassVar

import numpy as np
import torch
import torchvision
from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf.extract.backbones.checkpoint import load, torchvision_source
from mmf.extract.flow.contract import Flow, FlowSetup
from mmf.extract.flow.fitting import Fit, exact_convolutions
from mmf.extract.flow.side_by_side import side_by_side
from mmf.extract.matmul import fast_matmul, onednn_is_exact

_EDITIONS = {"large": "C_T_SKHT_V2", "small": "C_T_V2"}
_MULTIPLE, _LEAST = 8, 128


class Raft(Flow):
    """RAFT, large or small."""

    variants: ClassVar[tuple[str, ...]] = tuple(_EDITIONS)
    has_weights: ClassVar[bool] = True

    @classmethod
    def published(cls, name: str) -> str | None:
        """Torchvision's weights."""
        size = name.partition(":")[2] or "large"
        return torchvision_source(f"raft_{size}", _EDITIONS[size]).published

    def __init__(self, setup: FlowSetup):
        super().__init__(setup)
        self._size = setup.variant or "large"
        loaded = load(
            torchvision_source(f"raft_{self._size}", _EDITIONS[self._size]), setup.weights
        )
        self.weights, self.weights_path = loaded.identity, loaded.path
        self._device = torch.device(setup.device)
        self._how = setup.fit
        self._network = loaded.network.to(self._device)

    def pairs(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        """Pairs of RGB frames → (x, y) in pixels per frame."""
        with fast_matmul(), exact_convolutions():
            if self._device.type == "cpu":
                return side_by_side(self._flows, pairs)
            return self._flows(pairs)

    @torch.inference_mode()
    def _flows(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        fit = self._fitted(*pairs.shape[2:4])
        flows = [fit.flow(self._flow(pair, fit)) for pair in pairs]
        return np.stack([flow[0].permute(1, 2, 0).cpu().numpy() for flow in flows])

    @torch.inference_mode()
    def flops(self, height: int, width: int) -> float:
        """Floating point operations of one pair."""
        from torch.utils.flop_counter import FlopCounterMode

        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network = torchvision.models.get_model(f"raft_{self._size}", weights=None).eval()
            frame = torch.empty(1, 3, *self._fitted(height, width).size)
            network(frame, frame)
        return float(counter.get_total_flops())

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the flow."""
        return {
            "torch": str(torch.__version__),
            "torchvision": str(torchvision.__version__),
            "float32 products": "onednn" if onednn_is_exact() else "blas",
        }

    def _fitted(self, height: int, width: int) -> Fit:
        return Fit(height=height, width=width, multiple=_MULTIPLE, least=_LEAST, how=self._how)

    def _flow(self, pair: UInt8[np.ndarray, "2 h w 3"], fit: Fit) -> Tensor:
        frames = torch.from_numpy(pair).to(self._device).permute(0, 3, 1, 2).float()
        first, second = (fit.frames(frames) / 127.5 - 1).split(1)
        updates: list[Tensor] = self._network(first, second)
        return updates[-1]
