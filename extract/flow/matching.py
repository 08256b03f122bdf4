"""Where a pixel went: matching over the whole picture or nearby, propagation, warping, upsampling.

Xu et al., GMFlow, CVPR 2022, section 3.2 to 3.4; convex upsampling: Teed and Deng, RAFT, ECCV 2020.
Features and flow are (B, D, h, w) and (B, 2, h, w), flow as (x, y) in their own pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mmf.extract.flow.attention import attend

OUTSIDE = -1e9  # the published score of a match outside the picture
TILE = 8  # pixels: what is compared nearby is one small product per tile
TAPS = 1 << 8  # pixels whose neighbourhood is gathered at a time


def tokens(x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B L D"]:
    """Row by row, channels last."""
    return x.flatten(2).transpose(1, 2)


def pixel_grid(like: Float[Tensor, "B D h w"]) -> Float[Tensor, "2 h w"]:
    """The (x, y) of every pixel."""
    h, w = like.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(h, dtype=like.dtype, device=like.device),
        torch.arange(w, dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    return torch.stack([x, y])


def match_anywhere(
    first: Float[Tensor, "B D h w"], second: Float[Tensor, "B D h w"]
) -> Float[Tensor, "B 2 h w"]:
    """Flow to the mean place, weighted by the softmax of the correlation with all of `second`."""
    grid = pixel_grid(first)
    places = tokens(grid[None]).expand(len(first), -1, -1)
    query = tokens(first) / first.shape[1] ** 0.5
    found = attend(query, tokens(second), places)
    return found.transpose(1, 2).view(-1, *grid.shape) - grid


def match_nearby(
    first: Float[Tensor, "B D h w"], second: Float[Tensor, "B D h w"], radius: int
) -> Float[Tensor, "B 2 h w"]:
    """As `match_anywhere`, among the (2 radius + 1)² pixels around that are in the picture."""
    score = nearby_scores(first / first.shape[1] ** 0.5, second, radius)
    steps = torch.arange(-radius, radius + 1, dtype=first.dtype, device=first.device)
    dy, dx = (d.flatten() for d in torch.meshgrid(steps, steps, indexing="ij"))
    x, y = pixel_grid(first)[..., None]
    to_x, to_y = x + dx, y + dy  # (h, w, taps)
    h, w = first.shape[-2:]
    outside = (to_x < 0) | (to_x >= w) | (to_y < 0) | (to_y >= h)
    prob = torch.softmax(score.masked_fill_(outside, OUTSIDE), dim=-1)
    return (prob @ torch.stack([dx, dy], dim=1)).permute(0, 3, 1, 2)


def nearby_scores(
    q: Float[Tensor, "B D h w"], k: Float[Tensor, "B D h w"], radius: int
) -> Float[Tensor, "B h w taps"]:
    """q(p) · k(p + d) for every |d| ≤ radius, d row by row; k is 0 outside the picture.

    A tile's pixels times all that any of them sees is one product; of its (tile², patch²) numbers
    a strided view picks each pixel's own. That beats a sum per shift, though most are not used.
    """
    B, D, h, w = q.shape
    down, right = -(-h // TILE), -(-w // TILE)
    patch, taps = TILE + 2 * radius, 2 * radius + 1
    more = (0, right * TILE - w, 0, down * TILE - h)
    q = functional.pad(q, more)
    k = functional.pad(k, tuple(radius + m if i % 2 else radius for i, m in enumerate(more)))
    tiles = q.view(B, D, down, TILE, right, TILE).permute(0, 2, 4, 3, 5, 1)
    seen = k.unfold(2, patch, TILE).unfold(3, patch, TILE).permute(0, 2, 3, 1, 4, 5)
    product = torch.bmm(tiles.reshape(-1, TILE * TILE, D), seen.reshape(-1, D, patch * patch))
    own = product.as_strided(
        (B, down, TILE, right, TILE, taps, taps),
        (
            down * right * TILE * TILE * patch * patch,
            right * TILE * TILE * patch * patch,
            TILE * patch * patch + patch,  # one down: the next pixel, seen one row further
            TILE * TILE * patch * patch,
            patch * patch + 1,
            patch,
            1,
        ),
    )
    return own.reshape(B, down * TILE, right * TILE, taps * taps)[:, :h, :w]


def propagate_anywhere(
    q: Float[Tensor, "B D h w"], k: Float[Tensor, "B D h w"], flow: Float[Tensor, "B 2 h w"]
) -> Float[Tensor, "B 2 h w"]:
    """Flow of the pixels that look alike, weighted by softmax(q kᵀ / √D)."""
    out = attend(tokens(q) / q.shape[1] ** 0.5, tokens(k), tokens(flow))
    return out.transpose(1, 2).view_as(flow)


def propagate_nearby(
    q: Float[Tensor, "B D h w"],
    k: Float[Tensor, "B D h w"],
    flow: Float[Tensor, "B 2 h w"],
    radius: int,
) -> Float[Tensor, "B 2 h w"]:
    """As `propagate_anywhere` within `radius`; outside the picture k and flow are 0, unmasked."""
    B, _, h, w = flow.shape
    prob = torch.softmax(nearby_scores(q / q.shape[1] ** 0.5, k, radius), dim=-1)
    around = functional.unfold(flow, 2 * radius + 1, padding=radius).view(B, 2, -1, h, w)
    return (prob.permute(0, 3, 1, 2)[:, None] * around).sum(2)


def warp(
    features: Float[Tensor, "B D h w"], flow: Float[Tensor, "B 2 h w"]
) -> Float[Tensor, "B D h w"]:
    """Features at p + flow(p), bilinear; 0 outside the picture."""
    h, w = flow.shape[-2:]
    x, y = (pixel_grid(flow) + flow).unbind(1)
    place = torch.stack([2 * x / (w - 1) - 1, 2 * y / (h - 1) - 1], dim=-1)
    return functional.grid_sample(features, place, align_corners=True)


def correlation_along(
    first: Float[Tensor, "B D h w"],
    second: Float[Tensor, "B D h w"],
    flow: Float[Tensor, "B 2 h w"],
    radius: int,
) -> Float[Tensor, "B taps h w"]:
    """first(p) · second(p + flow(p) + d) / √D for every |d| ≤ radius; second is 0 outside.

    All d of a pixel share the fraction of its flow, so the products with whole pixels are taken
    first and interpolated then.
    """
    B, D, h, w = first.shape
    steps = torch.arange(-radius, radius + 2, device=flow.device)
    place = tokens(pixel_grid(flow) + flow)  # (B, L, 2)
    whole = place.floor()
    fraction = (place - whole)[..., None, None]
    # a flow that leaves the picture by far must not leave the integers
    whole = whole.clamp(-1e6, 1e6).long()
    x = whole[..., 0, None, None] + steps  # (B, L, 1, taps + 1)
    y = whole[..., 1, None, None] + steps[:, None]
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    index = (y.clamp(0, h - 1) * w + x.clamp(0, w - 1)).flatten(2)  # (B, L, (taps + 1)²)
    q, k = tokens(first) / D**0.5, tokens(second)
    parts = [
        torch.stack(
            [k[b][index[b, row : row + TAPS]] @ q[b, row : row + TAPS, :, None] for b in range(B)]
        )
        for row in range(0, h * w, TAPS)
    ]
    score = torch.cat(parts, dim=1).view(inside.shape) * inside
    fx, fy = fraction[:, :, 0], fraction[:, :, 1]
    score = score[..., :-1] * (1 - fx) + score[..., 1:] * fx
    score = score[..., :-1, :] * (1 - fy) + score[..., 1:, :] * fy
    return score.flatten(2).transpose(1, 2).view(B, -1, h, w)


def upsample(
    flow: Float[Tensor, "B 2 h w"], logits: Float[Tensor, "B weights h w"], factor: int
) -> Float[Tensor, "B 2 H W"]:
    """Each fine pixel is a convex mix of its 3 × 3 coarse neighbours; `factor` times the size.

    `logits` hold (9 neighbours, factor down, factor right); flow outside the picture is 0.
    """
    B, _, h, w = flow.shape
    weight = torch.softmax(logits.view(B, 1, 9, factor, factor, h, w), dim=2)
    around = functional.unfold(flow * factor, 3, padding=1).view(B, 2, 9, 1, 1, h, w)
    fine = (weight * around).sum(2)  # (B, 2, factor, factor, h, w)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(B, 2, factor * h, factor * w)
