"""Context gating: every number of a vector is let through as far as all of them together say.

Miech, Laptev and Sivic 2017, arXiv:1706.06905, section 3.1:

    y = x · sigmoid(BN(x W))      W square, N(0, 1 / sqrt(D))

A head may be gated where it takes the fused vector (`gates="input"`), in the probabilities that
it gives (`"output"`: ``p' = p · sigmoid(BN(p W))``), or in both. The second gates may also be read
from the input, which is a variant in the authors' code.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from mmf import MmfError, unknown
from mmf.fuse.config import build_options
from mmf.fuse.heads import HEADS
from mmf.fuse.layers.batch_norm import BatchNorm
from mmf.fuse.layers.normalise import at_least_float32

GATES = ("input", "output", "both")
READ_FROM = ("probabilities", "input")


class ContextGating(nn.Module):
    """``BN(x W)``, the logits of the gates of `size` numbers."""

    def __init__(self, inputs: int, size: int, *, batch_norm: bool, remove_diag: bool):
        super().__init__()
        self.linear = nn.Linear(inputs, size, bias=not batch_norm)
        nn.init.normal_(self.linear.weight, std=1 / math.sqrt(size))
        self.norm = BatchNorm(size) if batch_norm else nn.Identity()
        self.remove_diag = remove_diag

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B H"]:
        """Logits of the gates; without the diagonal, no number has a say in its own gate."""
        logits = self.linear(x)
        if self.remove_diag:
            logits = logits - self.linear.weight.diagonal() * x
        return at_least_float32(self.norm(logits))


@dataclass(frozen=True, kw_only=True)
class GatedOptions:
    """A head, and where it is gated."""

    head: str = "moe"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    gates: Literal["input", "output", "both"] = "output"
    read_from: Literal["probabilities", "input"] = "probabilities"  # the gates of the output
    remove_diag: bool = False  # of the square W's
    batch_norm: bool = True  # a bias otherwise

    def __post_init__(self) -> None:
        if self.gates not in GATES:
            raise unknown("place of gates", self.gates, GATES)
        if self.read_from not in READ_FROM:
            raise unknown("source of gates", self.read_from, READ_FROM)
        if self.head in ("gated", "sequence"):
            raise MmfError(f"head 'gated' gates logistic or moe; got {self.head!r}.")
        HEADS.load(self.head)

    @property
    def chosen(self) -> tuple[type[Any], Any]:
        """The head's class and its options."""
        kind = HEADS.load(self.head)
        return kind, build_options(kind.Options, self.head_options, "head_options")


class Gated(nn.Module):
    """A head with context gating before it, behind it, or both."""

    Options = GatedOptions

    def __init__(self, size: int, classes: int, options: GatedOptions):
        super().__init__()
        kind, its = options.chosen
        self.head = kind(size, classes, its)
        self.read_from = options.read_from
        square = {"batch_norm": options.batch_norm, "remove_diag": options.remove_diag}
        self.before = self.behind = None
        if options.gates != "output":
            self.before = ContextGating(size, size, **square)
        if options.gates != "input" and options.read_from == "probabilities":
            self.behind = ContextGating(classes, classes, **square)
        elif options.gates != "input":
            self.behind = ContextGating(size, classes, **{**square, "remove_diag": False})

    @staticmethod
    def weights_per_input(classes: int, options: GatedOptions) -> int:
        """Those of the head within, and of gates read from the input.

        The square of gates before the head is not counted: it is no number for each input.
        """
        kind, its = options.chosen
        read = options.gates != "input" and options.read_from == "input"
        return kind.weights_per_input(classes, its) + read * classes

    def forward(self, x: Float[Tensor, "B H"]) -> Float[Tensor, "B C"]:
        """Logits of the gated probabilities."""
        if self.before is not None:
            x = x * self.before(x).sigmoid()
        logits = at_least_float32(self.head(x))
        if self.behind is None:
            return logits
        gates = self.behind(x if self.read_from == "input" else logits.sigmoid())
        # p' = p g; 1 - p' = (1 - p) + p (1 - g), each as a logarithm
        yes = logsigmoid(logits) + logsigmoid(gates)
        no = torch.logaddexp(logsigmoid(-logits), logsigmoid(logits) + logsigmoid(-gates))
        return yes - no
