"""MMFTransformer: BERT's encoder over the steps of all features, the VisualBERT-like baseline.

Singh et al., MMF, 2020 (facebookresearch/mmf, ``mmf_transformer``); Li et al., VisualBERT,
arXiv:1908.03557. With s the feature's number and t the step's, a token is

    e = Dropout(LN_s( LN(W_s x + b_s) + position_s[t] + segment[s] ))

then BERT's layers over all tokens, and ``tanh(W h + b)`` of one vector h, and as the last before
the head ``LN(gelu(W Dropout(.) + b))``. Features named in `words` are BERT's word embeddings
already (`mmf.fuse.text.encoder` with no layers) and enter in the place of ``LN(W_s x + b_s)``.

h is theirs with ``pool="first"``: the first token of the first feature, which is [CLS] where that
is text. Frames and sound have none, so the default puts a learned token before all, and ``"mean"``
takes the mean of the tokens that are there. They give tokens that are missing a logit of -10,000;
here these are left out, so neither padding nor a missing feature counts, and an item may lack any
(of one without the first feature, ``"first"`` is what the encoder makes of an empty step).

`weights` begins from a published BERT as theirs does: layers and pooler, its positions copied for
each feature (as far as its 512 go), its two segments for the first two features and their mean with
noise of deviation 0.01 for the others, its [CLS] for the learned token. The sizes must be its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError, unknown
from mmf.fuse.fusions.contract import StepFusion, Stream
from mmf.fuse.fusions.tokens import cut, token_lengths
from mmf.fuse.text import weights as bert_weights
from mmf.fuse.text.bert import BertConfig, Dense, Embeddings, Encoder, initialise

POOLS = ("token", "first", "mean")
_CLS = 101  # [CLS] among the words of the published vocabularies


@dataclass(frozen=True, kw_only=True)
class MMFTransformerOptions:
    """Options of MMFTransformer; the sizes are those of BERT-base."""

    weights: str = ""  # bert:base, bert:large, a folder, hf://…: what it begins from; "": random
    hidden: int = 768  # H
    layers: int = 12
    heads: int = 12
    dropout: float = 0.1
    pool: Literal["token", "first", "mean"] = "token"
    words: str = ""  # features, joined by commas, that are word embeddings already
    lengths: Mapping[str, int] = field(default_factory=dict)  # tokens by feature; else all steps

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise unknown("pool of mmf_transformer", self.pool, POOLS)
        if self.hidden < 1 or self.layers < 1 or self.heads < 1 or not 0 <= self.dropout < 1:
            raise MmfError(
                f"an MMFTransformer of {self.layers} layers, {self.hidden} units and {self.heads} "
                f"heads with dropout {self.dropout}: expected at least 1 of each, and 0 ≤ dropout "
                "< 1."
            )

    @property
    def bert(self) -> BertConfig:
        """The encoder that it is."""
        return BertConfig(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.hidden,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
        )


class MMFTransformer(StepFusion):
    """Embeddings by feature, BERT's layers, one vector."""

    Options = MMFTransformerOptions
    positional = True

    def __init__(
        self, streams: Mapping[str, Stream], options: MMFTransformerOptions, head_weights: int
    ):
        super().__init__()
        self.options, hidden = options, options.hidden
        self.out_size = hidden
        words = _words(streams, options)
        self.lengths = tuple(token_lengths(streams, options.lengths).values())
        each = zip(streams.items(), self.lengths, strict=True)
        self.embeddings = nn.ModuleList(
            Embedding(one.size, length, options, words=name in words)
            for (name, one), length in each
        )
        self.segments = nn.Embedding(len(streams), hidden)
        self.token = nn.Parameter(torch.randn(hidden) * 0.02) if options.pool == "token" else None
        self.encoder = Encoder(options.bert)
        self.pooler = Dense(hidden, hidden)
        self.transform = nn.Sequential(
            nn.Dropout(options.dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.LayerNorm(hidden, eps=options.bert.layer_norm_eps),
        )
        self.apply(initialise)

    def forward(
        self, steps: Sequence[Float[Tensor, "B _ _"]], masks: Sequence[Bool[Tensor, "B _"]]
    ) -> Float[Tensor, "B H"]:
        """What the pooler and the transform make of the pooled token."""
        tokens, there = [], []
        for embed, segment, length, x, mask in zip(
            self.embeddings, self.segments.weight, self.lengths, steps, masks, strict=True
        ):
            x, mask = cut(x, mask, length)
            tokens.append(embed(x, segment))
            there.append(mask)
        if self.token is not None:
            tokens.insert(0, self.token.expand(tokens[0].shape[0], 1, -1))
            there.insert(0, there[0].new_ones(there[0].shape[0], 1))
        mask = torch.cat(there, 1)
        x = self.encoder(torch.cat(tokens, 1), mask)  # (B, S, H)
        if self.options.pool == "mean":
            h = x.masked_fill(~mask.unsqueeze(2), 0).sum(1) / mask.sum(1, True).clamp_min(1)
        else:
            h = x[:, 0]
        return self.transform(torch.tanh(self.pooler.dense(h)))

    def start(self) -> None:
        """Take first weights from the BERT that the options name; MmfError if it does not fit."""
        if not self.options.weights:
            return
        found = bert_weights.read(self.options.weights)
        if _sizes(found.config) != _sizes(self.options.bert):
            raise MmfError(
                f"the BERT in {found.where!r} has {bert_weights.said(found.config)}; "
                f"mmf_transformer is to have {bert_weights.said(self.options.bert)}. Give it the "
                f"same, e.g. --fusion-option hidden={found.config.hidden_size} --fusion-option "
                f"layers={found.config.num_hidden_layers} --fusion-option "
                f"heads={found.config.num_attention_heads}."
            )
        bert_weights.fill(self.encoder, found, "encoder.")
        if "pooler.dense.weight" in found.tensors:
            bert_weights.fill(self.pooler, found, "pooler.")
        embeddings = Embeddings(found.config).eval()
        bert_weights.fill(embeddings, found, "embeddings.")
        self._begin_embeddings(embeddings)

    @torch.no_grad()
    def _begin_embeddings(self, theirs: Embeddings) -> None:
        for embed in self.embeddings:
            if isinstance(embed, Embedding):
                embed.begin(theirs)
        segments = theirs.token_type_embeddings.weight
        n = min(len(segments), len(self.segments.weight))
        self.segments.weight[:n] = segments[:n]
        more = self.segments.weight[n:]
        more.copy_(segments.mean(0) + 0.01 * torch.randn(more.shape))
        if self.token is not None and theirs.word_embeddings.num_embeddings > _CLS:
            self.token.copy_(theirs(torch.tensor([[_CLS]]))[0, 0])


class Embedding(nn.Module):
    """The steps of one feature as tokens."""

    def __init__(self, size: int, length: int, options: MMFTransformerOptions, *, words: bool):
        super().__init__()
        self.words = words
        hidden, epsilon = options.hidden, options.bert.layer_norm_eps
        self.token = (
            nn.Identity()
            if words
            else nn.Sequential(nn.Linear(size, hidden), nn.LayerNorm(hidden, eps=epsilon))
        )
        self.positions = nn.Embedding(length, hidden)
        self.norm = nn.LayerNorm(hidden, eps=epsilon)
        self.dropout = nn.Dropout(options.dropout)

    def forward(
        self, x: Float[Tensor, "B T D"], segment: Float[Tensor, " H"]
    ) -> Float[Tensor, "B T H"]:
        """Token, position and segment, normalised."""
        there = self.positions.weight[: x.shape[1]] + segment
        return self.dropout(self.norm(self.token(x) + there))

    def begin(self, theirs: Embeddings) -> None:
        """Take BERT's positions, as far as they go, and for its words its normalisation."""
        positions = theirs.position_embeddings.weight
        n = min(len(positions), self.positions.num_embeddings)
        self.positions.weight[:n] = positions[:n]
        if self.words:
            self.norm.load_state_dict(theirs.LayerNorm.state_dict())


def _sizes(config: BertConfig) -> tuple[int, ...]:
    return (
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
    )


def _words(streams: Mapping[str, Stream], options: MMFTransformerOptions) -> set[str]:
    names = {name for name in options.words.split(",") if name}
    for name in names:
        if name not in streams:
            raise unknown("feature of words", name, streams)
        if streams[name].size != options.hidden:
            raise MmfError(
                f"words: the rows of {name!r} have {streams[name].size} numbers; word embeddings "
                f"of this encoder have {options.hidden}."
            )
    return names
