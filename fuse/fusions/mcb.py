"""Multimodal compact bilinear pooling (MCB): the outer product, sketched.

Fukui, Park, Yang, Rohrbach, Darrell and Rohrbach, EMNLP 2016, arXiv:1606.01847, Algorithm 1; the
sketch of a product as a convolution is Pham and Pagh's (KDD 2013). With hashes h_m to o places and
signs s_m, drawn once,

    y_m[j] = sum of s_m[i] x_m[i] over all i with h_m[i] = j      (B, o)
    f = L2( sign sqrt( y_1 ∗ … ∗ y_M ) ),  y ∗ z = IFFT( FFT(y) FFT(z) )

Nothing is learned. The hashes follow from `seed` and are kept with the weights. A feature that an
item lacks is the neutral element of the convolution, 1 at place 0, whose FFT is 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, fft

from mmf import MmfError, unknown
from mmf.fuse.fusions.contract import VectorFusion
from mmf.fuse.fusions.products import POWERS, normalised, refuse_one
from mmf.fuse.layers.normalise import at_least_float32


@dataclass(frozen=True, kw_only=True)
class MCBOptions:
    """Options of MCB; the defaults are the paper's."""

    outputs: int = 16000  # o
    power: Literal["relu", "signed_sqrt", "none"] = "signed_sqrt"  # before the last L2
    seed: int = 0  # of hashes and signs

    def __post_init__(self) -> None:
        if self.outputs < 1:
            raise MmfError(f"outputs = {self.outputs}: expected at least 1.")
        if self.power not in POWERS:
            raise unknown("power normalisation", self.power, POWERS)


class MCB(VectorFusion):
    """The count sketch of the outer product of M ≥ 2 features."""

    Options = MCBOptions
    places: Tensor  # int64 (D_1 + … + D_M): h
    signs: Tensor  # float (D_1 + … + D_M): s

    def __init__(self, sizes: Mapping[str, int], options: MCBOptions, head_weights: int):
        super().__init__()
        refuse_one("mcb", sizes)
        self.sizes, self.power, self.out_size = [*sizes.values()], options.power, options.outputs
        drawn = torch.Generator().manual_seed(options.seed)
        n = sum(self.sizes)
        self.register_buffer("places", torch.randint(options.outputs, (n,), generator=drawn))
        self.register_buffer("signs", 2.0 * torch.randint(2, (n,), generator=drawn) - 1)

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """(B, o), rows of length 1."""
        spectra = [
            torch.where(here, fft.rfft(sketch(x * sign, place, self.out_size)), 1.0)
            for x, sign, place, here in zip(
                (at_least_float32(x) for x in vectors),
                self.signs.split(self.sizes),
                self.places.split(self.sizes),
                present.unsqueeze(2).unbind(1),
                strict=True,
            )
        ]
        return normalised(fft.irfft(reduce(torch.mul, spectra), n=self.out_size), self.power)


def sketch(x: Float[Tensor, "B D"], places: Int[Tensor, " D"], size: int) -> Float[Tensor, "B H"]:
    """The sums of the numbers that fall on the same place."""
    return x.new_zeros(size, x.shape[0]).index_add(0, places, x.T).T
