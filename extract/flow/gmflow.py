"""GMFlow as a flow: published weights, sizes, and each frame of a video encoded once.

Xu et al., GMFlow: Learning Optical Flow via Global Matching, CVPR 2022. `gmflow` alone is
`gmflow:scale1`; `scale2` refines at 1/4 of the size, `refine` is scale2 with six steps of
regression (UniMatch, TPAMI 2023). The published weights are those that their authors recommend for
videos in the wild, trained on a mixture of data sets.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from mmf.extract.backbones.checkpoint import Source
from mmf.extract.flow.contract import FlowSetup
from mmf.extract.flow.fitting import Fit
from mmf.extract.flow.gmflow_network import PUBLISHED, GMFlowNetwork
from mmf.extract.flow.network import NetworkFlow

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


class GMFlow(NetworkFlow):
    """GMFlow: scale1, scale2 or refine."""

    variants: ClassVar[tuple[str, ...]] = tuple(PUBLISHED)

    def __init__(self, setup: FlowSetup):
        super().__init__(setup)
        self._batch = _BATCH[self.device.type]
        self.multiple = self.network.published.multiple
        self.network.fold()

    @classmethod
    def source(cls, name: str) -> Source:
        """UniMatch's network and model zoo."""
        scales = name.partition(":")[2] or "scale1"
        return Source(
            name=name,
            build=lambda: GMFlowNetwork(PUBLISHED[scales]),
            published=f"{_ZOO}/{_FILES[scales]}",
        )

    def flows(
        self, pairs: UInt8[np.ndarray, "B 2 h w 3"], fit: Fit
    ) -> Float32[np.ndarray, "B h w 2"]:
        """Along the chain of frames, of which each is encoded once."""
        flows = np.empty((len(pairs), *pairs.shape[2:4], 2), np.float32)
        chain: list[_Encoded] = []
        for start in range(0, len(pairs), self._batch):
            part = pairs[start : start + self._batch]
            chain, begins = self._encode(part, chain[-1:], fit)
            begins += begins[-1:] * (self._batch - len(part))  # one shape, whatever is left
            flow = self.network.flow(_stack(chain, begins), _stack(chain, begins, after=1))
            made = fit.flow(flow)[: len(part)].permute(0, 2, 3, 1)
            flows[start : start + len(part)] = made.cpu().numpy()
        return flows

    def run_once(self, network: GMFlowNetwork, frame: Float32[Tensor, "1 3 h w"]) -> None:
        """A pair whose first frame is encoded already."""
        network.fold()
        features = network.encode(frame)
        network.flow(features, features)

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
            scales = self.network.encode(self.fitted(batch, fit))
            features += list(zip(*scales, strict=True))[: len(few)]
        return features


def _stack(chain: list[_Encoded], begins: list[int], *, after: int = 0) -> list[Tensor]:
    """Per scale, the features of the frames `after` each place in the chain."""
    chosen = [chain[at + after].scales for at in begins]
    return [torch.stack(scale) for scale in zip(*chosen, strict=True)]
