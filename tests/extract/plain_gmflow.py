"""GMFlow written as its papers read, straight from a state dict; slow, plain, in any precision.

What the tests compare with and `benchmarks/flow.py` measures against: both frames of every pair are
encoded, instance norm is instance norm, every projection is its own product, windows are attended
to as whole tensors, nearby pixels are fetched by `grid_sample` and `unfold`. It shares no line with
`mmf.extract.flow`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

C = 128
Weights = Mapping[str, Tensor]


def plain_flow(
    weights: Weights, first: Tensor, second: Tensor, splits: Sequence[int], steps: int = 0
) -> Tensor:
    """RGB in 0…255 (B, 3, h, w) → flow (B, 2, h, w); `splits` (2,) for scale1, (2, 8) for scale2.

    `steps` of regression follow where the weights are those of regrefine.
    """
    w = Part(weights)
    scales = [encode(w["backbone"], frame) for frame in (first, second)]
    flow = None
    for scale, parts in enumerate(splits):
        one, two = original = scales[0][scale], scales[1][scale]
        if flow is not None:
            flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            two = sample(two, grid(flow) + flow)
        one, two = (x + positions(x, parts) for x in (one, two))
        one, two = transform(w["transformer"], one, two, parts)
        found = match_all(one, two) if scale == 0 else match_near(one, two, 4)
        flow = found if flow is None else flow + found
        flow = propagate(w["feature_flow_attn"], one, flow, near=scale > 0)
    factor = 8 if len(splits) == 1 else 4
    if steps:
        return refine(w, *original, one, flow, steps)
    logits = convolve(w["upsampler"]["0"], torch.cat([flow, one], 1), padding=1).relu()
    return upsample(flow, convolve(w["upsampler"]["2"], logits), factor)


class Part:
    """The weights below a name."""

    def __init__(self, weights: Weights, name: str = ""):
        self.weights, self.name = weights, name

    def __getitem__(self, name: str) -> "Part":
        return Part(self.weights, f"{self.name}{name}.")

    def __contains__(self, name: str) -> bool:
        return any(key.startswith(f"{self.name}{name}.") for key in self.weights)

    @property
    def weight(self) -> Tensor:
        return self.weights[f"{self.name}weight"]

    @property
    def bias(self) -> Tensor | None:
        return self.weights.get(f"{self.name}bias")


def convolve(w: Part, x: Tensor, **how) -> Tensor:
    return F.conv2d(x, w.weight, w.bias, **how)


def project(w: Part, x: Tensor) -> Tensor:
    return F.linear(x, w.weight, w.bias)


def encode(w: Part, frames: Tensor) -> list[Tensor]:
    """Features, coarse first."""
    mean = frames.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = frames.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = (frames / 255 - mean) / deviation
    x = F.instance_norm(convolve(w["conv1"], x, stride=2, padding=3)).relu()
    two_scales = "trident_conv" in w
    for layer, stride in (("layer1", 1), ("layer2", 2), ("layer3", 1 if two_scales else 2)):
        for index, step in (("0", stride), ("1", 1)):
            block = w[layer][index]
            y = F.instance_norm(convolve(block["conv1"], x, stride=step, padding=1)).relu()
            y = F.instance_norm(convolve(block["conv2"], y, padding=1)).relu()
            if "downsample" in block:
                x = F.instance_norm(convolve(block["downsample"]["0"], x, stride=step))
            x = (x + y).relu()
    x = convolve(w["conv2"], x)
    if not two_scales:
        return [x]
    return [F.conv2d(x, w["trident_conv"].weight, stride=s, padding=1) for s in (2, 1)]


def positions(like: Tensor, parts: int) -> Tensor:
    """Sines and cosines of the place within a window, (C, h, w)."""
    h, w = like.shape[2] // parts, like.shape[3] // parts
    place = torch.zeros(C, h, w, dtype=like.dtype)
    for channel in range(C // 2):
        wave = 10000 ** (2 * (channel // 2) / (C // 2))
        shape = torch.cos if channel % 2 else torch.sin
        rows = torch.arange(1, h + 1, dtype=like.dtype) / (h + 1e-6) * 2 * torch.pi / wave
        columns = torch.arange(1, w + 1, dtype=like.dtype) / (w + 1e-6) * 2 * torch.pi / wave
        place[channel] = shape(rows)[:, None]
        place[C // 2 + channel] = shape(columns)
    return place.repeat(1, parts, parts)


def transform(w: Part, one: Tensor, two: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    x = torch.cat([one, two]).permute(0, 2, 3, 1)  # (2 B, h, w, C)
    for layer in range(6):
        block, shift = w["layers"][str(layer)], layer % 2 == 1
        other = torch.cat(x.chunk(2)[::-1])
        own = block["self_attn"]
        x = x + layer_norm(own["norm1"], project(own["merge"], window(own, x, x, parts, shift)))
        cross = block["cross_attn_ffn"]
        seen = project(cross["merge"], window(cross, x, other, parts, shift))
        both = torch.cat([x, layer_norm(cross["norm1"], seen)], -1)
        wide = F.gelu(project(cross["mlp"]["0"], both))
        x = x + layer_norm(cross["norm2"], project(cross["mlp"]["2"], wide))
    one, two = x.permute(0, 3, 1, 2).contiguous().chunk(2)
    return one, two


def layer_norm(w: Part, x: Tensor) -> Tensor:
    return F.layer_norm(x, (C,), w.weight, w.bias)


def window(w: Part, x: Tensor, y: Tensor, parts: int, shift: bool) -> Tensor:
    """Attention from x to y, (N, h, w, C), within parts × parts windows."""
    N, height, width, _ = x.shape
    tall, wide = height // parts, width // parts
    q, k, v = project(w["q_proj"], x), project(w["k_proj"], y), project(w["v_proj"], y)
    region = torch.zeros(height, width, dtype=x.dtype)
    if shift:
        q, k, v = (t.roll((-(tall // 2), -(wide // 2)), (1, 2)) for t in (q, k, v))
        for start in (height - tall, height - tall // 2):
            region[start:] += 3
        for start in (width - wide, width - wide // 2):
            region[:, start:] += 1

    def cut(t: Tensor) -> Tensor:
        t = t.view(-1, parts, tall, parts, wide, t.shape[-1]).permute(0, 1, 3, 2, 4, 5)
        return t.reshape(-1, tall * wide, t.shape[-1])

    labels = cut(region[None, ..., None])
    mask = torch.where(labels == labels.transpose(1, 2), 0.0, -100.0).to(x.dtype)
    scores = cut(q) @ cut(k).transpose(1, 2) / C**0.5 + mask.repeat(N, 1, 1)
    out = torch.softmax(scores, -1) @ cut(v)
    out = out.view(N, parts, parts, tall, wide, C).permute(0, 1, 3, 2, 4, 5)
    out = out.reshape(N, height, width, C)
    return out.roll((tall // 2, wide // 2), (1, 2)) if shift else out


def grid(like: Tensor) -> Tensor:
    """(x, y) of every pixel, (2, h, w)."""
    h, w = like.shape[-2:]
    x = torch.arange(w, dtype=like.dtype).expand(h, w)
    y = torch.arange(h, dtype=like.dtype)[:, None].expand(h, w)
    return torch.stack([x, y])


def sample(x: Tensor, place: Tensor) -> Tensor:
    """x at `place` (B, 2, h, w), in pixels; 0 outside."""
    size = place.new_tensor([x.shape[3] - 1, x.shape[2] - 1]).view(2, 1, 1)
    return F.grid_sample(x, (2 * place / size - 1).permute(0, 2, 3, 1), align_corners=True)


def rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def match_all(one: Tensor, two: Tensor) -> Tensor:
    prob = torch.softmax(rows(one) @ two.flatten(2) / C**0.5, -1)
    where = prob @ rows(grid(one)[None])
    return where.transpose(1, 2).reshape(len(one), 2, *one.shape[2:]) - grid(one)


def near(x: Tensor, flow: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """x around every place that the flow leads to: (B, C, L, taps), and the places themselves."""
    steps = torch.arange(-radius, radius + 1, dtype=x.dtype)
    step = torch.stack([steps.repeat(len(steps)), steps.repeat_interleave(len(steps))], 1)
    place = rows(grid(x) + flow)[:, :, None] + step  # (B, L, taps, 2)
    return sample(x, place.permute(0, 3, 1, 2)), place


def match_near(one: Tensor, two: Tensor, radius: int) -> Tensor:
    B, _, h, w = one.shape
    around, place = near(two, torch.zeros_like(one[:, :2]), radius)
    score = (rows(one)[:, :, None] @ around.permute(0, 2, 1, 3))[:, :, 0] / C**0.5
    x, y = place.unbind(-1)
    score[(x < 0) | (x >= w) | (y < 0) | (y >= h)] = -1e9
    where = (torch.softmax(score, -1)[:, :, None] @ place)[:, :, 0]
    return where.transpose(1, 2).reshape(B, 2, h, w) - grid(one)


def propagate(w: Part, x: Tensor, flow: Tensor, *, near: bool) -> Tensor:
    B, _, height, width = x.shape
    q = project(w["q_proj"], rows(x))
    if not near:
        k = project(w["k_proj"], q)  # twice projected: published so
        prob = torch.softmax(q @ k.transpose(1, 2) / C**0.5, -1)
        return (prob @ rows(flow)).transpose(1, 2).reshape(flow.shape)
    k = project(w["k_proj"], rows(x)).transpose(1, 2).reshape(x.shape)
    keys = F.unfold(k, 3, padding=1).view(B, C, 9, -1).permute(0, 3, 1, 2)
    values = F.unfold(flow, 3, padding=1).view(B, 2, 9, -1).permute(0, 3, 2, 1)
    prob = torch.softmax(q[:, :, None] @ keys / C**0.5, -1)
    return (prob @ values)[:, :, 0].transpose(1, 2).reshape(B, 2, height, width)


def upsample(flow: Tensor, logits: Tensor, factor: int) -> Tensor:
    B, _, h, w = flow.shape
    weight = torch.softmax(logits.view(B, 1, 9, factor, factor, h, w), 2)
    coarse = F.unfold(factor * flow, 3, padding=1).view(B, 2, 9, 1, 1, h, w)
    fine = (weight * coarse).sum(2).permute(0, 1, 4, 2, 5, 3)
    return fine.reshape(B, 2, factor * h, factor * w)


def refine(w: Part, first: Tensor, second: Tensor, x: Tensor, flow: Tensor, steps: int) -> Tensor:
    unit = w["refine"]
    begin, context = convolve(w["refine_proj"], x).chunk(2, 1)
    for _ in range(steps):
        around, _ = near(second, flow, 4)
        seen = (rows(first)[:, :, None] @ around.permute(0, 2, 1, 3))[:, :, 0] / C**0.5
        seen = seen.transpose(1, 2).reshape(len(x), 81, *x.shape[2:])
        part = unit["encoder"]
        seen = convolve(part["convc1"], seen).relu()
        seen = convolve(part["convc2"], seen, padding=1).relu()
        moved = convolve(part["convf1"], flow, padding=3).relu()
        moved = convolve(part["convf2"], moved, padding=1).relu()
        both = convolve(part["conv"], torch.cat([seen, moved], 1), padding=1).relu()
        given = torch.cat([context.relu(), both, flow], 1)
        h = begin.tanh()
        for way, padding in (("1", (0, 2)), ("2", (2, 0))):
            gate = unit["gru"]
            hx = torch.cat([h, given], 1)
            z = convolve(gate["convz" + way], hx, padding=padding).sigmoid()
            r = convolve(gate["convr" + way], hx, padding=padding).sigmoid()
            fresh = torch.cat([r * h, given], 1)
            h = (1 - z) * h + z * convolve(gate["convq" + way], fresh, padding=padding).tanh()
        head = convolve(unit["flow_head"]["conv1"], h, padding=1).relu()
        flow = flow + convolve(unit["flow_head"]["conv2"], head, padding=1)
    logits = convolve(unit["mask"]["0"], h, padding=1).relu()
    return upsample(flow, convolve(unit["mask"]["2"], logits), 4)
