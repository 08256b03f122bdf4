"""Multimodal factorised high-order pooling (MFH): blocks of MFB in cascade.

Yu, Yu, Xiang, Fan and Tao, TNNLS 2018, arXiv:1708.03619. With p blocks, each with projections of
its own, and z_0 = 1,

    z_i = Dropout( z_(i-1) * prod_m (U_im^T x_m + b_im) )      (B, o k)
    f = [ pool(z_1), …, pool(z_p) ]      (B, p o)

where pool sums the k factors of each output, takes the signed square root and then L2, as in MFB's
paper. So block i is a form of degree i in each feature. One that an item lacks is the factor 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.fusions.contract import VectorFusion
from mmf.fuse.fusions.mfb import MFBOptions, pooled, prepared
from mmf.fuse.fusions.products import product, projection, refuse_one


@dataclass(frozen=True, kw_only=True)
class MFHOptions(MFBOptions):
    """Options of MFH: those of its blocks, and how many there are."""

    blocks: int = 2  # p
    power: Literal["relu", "signed_sqrt", "none"] = "signed_sqrt"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks < 1:
            raise MmfError(f"blocks = {self.blocks}: expected at least 1, and 2 for the paper's.")


class MFH(VectorFusion):
    """Blocks of MFB, each multiplied by the product of the one before."""

    Options = MFHOptions

    def __init__(self, sizes: Mapping[str, int], options: MFHOptions, head_weights: int):
        super().__init__()
        refuse_one("mfh", sizes)
        self.options = options
        units = options.outputs * options.factors
        self.projections = nn.ModuleList(  # block after block
            projection(size, units) for _ in range(options.blocks) for size in sizes.values()
        )
        self.dropout = nn.Dropout(options.dropout)
        self.out_size = options.outputs * options.blocks

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """(B, p o): p vectors of length 1 side by side."""
        inputs = prepared(vectors, self.options)
        z: Tensor | None = None
        parts = []
        for start in range(0, len(self.projections), len(inputs)):
            block = self.projections[start : start + len(inputs)]
            factors = [fc(x) for fc, x in zip(block, inputs, strict=True)]
            step = product(factors, present)  # (B, o k)
            z = self.dropout(step if z is None else z * step)
            parts.append(pooled(z, self.options))
        return torch.cat(parts, 1)
