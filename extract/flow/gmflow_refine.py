"""UniMatch's local regression: a recurrent unit that corrects the flow step by step.

Xu et al., Unifying Flow, Stereo and Depth Estimation, TPAMI 2023, section 3.4; the unit is RAFT's
(Teed and Deng, ECCV 2020). The names of the weights are the published ones.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class _Motion(nn.Module):
    def __init__(self, taps: int):
        super().__init__()
        self.convc1 = nn.Conv2d(taps, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(64 + 192, 128 - 2, 3, padding=1)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        seen = self.convc2(self.convc1(correlation).relu()).relu()
        moved = self.convf2(self.convf1(flow).relu()).relu()
        return torch.cat([self.conv(torch.cat([seen, moved], 1)).relu(), flow], 1)


class _Gru(nn.Module):
    """A gated recurrent unit of 1 × 5, then one of 5 × 1 convolutions."""

    def __init__(self, hidden: int, given: int):
        super().__init__()
        for number, size in (("1", (1, 5)), ("2", (5, 1))):
            for gate in "zrq":
                padding = (size[0] // 2, size[1] // 2)
                conv = nn.Conv2d(hidden + given, hidden, size, padding=padding)
                self.add_module(f"conv{gate}{number}", conv)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        for number in "12":
            z, r, q = (self.get_submodule(f"conv{gate}{number}") for gate in "zrq")
            both = torch.cat([h, x], 1)
            keep = torch.sigmoid(z(both))
            fresh = torch.tanh(q(torch.cat([torch.sigmoid(r(both)) * h, x], 1)))
            h = (1 - keep) * h + keep * fresh
        return h


class _Head(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv2(self.conv1(h).relu())


class Refinement(nn.Module):
    """One step: hidden state, context, correlation and flow → hidden state, change of the flow."""

    def __init__(self, *, taps: int, factor: int, hidden: int = 128):
        super().__init__()
        self.encoder = _Motion(taps)
        self.gru = _Gru(hidden, 2 * hidden)
        self.flow_head = _Head(hidden)
        self.mask = nn.Sequential(
            nn.Conv2d(hidden, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, factor**2 * 9, 1)
        )

    def forward(
        self,
        state: Float[Tensor, "B D h w"],
        context: Float[Tensor, "B D h w"],
        correlation: Float[Tensor, "B taps h w"],
        flow: Float[Tensor, "B 2 h w"],
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B 2 h w"]]:
        """The next state, and what is to be added to the flow; `mask(state)` upsamples it."""
        given = torch.cat([context, self.encoder(flow, correlation)], 1)
        state = self.gru(state, given)
        return state, self.flow_head(state)
