"""BERT's encoder, with the names that its published tensors have.

Devlin, Chang, Lee and Toutanova, NAACL 2019, arXiv:1810.04805. A layer is

    a = LN(x + Attention(x)),    y = LN(a + W_2 gelu(W_1 a))

with the normalisation behind each sum. Positions that the mask leaves out are never attended to;
they have outputs of their own, which mean nothing.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The sizes of a BERT under the names of its config.json; the defaults are those of base."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise MmfError(
                f"a hidden size of {self.hidden_size} cannot be shared among "
                f"{self.num_attention_heads} heads; expected a multiple of the heads."
            )


class Bert(nn.Module):
    """Ids of sub-words to vectors; without the pooler."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.apply(initialise)

    def forward(
        self, ids: Int64[Tensor, "B N"], mask: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N D"]:
        """The last layer's vectors of the sub-words."""
        return self.encoder(self.embeddings(ids), mask)


class Embeddings(nn.Module):
    """``LN(word + position + type 0)``."""

    def __init__(self, config: BertConfig):
        super().__init__()
        size = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """What the first layer is given."""
        there = (
            self.position_embeddings.weight[: ids.shape[1]] + self.token_type_embeddings.weight[0]
        )
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + there))


class Encoder(nn.Module):
    """The layers, one after another."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self, x: Float[Tensor, "B N D"], mask: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N D"]:
        """The last layer's vectors."""
        # where nothing is there all may be attended to: a softmax over nothing is NaN
        seen = (mask | ~mask.any(1, keepdim=True))[:, None, None, :]  # (B, 1, 1, N)
        for layer in self.layer:
            x = layer(x, seen)
        return x


class Layer(nn.Module):
    """Self-attention and an MLP of each position, each with its sum and normalisation."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Dense(config.hidden_size, config.intermediate_size)
        self.output = AddAndNorm(config.intermediate_size, config)

    def forward(self, x: Float[Tensor, "B N D"], seen: Bool[Tensor, "B 1 1 N"]) -> Tensor:
        """(B, N, D)."""
        a = self.attention(x, seen)
        return self.output(functional.gelu(self.intermediate.dense(a)), a)


class Attention(nn.Module):
    """``LN(x + W_o softmax(Q K^T / sqrt d) V)``, over the positions that are seen."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.width = config.hidden_size
        self.self = QueryKeyValue(config)
        self.output = AddAndNorm(config.hidden_size, config)

    def forward(self, x: Float[Tensor, "B N D"], seen: Bool[Tensor, "B 1 1 N"]) -> Tensor:
        """(B, N, D)."""
        return self.output(self.self(x, seen), x)


class QueryKeyValue(nn.Module):
    """The heads of the attention, side by side."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob

    def forward(self, x: Float[Tensor, "B N D"], seen: Bool[Tensor, "B 1 1 N"]) -> Tensor:
        """(B, N, D)."""
        q, k, v = (self._heads(part, x) for part in (self.query, self.key, self.value))
        dropout = self.dropout if self.training else 0.0
        heads = functional.scaled_dot_product_attention(q, k, v, seen, dropout_p=dropout)
        return heads.transpose(1, 2).flatten(2)  # (B, N, D)

    def weights(
        self, x: Float[Tensor, "B N D"], seen: Bool[Tensor, "B 1 1 N"]
    ) -> Float[Tensor, "B _ N N"]:
        """What each head multiplies the values with, without dropout; computed for itself."""
        q, k = self._heads(self.query, x), self._heads(self.key, x)
        scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
        return scores.masked_fill(~seen, -float("inf")).softmax(3)

    def _heads(self, part: nn.Module, x: Tensor) -> Float[Tensor, "B _ N d"]:
        return part(x).unflatten(2, (self.heads, -1)).transpose(1, 2)


class Dense(nn.Module):
    """A linear layer under the name that the published tensors give it."""

    def __init__(self, size: int, out_size: int):
        super().__init__()
        self.dense = nn.Linear(size, out_size)


class AddAndNorm(nn.Module):
    """``LN(beside + Dropout(W x + b))``."""

    def __init__(self, size: int, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Float[Tensor, "B N _"], beside: Float[Tensor, "B N D"]) -> Tensor:
        """(B, N, D)."""
        return self.LayerNorm(beside + self.dropout(self.dense(x)))


def initialise(module: nn.Module) -> None:
    """First weights as BERT's: N(0, 0.02), biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
