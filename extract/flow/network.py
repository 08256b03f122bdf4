"""Flows that a torch network computes: its weights and device, any size of frame, in float32.

Flow needs float32: pixels are counted in fractions. A network's file says what it is (`source`) and
how flows come of pairs (`flows`).
"""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf.extract.backbones.checkpoint import Source, load
from mmf.extract.flow.contract import Flow, FlowSetup
from mmf.extract.flow.fitting import Fit, exact_convolutions
from mmf.extract.flow.side_by_side import side_by_side
from mmf.matmul import fast_matmul, onednn_is_exact


class NetworkFlow(Flow):
    """A flow with weights."""

    has_weights: ClassVar[bool] = True
    multiple: int  # what height and width are to be multiples of
    least: ClassVar[int] = 1  # pixels of height and of width

    def __init__(self, setup: FlowSetup):
        super().__init__(setup)
        self._source = self.source(setup.name)
        loaded = load(self._source, setup.weights)
        self.weights, self.weights_path = loaded.identity, loaded.path
        self.device, self._how = torch.device(setup.device), setup.fit
        self.network: Any = loaded.network.to(self.device)

    @classmethod
    @abstractmethod
    def source(cls, name: str) -> Source:
        """The network that `name` means, and where its weights are published."""

    @classmethod
    def published(cls, name: str) -> str | None:
        """Where its authors, or torchvision, have put the weights."""
        return cls.source(name).published

    @abstractmethod
    def flows(
        self, pairs: UInt8[np.ndarray, "B 2 h w 3"], fit: Fit
    ) -> Float32[np.ndarray, "B h w 2"]:
        """Pairs of RGB frames → (x, y) in pixels per frame; `fit` is that of their size."""

    @abstractmethod
    def run_once(self, network: Any, frame: Float32[Tensor, "1 3 h w"]) -> None:
        """One pair, both of its frames `frame`, through a network without storage."""

    def pairs(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        """Pairs of RGB frames → (x, y) in pixels per frame."""
        with fast_matmul(), exact_convolutions():
            on_cpu = self.device.type == "cpu"
            return side_by_side(self._flows, pairs) if on_cpu else self._flows(pairs)

    @torch.inference_mode()  # a thread's own setting
    def _flows(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        return self.flows(pairs, self._fit(*pairs.shape[2:4]))

    def fitted(self, frames: UInt8[np.ndarray, "F h w 3"], fit: Fit) -> Float32[Tensor, "F 3 H W"]:
        """Frames as the network sees them, in 0…255, on the device."""
        return fit.frames(torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float())

    def _fit(self, height: int, width: int) -> Fit:
        return Fit(
            height=height, width=width, multiple=self.multiple, least=self.least, how=self._how
        )

    @torch.inference_mode()
    def flops(self, height: int, width: int) -> float:
        """Floating point operations of one pair, counted by torch on tensors without storage."""
        from torch.utils.flop_counter import FlopCounterMode

        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            frame = torch.empty(1, 3, *self._fit(height, width).size)
            self.run_once(self._source.build().eval(), frame)
        return float(counter.get_total_flops())

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the flow."""
        products = "onednn" if onednn_is_exact() else "blas"
        return {"torch": str(torch.__version__), "float32 products": products}
