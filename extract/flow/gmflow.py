"""GMFlow as a flow: published weights, sizes, and each frame of a video encoded once.

Xu et al., GMFlow: Learning Optical Flow via Global Matching, CVPR 2022. `gmflow` alone is
`gmflow:scale1`; `scale2` refines at 1/4 of the size, `refine` is scale2 with six steps of
regression (UniMatch, TPAMI 2023). The published weights are those that their authors recommend for
videos in the wild, trained on a mixture of data sets. Always float32: flow needs it.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf.extract.backbones.checkpoint import Source, load
from mmf.extract.flow.contract import Flow, FlowSetup
from mmf.extract.flow.fitting import Fit, exact_convolutions
from mmf.extract.flow.gmflow_network import PUBLISHED, GMFlowNetwork
from mmf.extract.flow.side_by_side import side_by_side
from mmf.extract.matmul import fast_matmul, onednn_is_exact

_ZOO = "https://s3.eu-central-1.amazonaws.com/avg-projects/unimatch/pretrained"
_FILES = {
    "scale1": "gmflow-scale1-mixdata-train320x576-4c3a6e9a.pth",
    "scale2": "gmflow-scale2-mixdata-train320x576-9ff1c094.pth",
    "refine": "gmflow-scale2-regrefine6-mixdata-train320x576-4e7b215d.pth",
}
# frames, and pairs, at a time; on a CPU one keeps the scores in the caches
_BATCH = {"cpu": 1, "cuda": 8}


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    """A frame and its features at every scale, (D, h, w) each."""

    frame: np.ndarray
    scales: tuple[Tensor, ...]


class GMFlow(Flow):
    """GMFlow: scale1, scale2 or refine."""

    variants: ClassVar[tuple[str, ...]] = tuple(PUBLISHED)
    has_weights: ClassVar[bool] = True

    @classmethod
    def published(cls, name: str) -> str | None:
        """UniMatch's model zoo."""
        return f"{_ZOO}/{_FILES[name.partition(':')[2] or 'scale1']}"

    def __init__(self, setup: FlowSetup):
        super().__init__(setup)
        self._published = PUBLISHED[setup.variant or "scale1"]
        source = Source(
            name=setup.name,
            build=lambda: GMFlowNetwork(self._published),
            published=self.published(setup.name),
        )
        loaded = load(source, setup.weights)
        self.weights, self.weights_path = loaded.identity, loaded.path
        self._device = torch.device(setup.device)
        self._batch = _BATCH[self._device.type]
        self._how = setup.fit
        self._network = cast(GMFlowNetwork, loaded.network.to(self._device))
        self._network.fold()

    def pairs(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        """Pairs of RGB frames → (x, y) in pixels per frame."""
        with fast_matmul(), exact_convolutions():
            if self._device.type == "cpu":
                return side_by_side(self._flows, pairs)
            return self._flows(pairs)

    @torch.inference_mode()
    def _flows(self, pairs: UInt8[np.ndarray, "B 2 h w 3"]) -> Float32[np.ndarray, "B h w 2"]:
        fit = self._fitted(*pairs.shape[2:4])
        flows = np.empty((len(pairs), *pairs.shape[2:4], 2), np.float32)
        chain: list[_Encoded] = []
        for start in range(0, len(pairs), self._batch):
            part = pairs[start : start + self._batch]
            chain, begins = self._encode(part, chain[-1:], fit)
            begins += begins[-1:] * (self._batch - len(part))  # one shape, whatever is left
            flow = self._network.flow(_stack(chain, begins), _stack(chain, begins, after=1))
            made = fit.flow(flow)[: len(part)].permute(0, 2, 3, 1)
            flows[start : start + len(part)] = made.cpu().numpy()
        return flows

    @torch.inference_mode()
    def flops(self, height: int, width: int) -> float:
        """Floating point operations of one pair whose first frame is encoded already."""
        from torch.utils.flop_counter import FlopCounterMode

        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            network = GMFlowNetwork(self._published)
            network.fold()
            frame = torch.empty(1, 3, *self._fitted(height, width).size)
            features = network.encode(frame)
            network.flow(features, features)
        return float(counter.get_total_flops())

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the flow."""
        products = "onednn" if onednn_is_exact() else "blas"
        return {"torch": str(torch.__version__), "float32 products": products}

    def _fitted(self, height: int, width: int) -> Fit:
        return Fit(height=height, width=width, multiple=self._published.multiple, how=self._how)

    def _encode(
        self, part: UInt8[np.ndarray, "B 2 h w 3"], chain: list[_Encoded], fit: Fit
    ) -> tuple[list[_Encoded], list[int]]:
        """The chain with the frames of `part` behind it, and where in it each pair begins."""
        fresh: list[np.ndarray] = []
        begins = []
        before = chain[-1].frame if chain else None
        for first, second in part:
            if before is None or not np.array_equal(before, first):
                fresh.append(first)
            begins.append(len(chain) + len(fresh) - 1)
            fresh.append(second)
            before = second
        features = self._features(fresh, fit)
        found = [_Encoded(frame=f, scales=s) for f, s in zip(fresh, features, strict=True)]
        return chain + found, begins

    def _features(self, frames: list[np.ndarray], fit: Fit) -> list[tuple[Tensor, ...]]:
        features: list[tuple[Tensor, ...]] = []
        for start in range(0, len(frames), self._batch):
            few = frames[start : start + self._batch]
            batch = np.stack(few + few[-1:] * (self._batch - len(few)))
            given = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2).float()
            scales = self._network.encode(fit.frames(given))
            features += list(zip(*scales, strict=True))[: len(few)]
        return features


def _stack(chain: list[_Encoded], begins: list[int], *, after: int = 0) -> list[Tensor]:
    """Per scale, the features of the frames `after` each place in the chain."""
    chosen = [chain[at + after].scales for at in begins]
    return [torch.stack(scale) for scale in zip(*chosen, strict=True)]
