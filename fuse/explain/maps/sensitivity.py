"""How local a layer of attention is in what it does: local sensitivity, from its Jacobian.

Sahu and Goyal 2021, arXiv:2110.13992, equation 10. Of a layer that makes Y (T, D) of X (T, D),

    G[i, j] = || dY[i] / dX[j] ||_F                                  of a D × D Jacobian
    S_i     = mean_{j in N_i} G[i, j] / ( mean_{j in N_i} G[i, j] + mean_{j not in N_i} G[i, j] )

1/2 where near and far steps count alike, 1 where the far ones do not count. It is undefined, NaN,
where N_i holds every step; steps that are not there count in no mean. The layer is the attention
itself, before what it was given is added to its output: that sum would only raise G[i, i].

The norms are exact where that takes few products (one backward pass for each of T D outputs), and
else estimated by Hutchinson's probes: ``|| J ||_F² = E || v' J ||²`` with v of random signs. Their
mean is right for G²; the root of it is low by one or two parts in a hundred of G for 8 probes, near
and far alike, so that little of it is left in S.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmf import MmfError
from mmf.fuse.explain.maps.given import calls, each_item
from mmf.fuse.explain.maps.layers import Steps, self_attention_layers, steps_of
from mmf.fuse.explain.subject import Subject
from mmf.fuse.layers.batch_norm import pack, unpack
from mmf.fuse.layers.neighbourhood import Neighbourhood
from mmf.fuse.layers.self_attention import SelfAttention
from mmf.store import Item

EXACT = 1024  # T D up to which norms are exact where nothing else is said
PROBES = 8
_NUMBERS = 1 << 24  # of one array in a backward pass over several outputs
_HEADS = 8  # of the T × T maps that such a pass holds, about


def jacobian_norms(
    layer: Callable[[Tensor], Tensor], x: Float[Tensor, "T D"], probes: int | None = None
) -> Float[Tensor, "T T"]:
    """G of a layer (T, D) → (T, D') at x.

    `probes` is their number; 0 is exact, None exact where T D ≤ `EXACT` and else `PROBES`. They
    are drawn from a seed of their own, so that the same item has the same G in any company.
    """
    steps, size = x.shape
    probes = used_probes(steps, size, probes)
    # the fused forms of attention know no batch of gradients; those of the weights are not wanted
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        y, pull = torch.func.vjp(layer, x)[:2]
        signs = _directions(y, probes)  # (T, R, D')
        each = steps * max(size, _HEADS * steps)
        squares = [
            _pulled(pull, y, signs, part)
            for part in torch.arange(signs.shape[0] * signs.shape[1]).split(
                max(1, _NUMBERS // each)
            )
        ]
    return torch.cat(squares).unflatten(0, signs.shape[:2]).sum(1).sqrt()


def used_probes(steps: int, size: int, asked: int | None) -> int:
    """How many probes `jacobian_norms` takes; 0 where it is exact."""
    if asked is not None and asked < 0:
        raise MmfError(f"{asked} probes: expected 0, which is exact, or more.")
    if asked is None:
        return 0 if steps * size <= EXACT else PROBES
    return asked


def _directions(y: Tensor, probes: int) -> Float[Tensor, "T R _"]:
    """Of each step's outputs: every one, or random signs whose squares' mean is 1 / R."""
    steps, size = y.shape
    if not probes:
        return torch.eye(size, dtype=y.dtype, device=y.device).expand(steps, -1, -1)
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (steps, probes, size), generator=generator) * 2 - 1
    return signs.to(y) * probes**-0.5


def _pulled(pull: Callable[..., tuple[Tensor]], y: Tensor, signs: Tensor, part: Tensor) -> Tensor:
    """|| v' dY[i] / dX[j] ||² for some pairs of a step i and one of its directions v: (_, T)."""
    step, which = part // signs.shape[1], part % signs.shape[1]
    given = y.new_zeros(len(part), *y.shape)
    given[torch.arange(len(part)), step] = signs[step, which]
    (found,) = torch.func.vmap(pull)(given)  # (_, T, D)
    return found.square().sum(2)


def local_sensitivity(
    norms: Float[Tensor, "T T"], near: Bool[Tensor, "T T"]
) -> tuple[Float[Tensor, " T"], Float[Tensor, "T T"]]:
    """S, and the map whose mean over N_i is S_i: G[i, j] over the sum of both means.

    Both are NaN in the rows of steps whose N_i holds every step, or which nothing moves.
    """
    inside = (norms * near).sum(1) / near.sum(1)
    outside = (norms * ~near).sum(1) / (~near).sum(1)  # 0 / 0 is NaN
    total = (inside + outside).unsqueeze(1)
    return inside / total.squeeze(1), norms / total


def of_layer(
    layer: SelfAttention,
    x: Float[Tensor, "T D"],
    mask: Bool[Tensor, " T"],
    probes: int | None = None,
) -> Float[Tensor, "n n"]:
    """G of a layer of self-attention for one item, between its n steps that are there."""
    places = mask.unsqueeze(0)

    def forward(x: Tensor) -> Tensor:
        return unpack(layer(pack(x.unsqueeze(0), places), places), places)[0]

    return jacobian_norms(forward, x, probes)[mask][:, mask]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sensitive:
    """How local one layer is for one item, between the T steps that are there."""

    item: Item
    layer: str  # the feature it serves
    steps: Steps
    near: Bool[np.ndarray, "T T"]  # N
    norms: Float[np.ndarray, "T T"]  # G
    local: Float[np.ndarray, " T"]  # S
    ratios: Float[np.ndarray, "T T"]  # whose mean over N_i is S_i
    probes: int  # 0: exact
    begins: float  # seconds of the video's first row

    @property
    def mean(self) -> float:
        """Mean S over the steps that have one; NaN where none has."""
        known = self.local[~np.isnan(self.local)]
        return float(known.mean()) if len(known) else float("nan")


def sensitivities(
    subject: Subject, neighbourhood: Neighbourhood | None = None, probes: int | None = None
) -> Iterator[tuple[Sensitive, ...]]:
    """Of each layer of GMSA for each item, in order; an item without a row is left out.

    Near is what the layer's own neighbourhood holds, which the baseline has by its options though
    it looks everywhere; or another, to hold runs against each other. Raises MmfError where the run
    has no layer of GMSA.
    """
    return _sensitivities(subject, self_attention_layers(subject), neighbourhood, probes)


def _sensitivities(
    subject: Subject,
    layers: dict[str, SelfAttention],
    neighbourhood: Neighbourhood | None,
    probes: int | None,
) -> Iterator[tuple[Sensitive, ...]]:
    for given in each_item(subject):
        found = []
        for name, ((rows, mask), _) in calls(subject, given, layers).items():
            steps = steps_of(subject.network, name, given)
            if not len(steps):
                continue
            x, layer = unpack(rows, mask)[0], layers[name]
            norms = of_layer(layer, x, mask[0], probes)
            near = (neighbourhood or layer.options).pairs(x.shape[0], x.device)
            near = near[mask[0]][:, mask[0]]
            local, ratios = local_sensitivity(norms, near)
            found.append(
                Sensitive(
                    item=given.item,
                    layer=name,
                    steps=steps,
                    near=near.cpu().numpy(),
                    norms=norms.cpu().numpy(),
                    local=local.cpu().numpy(),
                    ratios=ratios.cpu().numpy(),
                    probes=used_probes(x.shape[0], x.shape[1], probes),
                    begins=given.begins,
                )
            )
        yield tuple(found)
