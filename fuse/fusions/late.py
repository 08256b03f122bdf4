"""Late fusion: a small network on the logits that each feature alone gives.

``logits = MLP([ LN(logits_1), …, LN(logits_M) ])`` with one hidden layer, after the late fusion of
the HMDB51 study of multi-view action recognition. Features' logits are of different scales, under
which that study's own MLP learned little; so LayerNorm comes first. Of fewer than three classes it
would leave no more than a sign, and is left out.

With `runs`, the logits are those of trained runs of one feature each, which stay as they are;
without, everything is learned at once. In place of what an item lacks stands a learned vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.fusions.concat import filled
from mmf.fuse.fusions.contract import LogitFusion, check_dropout


@dataclass(frozen=True, kw_only=True)
class LateOptions:
    """Options of late fusion."""

    hidden: int = 512  # units of the hidden layer
    dropout: float = 0.1  # of them
    runs: tuple[str, ...] = ()  # trained ones, of a single feature each

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise MmfError(f"hidden = {self.hidden}: expected at least 1 unit.")
        check_dropout(self.dropout)


class Late(LogitFusion):
    """An MLP on the normalised logits of all features."""

    Options = LateOptions

    def __init__(self, features: Sequence[str], classes: int, options: LateOptions):
        super().__init__()
        self.runs = options.runs
        self.norms = nn.ModuleList(
            nn.LayerNorm(classes) if classes > 2 else nn.Identity() for _ in features
        )
        self.missing = nn.ParameterList(torch.zeros(classes) for _ in features)
        self.mlp = nn.Sequential(
            nn.Linear(len(features) * classes, options.hidden),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.hidden, classes),
        )

    def forward(
        self, logits: Float[Tensor, "B M C"], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B C"]:
        """What the MLP says of the logits of all features."""
        each = [norm(x) for norm, x in zip(self.norms, logits.unbind(1), strict=True)]
        return self.mlp(torch.cat(filled(each, present, self.missing), 1))
