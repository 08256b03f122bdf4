"""GMFlow as a network: names and shapes of the published weights, each frame encoded once.

Xu et al., GMFlow: Learning Optical Flow via Global Matching, CVPR 2022 (code Apache-2.0); with
refinement by regression: Xu et al., Unifying Flow, Stereo and Depth Estimation, TPAMI 2023 (MIT).
A CNN at 1/8 of the size (scale2: also 1/4), a transformer over both frames, matching, propagation,
convex upsampling; the second scale matches what is left after warping by the first's flow.

Published as it is, and kept: global propagation projects its keys twice, k(q(x)), the local one
once, k(x); a shifted window's mask is −100; local matching masks what is outside, local
propagation does not; positions are counted within each window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mmf.extract.flow import matching
from mmf.extract.flow.gmflow_refine import Refinement
from mmf.extract.flow.gmflow_transformer import WIDTH, FeatureTransformer
from mmf.extract.flow.matching import tokens

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
RADIUS = 4  # of the refinement's correlation


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published configuration."""

    factor: int  # of the convex upsampling
    splits: tuple[int, ...]  # windows across and down, per scale from coarse to fine
    match: tuple[int, ...]  # radius of the matching; −1 = anywhere
    propagate: tuple[int, ...]
    multiple: int  # what height and width must be multiples of
    steps: int = 0  # of refinement by regression


PUBLISHED = {
    "scale1": Published(factor=8, splits=(2,), match=(-1,), propagate=(-1,), multiple=16),
    "scale2": Published(factor=4, splits=(2, 8), match=(-1, 4), propagate=(-1, 1), multiple=32),
    "refine": Published(
        factor=4, splits=(2, 8), match=(-1, 4), propagate=(-1, 1), multiple=32, steps=6
    ),
}


