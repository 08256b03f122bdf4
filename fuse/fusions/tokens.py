"""How many steps of each feature a fusion reads one by one, for fusions whose length is fixed.

A fusion with weights for every position, or with attention between all of them, needs to know its
length before it sees data. A feature that has fewer steps is filled up, masked; of one that has
more, the first count.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from mmf import MmfError, unknown
from mmf.fuse.fusions.contract import Stream

MOST = 4096  # tokens of all features that nobody asked for by number


def token_lengths(streams: Mapping[str, Stream], asked: Mapping[str, int]) -> dict[str, int]:
    """The tokens of each feature: as asked, else all that an item can have.

    Raises MmfError for another feature, for a length that is no number ≥ 1, and where the features
    that nobody asked for have more than `MOST` tokens.
    """
    for name, length in asked.items():
        if name not in streams:
            raise unknown("feature of lengths", name, streams)
        if type(length) is not int or length < 1:
            raise MmfError(f"lengths of {name!r} is {length!r}; expected a whole number from 1 on.")
    left = {name: one.most for name, one in streams.items() if name not in asked}
    if sum(left.values()) > MOST:
        longest = max(left, key=lambda name: left[name])
        raise MmfError(
            f"{', '.join(f'{n} has {length}' for n, length in left.items())} steps at most; "
            f"expected {MOST} tokens or fewer in all. Say how many to read of each, e.g. "
            f"--fusion-option lengths='{{\"{longest}\": 490}}', or take fewer rows with max_steps."
        )
    return {name: asked.get(name, one.most) for name, one in streams.items()}


def cut(
    x: Float[Tensor, "B _ D"], mask: Bool[Tensor, "B _"], length: int
) -> tuple[Float[Tensor, "B _ D"], Bool[Tensor, "B _"]]:
    """The first `length` steps, or all where there are fewer.

    Always so many where a graph is made that is to take any number.
    """
    if torch.compiler.is_exporting():
        x, mask = functional.pad(x, (0, 0, 0, length)), functional.pad(mask, (0, length))
    return x[:, :length], mask[:, :length]


def fitted(
    x: Float[Tensor, "B _ D"], mask: Bool[Tensor, "B _"], length: int
) -> tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"]]:
    """Exactly `length` steps: cut off, or filled up with zeros that are masked."""
    x, mask = cut(x, mask, length)
    more = length - x.shape[1]
    return functional.pad(x, (0, 0, 0, more)), functional.pad(mask, (0, more))
