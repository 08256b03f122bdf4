"""Self-attention over the steps of one feature, with local context in one of three ways.

Vaswani et al. 2017; Sahu and Goyal 2021, arXiv:2110.13992 (GMSA). Of head m, with d its size,

    A_m^g = softmax(           Q_m K_m^T / sqrt(d)       )     global
    A_m^l = softmax( where(N, Q_m K_m^T / sqrt(d), -inf) )     local, equations 1 and 2, safely

    baseline   A_m = A_m^g
    share_att  A_m = A_m^g in the first half of the heads, A_m^l in the others
    gate_att   A_m = R * A_m^g + (1 - R) * A_m^l,  R = sigmoid(A_m^g W_g^g - A_m^l W_g^l)
    gate_op    Y   = R * (O^g W^og) + (1 - R) * (O^l W^ol),  R = sigmoid(O^g W_g^g - O^l W_g^l)

where O is the heads' A_m V_m side by side, and Y = O W^o in all but the last. The softmax of
equations 3 and 8 is read as over the pair of global and local, element by element: over both
matrices' columns at once the rows of A would sum to next to nothing. So in gate_att they sum to
about 1, and to 1 with `renormalise`. Its W are (T, T), the same for all heads, and cut to (n, n)
for shorter clips. Q, K and V serve both levels, and no product has a bias: with one layer per
feature that gives the parameters that the paper's sizes on disk differ by, 2 T² for gate_att and
3 D² for gate_op.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError, unknown
from mmf.fuse.layers.batch_norm import pack, unpack
from mmf.fuse.layers.neighbourhood import Neighbourhood
from mmf.fuse.layers.normalise import at_least_float32

VARIANTS = ("baseline", "share_att", "gate_att", "gate_op")


@dataclass(frozen=True, kw_only=True)
class SelfAttentionOptions(Neighbourhood):
    """Options of self-attention, beside those of the neighbourhood; the defaults did best."""

    variant: Literal["baseline", "share_att", "gate_att", "gate_op"] = "gate_op"
    heads: int = 8  # the paper shows three and gives no number
    renormalise: bool = False  # the rows of gate_att's attention to a sum of 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)
        if self.heads < 1 or (self.variant == "share_att" and self.heads % 2):
            raise MmfError(
                f"{self.variant} with {self.heads} heads: expected at least 1, and an even number "
                "for share_att."
            )


class SelfAttention(nn.Module):
    """One layer over the steps that are there, as packed rows: (N, D) to (N, D)."""

    def __init__(self, size: int, options: SelfAttentionOptions):
        super().__init__()
        self.options, self.variant, self.heads = options, options.variant, options.heads
        self.width = size
        inner = self.heads * -(-size // self.heads)  # D, or a little more if they do not divide it
        self.queries_keys_values = nn.Linear(size, 3 * inner, bias=False)
        if self.variant == "gate_op":  # W^o and W_g of a level in one product
            self.from_global = nn.Linear(inner, 2 * size, bias=False)
            self.from_local = nn.Linear(inner, 2 * size, bias=False)
        else:
            self.out = nn.Linear(inner, size, bias=False)
        if self.variant == "gate_att":
            limit = options.steps**-0.5
            self.gates = nn.Parameter(torch.empty(2, options.steps, options.steps))  # global, local
            nn.init.uniform_(self.gates, -limit, limit)

    def forward(
        self, rows: Float[Tensor, "N D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "N D"]:
        """Each step with what it has seen of the others."""
        q, k, v = self._heads(rows, mask)
        half = self.heads // 2
        if self.variant == "baseline":
            return self.out(_merged(_attend(q, k, v, _everywhere(mask)), mask))
        if self.variant == "gate_att":
            return self.out(_merged(self._gated(q, k, mask) @ at_least_float32(v), mask))
        if self.variant == "share_att":
            far = _attend(q[:, :half], k[:, :half], v[:, :half], _everywhere(mask))
            local = self._attend_nearby(q[:, half:], k[:, half:], v[:, half:], mask)
            return self.out(_merged(torch.cat([far, local], 1), mask))
        seen_far = _merged(_attend(q, k, v, _everywhere(mask)), mask)
        seen_near = _merged(self._attend_nearby(q, k, v, mask), mask)
        y_far, gate_far = self.from_global(seen_far).chunk(2, 1)
        y_near, gate_near = self.from_local(seen_near).chunk(2, 1)
        return torch.lerp(y_near, y_far, (gate_far - gate_near).sigmoid())

    def maps(
        self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> dict[str, Float[Tensor, "B _ T T"]]:
        """The attention of each head, zero in the rows and columns of steps that are not there.

        `global` and `local` as far as the variant has them, share_att half of the heads in each;
        gate_att also `gated`, which is what it multiplies the values with.
        """
        q, k, _ = self._heads(pack(x, mask), mask)
        half = self.heads // 2 if self.variant == "share_att" else 0
        far = slice(half or None)
        found = {"global": _weights(q[:, far], k[:, far], _everywhere(mask))}
        if self.variant != "baseline":
            found["local"] = _weights(q[:, half:], k[:, half:], self._nearby(mask))
        if self.variant == "gate_att":
            found["gated"] = self._gated(q, k, mask)
        there = (mask.unsqueeze(2) & mask.unsqueeze(1)).unsqueeze(1)  # (B, 1, T, T)
        return {name: attention.masked_fill(~there, 0) for name, attention in found.items()}

    def _heads(
        self, rows: Float[Tensor, "N D"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K and V, each (B, heads, T, d)."""
        steps = unpack(self.queries_keys_values(rows), mask)  # (B, T, 3 heads d)
        q, k, v = steps.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _gated(self, q: Tensor, k: Tensor, mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B _ T T"]:
        """A of gate_att, equations 3 and 4."""
        steps = mask.shape[1]
        if steps > self.options.steps:
            raise MmfError(
                f"gate_att has gates of {self.options.steps} steps, and an item has {steps}: "
                f"give it the option steps={steps}, or choose another variant."
            )
        far, near = _weights(q, k, _everywhere(mask)), _weights(q, k, self._nearby(mask))
        of_far, of_near = self.gates[:, :steps, :steps]
        gates = at_least_float32(far @ of_far - near @ of_near).sigmoid()
        attention = torch.lerp(near, far, gates)
        if self.options.renormalise:
            attention = attention / attention.sum(3, keepdim=True).clamp_min(1e-6)
        return attention

    def _attend_nearby(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B _ T _"]:
        """Local attention, part by part, so that few pairs are computed that do not count."""
        near = self._nearby(mask)
        if torch.compiler.is_exporting():
            return _attend(q, k, v, near)

        def part(i: slice, j: slice) -> Tensor:
            return _weights(q[:, :, i], k[:, :, j], near[:, :, i, j]).to(v.dtype) @ v[:, :, j]

        parts = list(self.options.parts(mask.shape[1]))
        seen = torch.cat([part(i, j) for i, j in parts], 2)
        if self.options.stride == 1:
            return seen
        steps = torch.arange(mask.shape[1], device=mask.device)
        return seen[:, :, torch.cat([steps[i] for i, _ in parts]).argsort()]

    def _nearby(self, mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B 1 T T"]:
        """The neighbours that are there, and each step itself, so that no row is empty."""
        steps = mask.shape[1]
        itself = torch.eye(steps, dtype=torch.bool, device=mask.device)
        pairs = self.options.pairs(steps, mask.device)
        return (pairs & (mask.unsqueeze(1) | itself)).unsqueeze(1)


def _everywhere(mask: Bool[Tensor, "B T"]) -> Bool[Tensor, "B 1 1 T"]:
    """Every step that is there; all of them where there is none, so that no row is empty."""
    return (mask | ~mask.any(1, keepdim=True)).unsqueeze(1).unsqueeze(1)


def _attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Float[Tensor, "B _ T _"]:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)


def _weights(q: Tensor, k: Tensor, allowed: Tensor) -> Float[Tensor, "B _ _ _"]:
    scores = at_least_float32(q @ k.transpose(2, 3)) * q.shape[3] ** -0.5
    return scores.masked_fill(~allowed, -float("inf")).softmax(3)


def _merged(heads: Float[Tensor, "B _ T _"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "N _"]:
    """The heads' vectors side by side, of the steps that are there."""
    return pack(heads.transpose(1, 2).flatten(2), mask)
