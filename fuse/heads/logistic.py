"""The logistic head: a linear unit per class."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class LogisticOptions:
    """A logistic head has no options."""


class Logistic(nn.Module):
    """One linear unit per class: ``logit = w·x + b``."""

    Options = LogisticOptions

    def __init__(self, size: int, classes: int, options: LogisticOptions):
        super().__init__()
        self.linear = nn.Linear(size, classes)

    @staticmethod
    def weights_per_input(classes: int, options: LogisticOptions) -> int:
        """One weight per class."""
        return classes

    def forward(self, x: Float[Tensor, "B H"]) -> Float[Tensor, "B C"]:
        """Logits of the classes."""
        return self.linear(x)
