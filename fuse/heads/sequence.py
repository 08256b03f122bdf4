"""The sequence head: an item's logits from all items of its video, in their order.

For labels of what follows one another, such as the utterances of a video. Poria, Cambria, et al.,
ACL 2017 (bc-LSTM), its last level: a bidirectional LSTM over the fused vectors of a video's items,
a dense layer with ReLU, and one unit per class, each for every item, with dropout between them.

The batch lists the items of its videos one after the other: its (B, C) logits are the (videos,
items, C) of the sequences without their padding. Such a batch is what a loader gives `by_video`.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from mmf import MmfError, unknown
from mmf.fuse.fusions.contract import check_dropout

CELLS = {"lstm": (nn.LSTM, 4), "gru": (nn.GRU, 3)}  # and how many gates they have


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """Options of the sequence head; the defaults are those of the authors' code."""

    cell: Literal["lstm", "gru"] = "lstm"
    hidden: int = 300  # units in each direction
    units: int = 500  # of the dense layer
    dropout: float = 0.9  # before and after the dense layer

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise unknown("cell", self.cell, CELLS)
        if self.hidden < 1 or self.units < 1:
            raise MmfError(
                f"{self.hidden} hidden and {self.units} dense units: expected at least 1 of each."
            )
        check_dropout(self.dropout)


class SequenceHead(nn.Module):
    """A bidirectional recurrent network over the items of each video."""

    Options = SequenceOptions

    def __init__(self, size: int, classes: int, options: SequenceOptions):
        super().__init__()
        cell, _ = CELLS[options.cell]
        self.recurrent = cell(size, options.hidden, bidirectional=True)
        self.dense = nn.Sequential(
            nn.Dropout(options.dropout),
            nn.Linear(2 * options.hidden, options.units),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.units, classes),
        )

    @staticmethod
    def weights_per_input(classes: int, options: SequenceOptions) -> int:
        """One weight for each gate of each unit, in both directions."""
        return 2 * CELLS[options.cell][1] * options.hidden

    def forward(
        self, x: Float[Tensor, "B H"], videos: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B C"]:
        """Logits of items that stand video by video, in order; `videos` numbers their videos.

        Without it, each item is alone.
        """
        if videos is None:
            videos = torch.arange(len(x), device=x.device)
        counts = torch.unique_consecutive(videos, return_counts=True)[1]
        packed = pack_sequence(list(x.split(counts.tolist())), enforce_sorted=False)
        return self.dense(torch.cat(unpack_sequence(self.recurrent(packed)[0])))
