"""NetVLAD: what the steps leave over beside K learned centres; NetRVLAD: the same without centres.

Arandjelović et al., CVPR 2016, arXiv:1511.07247; for video Miech, Laptev and Sivic 2017,
arXiv:1706.06905 (LOUPE). Of steps x_t of size D, one item at a time,

    a_t = softmax_K( BN(W^T x_t) )                            soft assignment; BN replaces the bias
    V_k = sum_t a_tk x_t - (sum_t a_tk) c_k                   (D,); NetRVLAD has no c
    f   = L2( [L2(V_1), …, L2(V_K)] )                         with D outermost, as in the source
    out = H^T f                                               without a bias, as in LOUPE

a is zero for steps that are not there before anything is summed, and they do not count in BN. The
centres c start apart from W. L2 clamps the squared length at 1e-12, as TensorFlow does.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.layers.batch_norm import BatchNorm, pack, unpack
from mmf.fuse.layers.normalise import at_least_float32, unit


@dataclass(frozen=True, kw_only=True)
class NetVLADOptions:
    """Options of NetVLAD and of NetRVLAD."""

    clusters: int = 8  # K; 8 for MFB, 256 in the best single model of LOUPE's authors
    hidden: int = 1024  # units of the layer behind; 0 is none, and D K numbers come out
    batch_norm: bool = True  # of the assignment; False: a bias

    def __post_init__(self) -> None:
        if self.clusters < 1 or self.hidden < 0:
            raise MmfError(
                f"NetVLAD with {self.clusters} clusters and {self.hidden} hidden units: "
                "expected at least 1 and 0."
            )


class NetVLAD(nn.Module):
    """Soft-assigned residuals to K centres, normalised and projected."""

    Options = NetVLADOptions
    centred = True

    def __init__(self, size: int, options: NetVLADOptions):
        super().__init__()
        clusters = options.clusters
        self.assign = nn.Linear(size, clusters, bias=not options.batch_norm)
        for parameter in self.assign.parameters():
            nn.init.normal_(parameter, std=size**-0.5)
        self.norm = BatchNorm(clusters) if options.batch_norm else nn.Identity()
        self.centres = (
            nn.Parameter(torch.randn(size, clusters) * size**-0.5) if self.centred else None
        )
        self.hidden: nn.Module = nn.Identity()
        if options.hidden:
            self.hidden = nn.Linear(size * clusters, options.hidden, bias=False)
            nn.init.normal_(self.hidden.weight, std=clusters**-0.5)
        self.out_size = options.hidden or size * clusters

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B H"]:
        """(B, hidden) or (B, D K); zeros for an item without a step."""
        # K numbers a step are packed rather than D: copying x costs more than steps not there
        scores = at_least_float32(self.norm(pack(self.assign(x), mask)))  # (N, K)
        assigned = unpack(scores.softmax(1), mask)  # (B, T, K)
        residuals = unit(residual_sums(x, assigned, self.centres), 1)  # (B, D, K)
        return self.hidden(unit(residuals.flatten(1), 1))


class NetRVLAD(NetVLAD):
    """NetVLAD without centres: sums of steps in place of sums of residuals."""

    centred = False


def residual_sums(
    x: Float[Tensor, "B T D"],
    assigned: Float[Tensor, "B T K"],
    centres: Float[Tensor, "D K"] | None,
) -> Float[Tensor, "B D K"]:
    """``sum_t a_tk x_t - (sum_t a_tk) c_k``; assignments are zero where there is no step."""
    sums = at_least_float32(assigned.transpose(1, 2) @ x.to(assigned.dtype)).transpose(1, 2)
    return sums if centres is None else sums - assigned.sum(1).unsqueeze(1) * centres
