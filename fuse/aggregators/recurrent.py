"""LSTM and GRU: the last state of a recurrent network that read the steps in order.

Hochreiter and Schmidhuber 1997; Cho et al. 2014; google/youtube-8m `frame_level_models.LstmModel`
and Miech, Laptev and Sivic 2017: two layers of 1024 cells; the upper one's state after the last
step that is there counts. As in TensorFlow weights start as Glorot's uniform of [input, state],
biases at 0, and those of the LSTM's forget gate and of the GRU's two gates at 1.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mmf import MmfError
from mmf.fuse.layers.normalise import at_least_float32


@dataclass(frozen=True, kw_only=True)
class RecurrentOptions:
    """Options of LSTM and GRU; the defaults are the starter code's."""

    hidden: int = 1024  # cells of a layer
    layers: int = 2

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1:
            raise MmfError(
                f"a recurrent network of {self.layers} layers of {self.hidden} cells: "
                "expected at least 1 of each."
            )


class _Recurrent(nn.Module):
    Options = RecurrentOptions
    kind: ClassVar[type[nn.LSTM | nn.GRU]]
    open_gates: ClassVar[slice]  # of the gates in torch's order, those whose bias starts at 1

    def __init__(self, size: int, options: RecurrentOptions):
        super().__init__()
        self.network = self.kind(size, options.hidden, options.layers, batch_first=True)
        self.out_size = options.hidden
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                if name.startswith("weight"):
                    inputs = size if name.endswith("_l0") else options.hidden
                    limit = (6 / (inputs + options.hidden + len(parameter))) ** 0.5
                    nn.init.uniform_(parameter, -limit, limit)
                else:  # torch adds two biases of each gate
                    nn.init.zeros_(parameter)
                    if name.startswith("bias_ih"):
                        parameter.unflatten(0, (-1, options.hidden))[self.open_gates] = 1

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B H"]:
        """The state after the last step; zeros for an item without one."""
        there_first = (~mask).byte().argsort(dim=1, stable=True).unsqueeze(2)
        x = x.masked_fill(~mask.unsqueeze(2), 0).take_along_dim(there_first, 1)
        lengths = mask.sum(1).clamp_min(1).cpu()
        steps = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, state = self.network(steps)
        last = state[0][-1] if isinstance(state, tuple) else state[-1]  # of the upper layer, (B, H)
        return at_least_float32(last).masked_fill(~mask.any(1, keepdim=True), 0)


class LSTM(_Recurrent):
    """Long short-term memory."""

    kind = nn.LSTM
    open_gates = slice(1, 2)  # input, forget, cell, output


class GRU(_Recurrent):
    """Gated recurrent units; torch's form, whose reset gate stands behind the product."""

    kind = nn.GRU
    open_gates = slice(0, 2)  # reset, update, new
