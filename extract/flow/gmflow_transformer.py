"""GMFlow's transformer: both frames look at themselves and at each other, in shifted windows.

Xu et al., GMFlow: Learning Optical Flow via Global Matching, CVPR 2022, section 3.1. A block is

    m = attention(q = x Wq, k = x Wk, v = x Wv) Wm;          x ← x + norm(m)
    m = attention(q = x Wq, k = y Wk, v = y Wv) Wm;          x ← x + norm(mlp([x, norm(m)]))

with y the other frame as it entered the block. One head: so x Wq (y Wk)ᵀ = x (Wq Wkᵀ) yᵀ and
(p y Wv) Wm = p y (Wv Wm), and four projections fold into two. The folded weights are computed in
float64 once the weights are there.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mmf.extract.flow.attention import attend, from_windows, shift_mask, to_windows

WIDTH = 128
LAYERS = 6
EXPANSION = 4
TOKENS = 512  # of the wide layer at a time: its 2 MiB stay in the cache


class _Attention(nn.Module):
    """The published weights of one attention; the second of a block has the MLP."""

    def __init__(self, *, with_mlp: bool):
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.merge = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm1 = nn.LayerNorm(WIDTH)
        if with_mlp:
            wide = 2 * WIDTH * EXPANSION
            self.mlp = nn.Sequential(
                nn.Linear(2 * WIDTH, wide, bias=False),
                nn.GELU(),
                nn.Linear(wide, WIDTH, bias=False),
            )
            self.norm2 = nn.LayerNorm(WIDTH)

    def folded(self) -> tuple[Tensor, Tensor]:
        """The weights of x → query and of x → value, as `linear` takes them."""
        q, k, v, m = (
            p.weight.detach().double() for p in (self.q_proj, self.k_proj, self.v_proj, self.merge)
        )
        dtype = self.merge.weight.dtype
        return (k.T @ q / WIDTH**0.5).to(dtype), (m @ v).to(dtype)


class Block(nn.Module):
    """Self-attention, cross-attention and the MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = _Attention(with_mlp=False)
        self.cross_attn_ffn = _Attention(with_mlp=True)
        self._own: Tensor
        self._cross: Tensor
        self.register_buffer("_own", torch.empty(0), persistent=False)
        self.register_buffer("_cross", torch.empty(0), persistent=False)

    def fold(self) -> None:
        """Prepare the forward; to be called when the weights have changed."""
        query, value = self.self_attn.folded()
        self._cross, other_value = self.cross_attn_ffn.folded()
        self._own = torch.cat([query, value, other_value])

    def forward(
        self, x: Float[Tensor, "W L D"], mask: Float[Tensor, "K L L"] | None
    ) -> Float[Tensor, "W L D"]:
        """Windows of all first frames, then of all second frames → the same."""
        half = len(x) // 2
        query, value, other_value = functional.linear(x, self._own).split(WIDTH, dim=-1)
        other, other_value = x.roll(half, 0), other_value.roll(half, 0)
        x = x + self.self_attn.norm1(attend(query, x, value, mask))
        query = functional.linear(x, self._cross)
        message = self.cross_attn_ffn.norm1(attend(query, other, other_value, mask))
        return self._mlp(x, message)

    def _mlp(
        self, x: Float[Tensor, "W L D"], message: Float[Tensor, "W L D"]
    ) -> Float[Tensor, "W L D"]:
        widen, _, narrow = self.cross_attn_ffn.mlp
        made = torch.empty_like(x)
        parts = (t.flatten(0, 1).split(TOKENS) for t in (x, message, made))
        for own, seen, out in zip(*parts, strict=True):
            wide = torch.ops.aten.gelu_(widen(torch.cat([own, seen], dim=-1)))
            torch.add(own, self.cross_attn_ffn.norm2(narrow(wide)), out=out)
        return made


class FeatureTransformer(nn.Module):
    """Six blocks; every second one in shifted windows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block() for _ in range(LAYERS)])

    def fold(self) -> None:
        """Prepare the forward; to be called when the weights have changed."""
        for block in self.layers:
            cast(Block, block).fold()

    def forward(self, x: Float[Tensor, "N h w D"], splits: int) -> Float[Tensor, "N h w D"]:
        """Features of the first frames, then of their second frames; splits × splits windows."""
        size = (x.shape[1], x.shape[2])
        mask = shift_mask(size, splits, x.dtype, x.device)
        for i, block in enumerate(self.layers):
            shift = i % 2 == 1
            windows = block(to_windows(x, splits, shift=shift), mask if shift else None)
            x = from_windows(windows, splits, size, shift=shift)
        return x
