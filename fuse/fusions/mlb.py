"""Multimodal low-rank bilinear pooling (MLB): the product of one projection of each feature.

Kim, On, Lim, Kim, Ha and Zhang, ICLR 2017, arXiv:1610.04325:

    f = prod_m s(W_m x_m + b_m)      (B, o)

It is a bilinear form of rank 1 for each output; the paper's further projection P is the head's. The
activation s is the paper's tanh or, as in the code of Ben-younes et al. 2019 (arXiv:1902.00038),
ReLU. A feature that an item lacks contributes the factor 1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError, unknown
from mmf.fuse.fusions.contract import VectorFusion
from mmf.fuse.fusions.products import product, projection, refuse_one

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "none": lambda x: x,
}


@dataclass(frozen=True, kw_only=True)
class MLBOptions:
    """Options of MLB; the size is the paper's best."""

    outputs: int = 1200  # o
    activation: Literal["relu", "tanh", "none"] = "relu"

    def __post_init__(self) -> None:
        if self.outputs < 1:
            raise MmfError(f"outputs = {self.outputs}: expected at least 1.")
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)


class MLB(VectorFusion):
    """The product of an activated projection of each of M ≥ 2 features."""

    Options = MLBOptions

    def __init__(self, sizes: Mapping[str, int], options: MLBOptions, head_weights: int):
        super().__init__()
        refuse_one("mlb", sizes)
        self.projections = nn.ModuleList(
            projection(size, options.outputs) for size in sizes.values()
        )
        self.activation = ACTIVATIONS[options.activation]
        self.out_size = options.outputs

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """(B, o)."""
        each = zip(self.projections, vectors, strict=True)
        return product([self.activation(fc(x)) for fc, x in each], present)