def _normal(x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
    # each channel by itself, as InstanceNorm2d: one kernel instead of five
    return functional.group_norm(x, x.shape[1])


class _Pointwise(nn.Conv2d):
    """A 1 × 1 convolution as one product: torch takes a slow path for small pictures."""

    def __init__(self, given: int, width: int):
        super().__init__(given, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        product = torch.matmul(self.weight.flatten(1), x.flatten(2))
        bias = cast(Tensor, self.bias)[:, None]
        return (product + bias).view(len(x), -1, *x.shape[2:])


class _Residual(nn.Module):
    def __init__(self, given: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(given, width, 3, padding=1, stride=stride, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or given != width:
            self.downsample = nn.Sequential(nn.Conv2d(given, width, 1, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        y = _normal(self.conv1(x)).relu_()
        y = _normal(self.conv2(y)).relu_()
        if self.downsample is not None:
            x = _normal(self.downsample(x))
        return y.add_(x).relu_()


class _Trident(nn.Module):
    """One 3 × 3 convolution with stride 1 and, for the coarse scale, with stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(WIDTH, WIDTH, 3, 3))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        return [functional.conv2d(x, self.weight, stride=s, padding=1) for s in (2, 1)]


class _Encoder(nn.Module):
    def __init__(self, scales: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.layer1 = nn.Sequential(_Residual(64, 64, 1), _Residual(64, 64, 1))
        self.layer2 = nn.Sequential(_Residual(64, 96, 2), _Residual(96, 96, 1))
        last = 2 if scales == 1 else 1
        self.layer3 = nn.Sequential(_Residual(96, WIDTH, last), _Residual(WIDTH, WIDTH, 1))
        self.conv2 = _Pointwise(WIDTH, WIDTH)
        self.trident_conv = _Trident() if scales > 1 else None

    def forward(self, x: Tensor) -> list[Tensor]:
        x = _normal(self.conv1(x)).relu_()
        x = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        return [x] if self.trident_conv is None else self.trident_conv(x)


class _Propagation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, flow: Tensor, radius: int) -> Tensor:
        q = self.q_proj(tokens(x))
        k = self.k_proj(q if radius < 0 else tokens(x))
        q, k = (t.transpose(1, 2).reshape(x.shape) for t in (q, k))
        if radius < 0:
            return matching.propagate_anywhere(q, k, flow)
        return matching.propagate_nearby(q, k, flow, radius)


class GMFlowNetwork(nn.Module):
    """`encode` frames, then `flow` between pairs of what it gave."""

    def __init__(self, published: Published):
        super().__init__()
        self.published = published
        factor = published.factor
        self.backbone = _Encoder(len(published.splits))
        self.transformer = FeatureTransformer()
        self.feature_flow_attn = _Propagation()
        if published.steps:
            self.refine_proj = _Pointwise(WIDTH, 2 * WIDTH)
            self.refine = Refinement(taps=(2 * RADIUS + 1) ** 2, factor=factor)
        else:
            self.upsampler = nn.Sequential(
                nn.Conv2d(2 + WIDTH, 256, 3, padding=1), nn.ReLU(), _Pointwise(256, factor**2 * 9)
            )

    def fold(self) -> None:
        """Prepare the forward; to be called when the weights have changed."""
        self.transformer.fold()

    def encode(self, frames: Float[Tensor, "F 3 h w"]) -> list[Float[Tensor, "F D hh ww"]]:
        """RGB in 0…255, h and w multiples of the published one → features, coarse first."""
        mean, deviation = (
            torch.tensor(v, dtype=frames.dtype, device=frames.device).view(3, 1, 1)
            for v in (MEAN, DEVIATION)
        )
        return self.backbone((frames / 255 - mean) / deviation)

    def flow(
        self, first: Sequence[Float[Tensor, "B D _ _"]], second: Sequence[Float[Tensor, "B D _ _"]]
    ) -> Float[Tensor, "B 2 h w"]:
        """Flow from the first frames to the second, in pixels of the frames."""
        flow = torch.zeros_like(first[0][:, :2])
        for scale, splits in enumerate(self.published.splits):
            one, two = first[scale], second[scale]
            if scale > 0:
                flow = 2 * functional.interpolate(
                    flow, scale_factor=2.0, mode="bilinear", align_corners=True
                )
                two = matching.warp(two, flow)
            one, two = self._features(one, two, splits)
            flow = flow + self._match(one, two, self.published.match[scale])
            flow = self.feature_flow_attn(one, flow, self.published.propagate[scale])
        if self.published.steps:
            return self._refined(first[-1], second[-1], one, flow)
        logits = self.upsampler(torch.cat([flow, one], 1))
        return matching.upsample(flow, logits, self.published.factor)

    def _features(self, one: Tensor, two: Tensor, splits: int) -> list[Tensor]:
        both = torch.cat([one, two]).permute(0, 2, 3, 1)  # (2 B, h, w, D)
        h, w = both.shape[1:3]
        place = _positions(h // splits, w // splits, both.dtype, both.device)
        both = both + place.tile(splits, splits, 1)
        out = self.transformer(both, splits).permute(0, 3, 1, 2).contiguous()
        return list(out.chunk(2))

    def _match(self, one: Tensor, two: Tensor, radius: int) -> Tensor:
        if radius < 0:
            return matching.match_anywhere(one, two)
        return matching.match_nearby(one, two, radius)

    def _refined(self, first: Tensor, second: Tensor, features: Tensor, flow: Tensor) -> Tensor:
        # every step starts from the same state: published so
        state, context = self.refine_proj(features).chunk(2, 1)
        state, context = torch.tanh(state), torch.relu(context)
        for _ in range(self.published.steps):
            correlation = matching.correlation_along(first, second, flow, RADIUS)
            ended, change = self.refine(state, context, correlation, flow)
            flow = flow + change
        return matching.upsample(flow, self.refine.mask(ended), self.published.factor)


@lru_cache(maxsize=8)
def _positions(h: int, w: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "h w D"]:
    """Sines and cosines of y, then of x, counted from 1 and scaled to 2π (DETR, ECCV 2020)."""
    half = WIDTH // 2
    wave = 10000 ** (2 * (torch.arange(half, dtype=dtype, device=device) // 2) / half)
    angles = [
        torch.arange(1, length + 1, dtype=dtype, device=device)[:, None]
        / (length + 1e-6)
        * (2 * torch.pi)
        / wave
        for length in (h, w)
    ]
    y, x = (torch.stack([a[:, 0::2].sin(), a[:, 1::2].cos()], -1).flatten(1) for a in angles)
    return torch.cat([y[:, None].expand(h, w, half), x[None].expand(h, w, half)], -1)
