"""The policy network: clues of a segment, and what was decided before, to a decision each.

AdaMML (Panda et al., ICCV 2021, arXiv:2105.05165): with x_t the clues of segment t side by side and
z_t the 2 logits (skip, use) of each of the M modalities,

    f_t = relu(W_2 relu(W_1 x_t))        h_t, c_t = LSTM([f_t, z_{t-1}]),  z_0 = 0
    z_t = W h_t

One LSTM for all modalities, so that each is decided in the light of the others. What is decided
depends on what came before alone, and padding stands behind.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmf.fuse.layers.normalise import at_least_float32


class Agent(nn.Module):
    """An MLP and an LSTM over the segments."""

    def __init__(self, sizes: Sequence[int], modalities: int, layers: Sequence[int], hidden: int):
        super().__init__()
        self.missing = nn.ParameterList(torch.zeros(size) for size in sizes)  # clues that are not
        widths = [sum(sizes), *layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            parts += [nn.Linear(before, after), nn.ReLU()]
        self.mlp = nn.Sequential(*parts)
        self.cell = nn.LSTMCell(widths[-1] + 2 * modalities, hidden)
        self.heads = nn.Linear(hidden, 2 * modalities)

    def forward(self, clues: Float[Tensor, "B S D"]) -> Float[Tensor, "B S M 2"]:
        """Logits of skipping and using each modality in each segment."""
        each = at_least_float32(self.mlp(clues)).unbind(1)
        logits = each[0].new_zeros(each[0].shape[0], self.heads.out_features)
        state, found = None, []
        with torch.autocast(clues.device.type, enabled=False):  # small, and rounding would decide
            for x in each:
                state = self.cell(torch.cat([x, logits], 1), state)
                logits = self.heads(state[0])
                found.append(logits)
        return torch.stack(found, 1).unflatten(2, (-1, 2))
