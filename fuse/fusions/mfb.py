"""Multimodal factorised bilinear pooling (MFB).

Yu, Yu, Fan and Tao, ICCV 2017, arXiv:1708.01471; for video Liu, Yuan, et al. 2018. With M features
x_m of size D_m, k factors and o outputs,

    z = Dropout( prod_m (U_m^T x_m + b_m) )      (B, o k)
    f = L2( ReLU( sum over the k factors of each output (z) ) )      (B, o)

where the k factors of one output are consecutive. The product for M = 2 is the paper's; a feature
that an item lacks contributes the factor 1. ReLU stands in for the paper's power normalisation
``sign(f) sqrt|f|``, which `power="signed_sqrt"` gives back in a form with a finite gradient at 0.
The product is homogeneous of degree M in the inputs' scale, hence the L2 on the inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError, unknown
from mmf.fuse.fusions.contract import VectorFusion
from mmf.fuse.normalise import at_least_float32

POWERS = ("relu", "signed_sqrt", "none")
_EPSILON = 1e-6  # of the signed square root: its steepest slope is 1 / (2 sqrt(1e-6)) = 500


@dataclass(frozen=True, kw_only=True)
class MFBOptions:
    """Options of MFB; k, o and the dropout are the authors' code's (vqa-mfb)."""

    factors: int = 5  # k
    outputs: int = 1000  # o
    dropout: float = 0.1  # of the product, before it is summed
    power: Literal["relu", "signed_sqrt", "none"] = "relu"  # after the sum, before the last L2
    l2_inputs: bool = True

    def __post_init__(self) -> None:
        if self.factors < 1 or self.outputs < 1:
            raise MmfError(
                f"MFB with {self.factors} factors and {self.outputs} outputs: expected at least 1."
            )
        if self.power not in POWERS:
            raise unknown("power normalisation", self.power, POWERS)


class MFB(VectorFusion):
    """Low-rank bilinear pooling of M ≥ 2 features."""

    Options = MFBOptions

    def __init__(self, sizes: Mapping[str, int], options: MFBOptions, head_weights: int):
        super().__init__()
        if len(sizes) < 2:
            _refuse_one(*sizes)
        self.options = options
        units = options.outputs * options.factors
        self.projections = nn.ModuleList(_projection(size, units) for size in sizes.values())
        self.dropout = nn.Dropout(options.dropout)
        self.out_size = options.outputs

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """(B, o), rows of length 1, or of 0 where nothing is left after ReLU."""
        product: Tensor | None = None
        for x, here, project in zip(
            vectors, present.unsqueeze(2).unbind(1), self.projections, strict=True
        ):
            x = functional.normalize(x, dim=1) if self.options.l2_inputs else x
            factor = torch.where(here, at_least_float32(project(x)), 1.0)  # (B, o k)
            product = factor if product is None else product * factor
        pooled = self.dropout(product).unflatten(1, (-1, self.options.factors)).sum(2)  # (B, o)
        return functional.normalize(_power(pooled, self.options.power), dim=1)


def _projection(size: int, units: int) -> nn.Linear:
    layer = nn.Linear(size, units)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _power(x: Tensor, power: str) -> Tensor:
    if power == "relu":
        return x.relu()
    if power == "signed_sqrt":
        return x.sign() * ((x.abs() + _EPSILON).sqrt() - _EPSILON**0.5)
    return x


def _refuse_one(name: str = "") -> None:
    other = "audio" if name == "rgb" else "rgb"
    raise MmfError(
        f"fusion 'mfb' multiplies two features or more; got {name or 'none'}. "
        f"Run `mmf extract --modality {other}` first, name more --features, or train with "
        "--fusion single."
    )
