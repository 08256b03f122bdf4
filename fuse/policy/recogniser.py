"""The network of one modality in one segment: an aggregator of its steps, dropout, a head."""

from jaxtyping import Bool, Float
from torch import Tensor, nn


class Recogniser(nn.Module):
    """The run's own aggregator and head, for rows of one feature."""

    def __init__(self, aggregate: nn.Module, dropout: float, head: nn.Module):
        super().__init__()
        self.aggregate, self.dropout, self.head = aggregate, nn.Dropout(dropout), head

    def forward(self, x: Float[Tensor, "B R D"], mask: Bool[Tensor, "B R"]) -> Float[Tensor, "B C"]:
        """Logits of the classes."""
        return self.head(self.dropout(self.aggregate(x, mask)))
