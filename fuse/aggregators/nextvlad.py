"""NeXtVLAD: a widened step, cut into groups that share small centres, each group with a gate.

Lin, Xiao and Fan, ECCV workshops 2018, arXiv:1811.05014; linrongc/youtube-8m. With λ = `expansion`,
G groups of F = λ D / G and K clusters,

    x'_t  = E x_t + e                                         (λ D,), cut into G parts x'_tg (F,)
    g_tg  = sigmoid(A x'_t + a)                               the gate of a group
    a_tgk = g_tg softmax_K( BN(W x'_t) )                      assignment, (G, K) of each step
    V_k   = sum_t,g a_tgk (x'_tg - c_k)                       (F,), each to length 1
    out   = BN( H Dropout( BN([V_1, …, V_K]) ) )              with F outermost, as in the source

The source has one H behind the features' concatenation, and a gate behind that; here each feature
has its own H, and what follows is the fusion's.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError
from mmf.fuse.aggregators.netvlad import residual_sums
from mmf.fuse.layers.batch_norm import BatchNorm, pack, unpack
from mmf.fuse.layers.normalise import at_least_float32, unit


@dataclass(frozen=True, kw_only=True)
class NeXtVLADOptions:
    """Options of NeXtVLAD; the defaults are the paper's single model for YouTube-8M."""

    clusters: int = 128  # K
    groups: int = 8  # G; it divides λ D
    expansion: int = 2  # λ
    hidden: int = 2048  # units of the layer behind; 0 is none, and F K numbers come out
    dropout: float = 0.5  # before that layer

    def __post_init__(self) -> None:
        least = min(self.clusters, self.groups, self.expansion, self.hidden + 1)
        if least < 1 or not 0 <= self.dropout < 1:
            raise MmfError(
                f"NeXtVLAD with {self.clusters} clusters, {self.groups} groups, expansion "
                f"{self.expansion}, {self.hidden} hidden units and dropout {self.dropout}: "
                "expected at least 1 of the first three, 0 or more units, and a dropout in [0, 1)."
            )


class NeXtVLAD(nn.Module):
    """Gated, grouped residuals to K small centres, normalised and projected."""

    Options = NeXtVLADOptions

    def __init__(self, size: int, options: NeXtVLADOptions):
        super().__init__()
        wide, self.groups, clusters = size * options.expansion, options.groups, options.clusters
        if wide % self.groups:
            _refuse_groups(size, wide, options)
        part = wide // self.groups  # F
        self.expand = nn.Linear(size, wide)
        self.gate = nn.Linear(wide, self.groups)
        self.assign = nn.Linear(wide, self.groups * clusters, bias=False)
        self.norm = BatchNorm(self.groups * clusters)
        self.centres = nn.Parameter(torch.randn(part, clusters) * (2 / part) ** 0.5)
        self.after: nn.Module = BatchNorm(part * clusters)
        if options.hidden:
            hidden = nn.Linear(part * clusters, options.hidden, bias=False)
            dropout, norm = nn.Dropout(options.dropout), BatchNorm(options.hidden)
            self.after = nn.Sequential(self.after, dropout, hidden, norm)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.out_size = options.hidden or part * clusters

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B H"]:
        """(B, hidden) or (B, F K); zeros for an item without a step."""
        rows = self.expand(pack(x, mask))  # (N, λ D)
        gates = at_least_float32(self.gate(rows)).sigmoid().unsqueeze(2)  # (N, G, 1)
        scores = self.norm(self.assign(rows)).unflatten(1, (self.groups, -1))  # (N, G, K)
        assigned = self._grouped((gates * scores.softmax(2)).flatten(1), mask)  # (B, T G, K)
        sums = residual_sums(self._grouped(rows, mask), assigned, self.centres)  # (B, F, K)
        present = mask.any(1)
        return unpack(self.after(pack(unit(sums, 1).flatten(1), present)), present)

    def _grouped(
        self, rows: Float[Tensor, "N _"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B TG _"]:
        """The parts of the rows, each group of each step one after another."""
        return unpack(rows, mask).unflatten(2, (self.groups, -1)).flatten(1, 2)


def _refuse_groups(size: int, wide: int, options: NeXtVLADOptions) -> None:
    fit = [str(g) for g in range(1, 65) if wide % g == 0]
    raise MmfError(
        f"NeXtVLAD cuts {size} × expansion {options.expansion} = {wide} numbers into "
        f"{options.groups} groups, which does not go; groups that do are {', '.join(fit)}."
    )
