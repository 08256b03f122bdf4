"""MLP-Mixer over the steps of all features, one after another as tokens.

Tolstikhin et al., NeurIPS 2021, arXiv:2105.01601; after Google's own code (vit_jax). Each feature's
steps (frames, cells of a spectrogram's grid, sub-words) go through a linear layer of their own to
tokens (B, S, H), S the sum of fixed lengths. A block is

    U = X + (W_2 gelu(W_1 LN(X)^T + b_1) + b_2)^T      W_1: K × S, over tokens, K = H / 2
    Y = U + W_4 gelu(W_3 LN(U) + b_3) + b_4            W_3: 4 H × H, over channels

and the answer is the mean over tokens of ``LN(Y)`` of the last block. gelu is the tanh form and LN
has ε = 1e-6, as there. Google's zero first weights of the head are left to the head.

The weights over tokens belong to positions: S and the features' order are part of the network, and
another order of the steps is another input. Tokens that are not there are exact zeros between LN
and W_1 and after each block, and do not count in the mean: neither padding nor what stands in a
missing feature can change the answer; an item without any step gives zeros. An embedding of each
modality would add nothing to the bias of its linear layer, which is that embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError
from mmf.fuse.fusions.contract import StepFusion, Stream
from mmf.fuse.fusions.tokens import fitted, token_lengths

_EPSILON = 1e-6  # of LN; Flax's


@dataclass(frozen=True, kw_only=True)
class MixerOptions:
    """Options of the Mixer; the defaults are those of Mixer-B (S: 512 and 8, L: 1024 and 24)."""

    hidden: int = 768  # H
    blocks: int = 12
    tokens_mlp: int = 0  # K, units over tokens; 0 is half of hidden
    channels_mlp: int = 0  # units over channels; 0 is four times hidden
    lengths: Mapping[str, int] = field(default_factory=dict)  # tokens by feature; else all steps

    def __post_init__(self) -> None:
        if self.hidden < 2 or self.blocks < 1 or min(self.tokens_mlp, self.channels_mlp) < 0:
            raise MmfError(
                f"a Mixer with {self.blocks} blocks of {self.hidden} units, {self.tokens_mlp} over "
                f"tokens and {self.channels_mlp} over channels: expected at least 1 block and 2 "
                "units, and 0 or more in the others."
            )


class Mixer(StepFusion):
    """MLPs over tokens and over channels in turn, then the mean."""

    Options = MixerOptions
    positional = True

    def __init__(self, streams: Mapping[str, Stream], options: MixerOptions, head_weights: int):
        super().__init__()
        hidden = self.out_size = options.hidden
        self.lengths = tuple(token_lengths(streams, options.lengths).values())
        self.projections = nn.ModuleList(nn.Linear(s.size, hidden) for s in streams.values())
        tokens, channels = options.tokens_mlp or hidden // 2, options.channels_mlp or 4 * hidden
        self.blocks = nn.ModuleList(
            Block(sum(self.lengths), hidden, tokens, channels) for _ in range(options.blocks)
        )
        self.norm = nn.LayerNorm(hidden, eps=_EPSILON)
        self.apply(_initialise)

    def forward(
        self, steps: Sequence[Float[Tensor, "B _ _"]], masks: Sequence[Bool[Tensor, "B _"]]
    ) -> Float[Tensor, "B H"]:
        """The mean token."""
        tokens, there = [], []
        for x, mask, length, project in zip(
            steps, masks, self.lengths, self.projections, strict=True
        ):
            x, mask = fitted(x, mask, length)
            tokens.append(project(x))
            there.append(mask)
        mask = torch.cat(there, 1).unsqueeze(2)  # (B, S, 1)
        x = torch.cat(tokens, 1).masked_fill(~mask, 0)  # (B, S, H)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x).masked_fill(~mask, 0).sum(1) / mask.sum(1).clamp_min(1)


class Block(nn.Module):
    """One block of a Mixer, for tokens that are zeros where the mask is False."""

    def __init__(self, tokens: int, hidden: int, tokens_mlp: int, channels_mlp: int):
        super().__init__()
        self.norm_tokens = nn.LayerNorm(hidden, eps=_EPSILON)
        self.mix_tokens = MLP(tokens, tokens_mlp)
        self.norm_channels = nn.LayerNorm(hidden, eps=_EPSILON)
        self.mix_channels = MLP(hidden, channels_mlp)

    def forward(
        self, x: Float[Tensor, "B S H"], mask: Bool[Tensor, "B S 1"]
    ) -> Float[Tensor, "B S H"]:
        """The block's tokens."""
        y = self.norm_tokens(x).masked_fill(~mask, 0).transpose(1, 2)  # (B, H, S)
        x = x + self.mix_tokens(y).transpose(1, 2)  # (B, S, H)
        return (x + self.mix_channels(self.norm_channels(x))).masked_fill(~mask, 0)


class MLP(nn.Module):
    """``W_2 gelu(W_1 x + b_1) + b_2`` along the last dimension."""

    def __init__(self, size: int, units: int):
        super().__init__()
        self.inner = nn.Linear(size, units)
        self.outer = nn.Linear(units, size)

    def forward(self, x: Float[Tensor, "B _ N"]) -> Float[Tensor, "B _ N"]:
        """The same shape."""
        return self.outer(functional.gelu(self.inner(x), approximate="tanh"))


def _initialise(module: nn.Module) -> None:
    """First weights as Flax's: a normal of variance 1 / inputs, cut at two deviations; biases 0."""
    if isinstance(module, nn.Linear):
        sd = module.in_features**-0.5 / 0.87962566  # the cut takes that share of the deviation
        nn.init.trunc_normal_(module.weight, std=sd, a=-2 * sd, b=2 * sd)
        nn.init.zeros_(module.bias)
