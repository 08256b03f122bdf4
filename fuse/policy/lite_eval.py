"""LiteEval: a coarse network sees every segment and asks for the fine one where it needs it.

Wu, Xiong, Jiang and Davis, NeurIPS 2019, arXiv:1912.01601, after the authors' code. One decision
for all modalities of a segment t: with x_t the projected clues, y_t the modalities' vectors, (h, c)
the state that is classified at the end, and g logistic noise (two Gumbel variables' difference),

    s_t, e_t = LSTM_coarse(x_t)                         512 units
    z = W_gate [x_t, h, c]        use_t = [z_0 - z_1 + g > 0]
    used:     (h, c) := LSTM_fine([y_t, x_t])           2048 units
    skipped:  the first 512 of h and c := s_t and e_t, the rest stays

    loss + w (share skipped - γ)²     w = 2 - exp(-step / epochs),  τ = max(0.5, exp(-1e-4 step))

The share is that of the items that a process has at a time. Both networks and the gate learn
together throughout. In evaluation g = 0. What an item lacks in a segment has a learned vector in
its place.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.fusions.concat import filled
from mmf.fuse.fusions.contract import Stream
from mmf.fuse.layers.normalise import at_least_float32
from mmf.fuse.policy.contract import (
    Decided,
    Loss,
    Recogniser,
    SegmentFusion,
    Stage,
    decision,
)
from mmf.fuse.policy.roles import roles
from mmf.fuse.policy.segments import Segmented, means, segmented

_EPOCHS = 100  # of a training that is not told how long; the paper's depend on the data


@dataclass(frozen=True, kw_only=True)
class LiteEvalOptions:
    """Options of LiteEval; the defaults are those of the authors' code."""

    modalities: tuple[str, ...] = ()  # (): the features that are no clues, or all
    clues: tuple[str, ...] = ()  # cheap features; (): the modalities' own
    sampled: bool = False  # decisions are drawn in evaluation, too
    segments: int = 10
    coarse: int = 512  # units, and of the projection before
    fine: int = 2048
    skip: float = 0.9  # γ, the share of segments that is to be skipped
    # of a segment, a product and its sum as two: `fuse.policy.usage`
    gflops: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.segments < 1 or not 1 <= self.coarse <= self.fine:
            raise MmfError(
                f"{self.segments} segments, {self.coarse} coarse and {self.fine} fine units: "
                "expected at least 1 segment, and 1 ≤ coarse ≤ fine."
            )
        if not 0 <= self.skip <= 1 or min(self.gflops.values(), default=0) < 0:
            raise MmfError(
                f"skip = {self.skip}, gflops = {dict(self.gflops)}: expected a share between 0 and "
                "1, and costs of 0 or more."
            )


class LiteEval(SegmentFusion):
    """A coarse and a fine LSTM, and a gate between them."""

    Options = LiteEvalOptions

    def __init__(
        self,
        streams: Mapping[str, Stream],
        classes: int,
        options: LiteEvalOptions,
        recogniser: Recogniser,
    ):
        super().__init__()
        self.options, self.cells = options, [one.cells for one in streams.values()]
        self.modalities, self.clues = roles(streams, options.modalities, options.clues)
        self.segments, self.sampled = options.segments, options.sampled
        self.epochs, self.costs = _EPOCHS, options.gflops
        names = list(streams)
        self._fine = [names.index(name) for name in self.modalities]
        self._coarse = [names.index(name) for name in self.clues]
        small, large = ([streams[n].size for n in ns] for ns in (self.clues, self.modalities))
        self.missing_small = nn.ParameterList(torch.zeros(size) for size in small)
        self.missing_large = nn.ParameterList(torch.zeros(size) for size in large)
        self.project = nn.Linear(sum(small), options.coarse)
        self.coarse = nn.LSTMCell(options.coarse, options.coarse)
        self.gate = nn.Linear(options.coarse + 2 * options.fine, 2)
        self.fine = nn.LSTMCell(sum(large) + options.coarse, options.fine)
        self.classify = nn.Linear(options.fine, classes)

    @property
    def deciding(self) -> Sequence[nn.Module]:
        """All but the fine network."""
        return (self.project, self.coarse, self.gate)

    def forward(
        self,
        steps: Sequence[Float[Tensor, "B _ _"]],
        masks: Sequence[Bool[Tensor, "B _"]],
        noise: Float[Tensor, "B S M"] | None = None,
        temperature: float | None = None,
    ) -> Decided:
        """What the state says after the last segment."""
        cut = segmented(steps, masks, self.segments, self.cells)
        small = at_least_float32(self.project(_vectors(cut, self._coarse, self.missing_small)))
        large = at_least_float32(_vectors(cut, self._fine, self.missing_large))
        valid, uses = cut.valid, []
        h = c = small.new_zeros(small.shape[0], self.fine.hidden_size)
        coarse = None
        with torch.autocast(small.device.type, enabled=False):  # as an agent's steps
            for t, (x, y) in enumerate(zip(small.unbind(1), large.unbind(1), strict=True)):
                coarse = self.coarse(x, coarse)
                odds = self.gate(torch.cat([x, h, c], 1)) @ small.new_tensor([1.0, -1.0])
                use = decision(odds, None if noise is None else noise[:, t, 0], temperature)
                fine = self.fine(torch.cat([y, x], 1), (h, c))
                pairs = zip(coarse, (h, c), strict=True)
                kept = [torch.cat([s, old[:, s.shape[1] :]], 1) for s, old in pairs]
                here, share = valid[:, t, None], use[:, None]
                h, c = (
                    torch.where(here, share * new + (1 - share) * other, old)
                    for new, other, old in zip(fine, kept, (h, c), strict=True)
                )
                uses.append(use)
            logits = self.classify(h)
        there = torch.stack([cut.there(m) for m in self._fine], 2)  # (B, S, M)
        used = torch.stack(uses, 1)[..., None] * there
        logits = logits * valid.any(1, keepdim=True)
        return Decided(logits=logits, used=used, there=there, valid=valid)

    def stage(self, step: int, steps: int, epoch_steps: int) -> Stage:
        """The same throughout, but for temperature and weight."""
        return Stage(
            name="whole",
            temperature=max(0.5, math.exp(-1e-4 * step)),
            weight=2 - math.exp(-step / -(-steps // epoch_steps)),
        )

    def loss(
        self,
        decided: Decided,
        labels: Float[Tensor, "B C"],
        rated: Bool[Tensor, "B C"],
        loss: Loss,
        stage: Stage,
    ) -> Float[Tensor, ""]:
        """That of the answers, and how far what is skipped is from the share that is wanted."""
        used = decided.used.amax(2).sum() / decided.valid.sum().clamp_min(1)
        away = (1 - used - self.options.skip).square()
        return loss(decided.logits, labels, rated) + stage.weight * away


def _vectors(
    cut: Segmented, features: Sequence[int], missing: nn.ParameterList
) -> Float[Tensor, "B S D"]:
    """The mean rows of some features in each segment, side by side."""
    vectors = [means(cut.steps[m], cut.masks[m]) for m in features]
    present = torch.stack([cut.masks[m].any(1) for m in features], 1)
    return torch.cat(filled(vectors, present, missing), 1).unflatten(0, cut.valid.shape)
