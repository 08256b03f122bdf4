"""Softmax attention in pieces that stay in a core's cache, whole and within 2-D windows.

Vaswani et al., Attention Is All You Need, NeurIPS 2017; windows that shift by half their size:
Liu et al., Swin Transformer, ICCV 2021. A row of scores is never split, so a piece is exact; on a
CPU the pieces are worth a factor of two over one large product, since fresh memory of tens of
megabytes costs more than the arithmetic.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

PIECE = 1 << 20  # scores at a time: 4 MiB in fp32
MASKED = -100.0  # Swin's own: what another region's score is lowered by, not minus infinity


def attend(
    q: Float[Tensor, "N L D"],
    k: Float[Tensor, "N S D"],
    v: Float[Tensor, "N S H"],
    mask: Float[Tensor, "K L S"] | None = None,
) -> Float[Tensor, "N L H"]:
    """softmax(q kᵀ + mask) v; `q` is scaled already, `mask` repeats every K of the N."""
    N, L, S = len(q), q.shape[1], k.shape[1]
    together = max(1, min(PIECE // (L * S), N if mask is None else len(mask)))
    while mask is not None and len(mask) % together:
        together -= 1
    rows = L if together > 1 else max(1, min(L, PIECE // S))
    out = q.new_empty(N, L, v.shape[2])
    for n in range(0, N, together):
        keys, values = k[n : n + together].transpose(1, 2), v[n : n + together]
        for row in range(0, L, rows):
            scores = torch.bmm(q[n : n + together, row : row + rows], keys)
            if mask is not None:
                at = n % len(mask)
                scores += mask[at : at + together, row : row + rows]
            prob = torch.softmax(scores, dim=-1, out=scores)
            torch.bmm(prob, values, out=out[n : n + together, row : row + rows])
    return out


def to_windows(x: Float[Tensor, "N h w D"], splits: int, *, shift: bool) -> Float[Tensor, "W L D"]:
    """Tokens by window: N · splits² windows of (h / splits)(w / splits) tokens, row by row.

    With `shift` everything moves up and left by half a window first, and round.
    """
    N, h, w, D = x.shape
    tall, wide = h // splits, w // splits
    if shift:
        x = x.roll((-(tall // 2), -(wide // 2)), (1, 2))
    parts = x.reshape(N, splits, tall, splits, wide, D).transpose(2, 3)
    return parts.reshape(N * splits * splits, tall * wide, D)


def from_windows(
    windows: Float[Tensor, "W L D"], splits: int, size: tuple[int, int], *, shift: bool
) -> Float[Tensor, "N h w D"]:
    """What `to_windows` was given, of h, w = `size`."""
    h, w = size
    tall, wide = h // splits, w // splits
    parts = windows.reshape(-1, splits, splits, tall, wide, windows.shape[-1]).transpose(2, 3)
    x = parts.reshape(-1, h, w, windows.shape[-1])
    return x.roll((tall // 2, wide // 2), (1, 2)) if shift else x


@lru_cache(maxsize=4)
def shift_mask(
    size: tuple[int, int], splits: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "K L L"]:
    """For each of splits² shifted windows: 0 within a region of the picture, −100 across.

    A window at the lower or right end holds parts of both ends of the picture.
    """
    h, w = size
    row = _regions(h, h // splits, device)
    column = _regions(w, w // splits, device)
    region = (3 * row[:, None] + column[None, :]).view(1, h, w, 1).to(dtype)
    labels = to_windows(region, splits, shift=False)[..., 0]  # (splits², L)
    across = labels[:, :, None] != labels[:, None, :]
    return across.to(dtype) * MASKED


def _regions(length: int, window: int, device: torch.device) -> Tensor:
    at = torch.arange(length, device=device)
    return (at >= length - window).long() + (at >= length - window // 2)
