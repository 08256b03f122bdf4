"""Mixture of experts: a few logistic experts for each class, and gates that weigh them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError
from mmf.fuse.layers.normalise import at_least_float32


@dataclass(frozen=True, kw_only=True)
class MixtureOfExpertsOptions:
    """Options of the mixture of experts; the defaults are the source's."""

    mixtures: int = 2  # m, experts per class
    dummy_expert: bool = True  # a further gate whose expert always says 0

    def __post_init__(self) -> None:
        if self.mixtures < 1:
            raise MmfError(f"mixtures = {self.mixtures}: expected at least 1 expert per class.")


class MixtureOfExperts(nn.Module):
    """Per class, m logistic experts weighed by a softmax gate.

    ``p_c = sum_j softmax_j(g_cj) sigmoid(e_cj)``, gates without bias, experts with.
    Jordan and Jacobs 1994; google/youtube-8m ``video_level_models.MoeModel``. The output is p's
    logit, ``log p - log (1 - p)``, each term by logsumexp, so a loss from it is exact at every p.
    """

    Options = MixtureOfExpertsOptions

    def __init__(self, size: int, classes: int, options: MixtureOfExpertsOptions):
        super().__init__()
        self.classes = classes
        self.dummy = options.dummy_expert
        self.gates = nn.Linear(size, classes * (options.mixtures + self.dummy), bias=False)
        self.experts = nn.Linear(size, classes * options.mixtures)

    @staticmethod
    def weights_per_input(classes: int, options: MixtureOfExpertsOptions) -> int:
        """Gates and experts of every class."""
        return classes * (2 * options.mixtures + options.dummy_expert)

    def forward(self, x: Float[Tensor, "B H"]) -> Float[Tensor, "B C"]:
        """Logits of the classes."""
        shape = (self.classes, -1)
        gates = (
            at_least_float32(self.gates(x)).unflatten(1, shape).log_softmax(2)
        )  # (B, C, m (+ 1))
        experts = at_least_float32(self.experts(x)).unflatten(1, shape)  # (B, C, m)
        m = experts.shape[2]
        yes = gates[..., :m] + functional.logsigmoid(experts)
        no = gates[..., :m] + functional.logsigmoid(-experts)
        if self.dummy:
            no = torch.cat([no, gates[..., m:]], 2)
        return yes.logsumexp(2) - no.logsumexp(2)
