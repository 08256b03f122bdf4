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

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError, unknown
from mmf.fuse.fusions.contract import VectorFusion, check_dropout
from mmf.fuse.fusions.products import POWERS, normalised, product, projection, refuse_one


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
                f"{self.factors} factors and {self.outputs} outputs: expected at least 1 of each."
            )
        check_dropout(self.dropout)
        if self.power not in POWERS:
            raise unknown("power normalisation", self.power, POWERS)


class MFB(VectorFusion):
    """Low-rank bilinear pooling of M ≥ 2 features."""

    Options = MFBOptions

    def __init__(self, sizes: Mapping[str, int], options: MFBOptions, head_weights: int):
        super().__init__()
        refuse_one("mfb", sizes)
        self.options = options
        units = options.outputs * options.factors
        self.projections = nn.ModuleList(projection(size, units) for size in sizes.values())
        self.dropout = nn.Dropout(options.dropout)
        self.out_size = options.outputs

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """(B, o), rows of length 1, or of 0 where nothing is left after ReLU."""
        inputs = prepared(vectors, self.options)
        factors = [fc(x) for fc, x in zip(self.projections, inputs, strict=True)]  # (B, o k)
        return pooled(self.dropout(product(factors, present)), self.options)


def prepared(
    vectors: Sequence[Float[Tensor, "B _"]], options: MFBOptions
) -> Sequence[Float[Tensor, "B _"]]:
    """The vectors as the projections take them."""
    return [functional.normalize(x, dim=1) for x in vectors] if options.l2_inputs else vectors


def pooled(z: Float[Tensor, "B N"], options: MFBOptions) -> Float[Tensor, "B H"]:
    """The sum over the k factors of each output, (B, o k) → (B, o), normalised."""
    return normalised(z.unflatten(1, (-1, options.factors)).sum(2), options.power)
