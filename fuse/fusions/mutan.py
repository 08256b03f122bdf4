"""MUTAN: a Tucker decomposition of the bilinear form, with a core of low rank.

Ben-younes, Cadene, Cord and Thome, ICCV 2017, arXiv:1705.06676. With a projection W_m of each
feature to t numbers, and r slices of rank 1 in the core,

    f = sum_r prod_m ( N_rm (W_m x_m + a_m) + b_rm )      (B, o)

t, o and the rank are those of the code of Ben-younes et al. 2019 (arXiv:1902.00038), where t = o.
The last projection of the paper is the head's. A feature that an item lacks is the factor 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.fusions.contract import VectorFusion
from mmf.fuse.fusions.products import product, projection, refuse_one


@dataclass(frozen=True, kw_only=True)
class MutanOptions:
    """Options of MUTAN; the defaults make 2 · 38.4 M parameters of two features."""

    size: int = 1600  # t, of each feature's first projection
    rank: int = 15  # r
    outputs: int = 1600  # o

    def __post_init__(self) -> None:
        for name in ("size", "rank", "outputs"):
            if getattr(self, name) < 1:
                raise MmfError(f"{name} = {getattr(self, name)}: expected at least 1.")


class Mutan(VectorFusion):
    """A sum of products of two projections, one after the other, of each of M ≥ 2 features."""

    Options = MutanOptions

    def __init__(self, sizes: Mapping[str, int], options: MutanOptions, head_weights: int):
        super().__init__()
        refuse_one("mutan", sizes)
        units = options.rank * options.outputs
        self.projections = nn.ModuleList(
            nn.Sequential(projection(size, options.size), projection(options.size, units))
            for size in sizes.values()
        )
        self.rank, self.out_size = options.rank, options.outputs

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """(B, o)."""
        factors = [fc(x) for fc, x in zip(self.projections, vectors, strict=True)]  # (B, r o)
        return product(factors, present).unflatten(1, (self.rank, -1)).sum(1)
