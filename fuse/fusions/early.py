"""Early fusion: last-layer features as tokens of a transformer, then an MLP.

After the tokens of all features and one learned token that stands for the item, with W_m a linear
layer of each feature m whose bias b_m is also the embedding of its modality,

    f = MLP( Transformer( [token, W_1 x_11 + b_1, …, W_M x_MT + b_M] )_0 )

where the transformer is a stack of encoder layers (Vaswani et al., NeurIPS 2017; those of
`fuse.text.bert`) and the MLP is ``W_b relu(W_a h + b_a) + b_b``. ``early`` takes every row of every
feature for a token, ``early_vectors`` the one vector that the aggregator makes of each feature.
Rows have no positions: their order does not count. A token that is not there is not attended to.

The paper's sizes are not known; these are small, for features that are strong already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.fusions.contract import StepFusion, Stream, VectorFusion
from mmf.fuse.text.bert import BertConfig, Encoder


@dataclass(frozen=True, kw_only=True)
class EarlyOptions:
    """Options of early fusion."""

    hidden: int = 256  # H
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1 or self.heads < 1 or not 0 <= self.dropout < 1:
            raise MmfError(
                f"early fusion of {self.layers} layers, {self.hidden} units and {self.heads} heads "
                f"with dropout {self.dropout}: expected at least 1 of each, and 0 ≤ dropout < 1."
            )


class Early(StepFusion):
    """A transformer over the rows of all features."""

    Options = EarlyOptions

    def __init__(self, streams: Mapping[str, Stream], options: EarlyOptions, head_weights: int):
        super().__init__()
        self.tokens = Tokens([one.size for one in streams.values()], options)
        self.out_size = options.hidden

    def forward(
        self, steps: Sequence[Float[Tensor, "B _ _"]], masks: Sequence[Bool[Tensor, "B _"]]
    ) -> Float[Tensor, "B H"]:
        """The item's token behind the last layer, through the MLP."""
        return self.tokens(steps, masks)


class EarlyVectors(VectorFusion):
    """A transformer over one vector of each feature."""

    Options = EarlyOptions

    def __init__(self, sizes: Mapping[str, int], options: EarlyOptions, head_weights: int):
        super().__init__()
        self.tokens = Tokens(list(sizes.values()), options)
        self.out_size = options.hidden

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """The item's token behind the last layer, through the MLP."""
        return self.tokens([x.unsqueeze(1) for x in vectors], present.split(1, dim=1))


class Tokens(nn.Module):
    """Tokens of M features and one for the item, to that one's vector."""

    def __init__(self, sizes: Sequence[int], options: EarlyOptions):
        super().__init__()
        hidden = options.hidden
        config = BertConfig(
            hidden_size=hidden,
            num_hidden_layers=options.layers,
            num_attention_heads=options.heads,
            intermediate_size=4 * hidden,
            hidden_dropout_prob=options.dropout,
            attention_probs_dropout_prob=options.dropout,
            layer_norm_eps=1e-5,
        )
        self.projections = nn.ModuleList(nn.Linear(size, hidden) for size in sizes)
        self.item = nn.Parameter(torch.randn(hidden) * 0.02)
        self.encoder = Encoder(config)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(hidden, hidden),
        )

    def forward(
        self, steps: Sequence[Float[Tensor, "B _ _"]], masks: Sequence[Bool[Tensor, "B _"]]
    ) -> Float[Tensor, "B H"]:
        """(B, H)."""
        tokens = [project(x) for project, x in zip(self.projections, steps, strict=True)]
        item = self.item.expand(tokens[0].shape[0], 1, -1)
        there = [masks[0].new_ones(masks[0].shape[0], 1), *masks]
        x = self.encoder(torch.cat([item, *tokens], 1), torch.cat(there, 1))  # (B, 1 + S, H)
        return self.mlp(x[:, 0])
