"""One feature alone: the baseline of every fusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from mmf import MmfError
from mmf.fuse.fusions.contract import VectorFusion


@dataclass(frozen=True, kw_only=True)
class SingleOptions:
    """A single feature has no options."""


class Single(VectorFusion):
    """Hands the one feature's vector on; no parameters."""

    Options = SingleOptions

    def __init__(self, sizes: Mapping[str, int], options: SingleOptions, head_weights: int):
        super().__init__()
        if len(sizes) != 1:
            raise MmfError(
                f"fusion 'single' takes one feature; got {', '.join(sizes) or 'none'}. "
                f"Choose one, e.g. --features {next(iter(sizes), 'rgb')}, or --fusion concat."
            )
        (self.out_size,) = sizes.values()

    def forward(
        self, vectors: Sequence[Float[Tensor, "B _"]], present: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B H"]:
        """The vector itself."""
        return vectors[0]
