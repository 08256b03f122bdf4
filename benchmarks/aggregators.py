"""How fast are MFB, NetVLAD, DBoF and GMSA, forward and backward, against a plain transcription?

    python benchmarks/aggregators.py [mfb netvlad dbof gmsa:gate_op …] [--full] [--batch 16]

YouTube-8M's sizes: 1024 numbers a step (MFB: 1024 and 128), items of 120 to 300 steps (its videos
are 120 to 500 s long and cut at 300), or of 300 each with --full. Plain is what one writes down
from the equations: padded steps computed and masked, every map of attention made, products by
torch's default. Ours is measured with that, too, and then as it trains, by `fast_matmul`.
CPU milliseconds of one thread, medians of turns in one run. The errors are those of output and
gradients against the transcription in float64, the largest over the largest number there, for four
items of 256 numbers a step (a ReLU whose input is 0 but for rounding may fall to either side).
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.fusions.mfb import MFB, MFBOptions
from mmf.matmul import fast_matmul

DEFAULT = [
    *("mfb", "netvlad", "netvlad:256", "dbof"),
    *("gmsa:baseline", "gmsa:share_att", "gmsa:gate_att", "gmsa:gate_op"),
    *("gmsa:gate_op:block_diagonal", "gmsa:gate_op:toeplitz_dilated"),
]
T, D, AUDIO = 300, 1024, 128
Given = tuple[Tensor, Tensor]
Plain = Callable[[nn.Module, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=DEFAULT)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="every item has all 300 steps")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{_cpu()}, torch {torch.__version__}, 1 thread, batch {asked.batch}, ms a step\n")
    print("| model | plain | ours, same products | ours | ratios | error plain | error ours |")
    print("|---|---|---|---|---|---|---|")
    for name in asked.names:
        print(line(name, asked.batch, asked.full, asked.repeat), flush=True)


def line(name: str, batch: int, full: bool, repeat: int, **sizes: int) -> str:
    wrong = [f"{e:.0e}" for e in errors(*build(name, 256), data(name, 4, full, size=256))]
    model, plain = build(name, sizes.get("size", D))
    given = data(name, batch, full, **sizes)
    ours, theirs = step(model, model, given), step(model, lambda *g: plain(model, *g), given)
    ways = {
        "plain": (theirs, nullcontext),
        "same": (ours, nullcontext),
        "ours": (ours, fast_matmul),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeat + 1):
        for way, (run, products) in ways.items():
            with products():
                start = time.process_time()
                run()
                if turn:  # the first one warms
                    times[way].append(1000 * (time.process_time() - start))
    medians = {way: statistics.median(each) for way, each in times.items()}
    ratios = " ".join(f"{medians['plain'] / medians[way]:.2f}" for way in ("same", "ours"))
    numbers = " | ".join(f"{medians[way]:.0f}" for way in ways)
    return f"| {name} | {numbers} | {ratios} | {' | '.join(wrong)} |"


def errors(model: nn.Module, plain: Plain, given: Given) -> tuple[float, float]:
    """Of the transcription and of ours, in float32."""
    theirs = step(model, lambda *g: plain(model, *g), given)()
    with fast_matmul():
        ours = step(model, model, given)()
    exact = step(model.double(), lambda *g: plain(model, *g), tuple(map(_double, given)))()
    model.float()
    off = [
        max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, exact, strict=True))
        for found in (theirs, ours)
    ]
    return off[0], off[1]


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def data(name: str, items: int, full: bool, steps: int = T, size: int = D) -> Given:
    """Rows and their mask; for MFB a vector of each feature, side by side, and which are there."""
    torch.manual_seed(0)
    if name == "mfb":
        return torch.randn(items, size + AUDIO), torch.rand(items, 2) < (2 if full else 0.9)
    lengths = torch.randint(steps * 2 // 5, steps + 1, (items, 1))
    if full:
        lengths[:] = steps
    mask = torch.arange(steps) < lengths
    return functional.normalize(torch.randn(items, steps, size), dim=2) * mask.unsqueeze(2), mask


def build(name: str, size: int) -> tuple[nn.Module, Plain]:
    torch.manual_seed(0)
    if name == "mfb":
        return VectorsOfOne(size), plain_mfb
    name, *chosen = name.split(":")
    kind = AGGREGATORS.load(name)
    options: dict = {}
    if name == "gmsa":
        options = dict(zip(("variant", "mask"), chosen, strict=False))
    elif chosen:
        options = {"clusters": int(chosen[0])}
    plain = {"netvlad": plain_netvlad, "dbof": plain_dbof, "gmsa": plain_gmsa}[name]
    return kind(size, kind.Options(**options)).train(), plain


class VectorsOfOne(nn.Module):
    """MFB of two features that come side by side."""

    def __init__(self, size: int):
        super().__init__()
        self.mfb = MFB({"rgb": size, "audio": AUDIO}, MFBOptions(dropout=0.0), 1)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        return self.mfb(x.split([x.shape[1] - AUDIO, AUDIO], 1), present)


def step(
    model: nn.Module, forward: Callable[[Tensor, Tensor], Tensor], given: Given
) -> Callable[[], list[Tensor]]:
    def run() -> list[Tensor]:
        model.zero_grad()
        out = forward(*given)
        generator = torch.Generator().manual_seed(1)
        out.backward(torch.randn(out.shape, generator=generator).to(out.dtype))
        return [out.detach(), *(p.grad for p in model.parameters())]

    return run


def plain_mfb(m: nn.Module, x: Tensor, present: Tensor) -> Tensor:
    U, V = m.mfb.projections
    rgb, audio = x[:, :-AUDIO], x[:, -AUDIO:]
    rgb = rgb / rgb.square().sum(1, keepdim=True).sqrt()
    audio = audio / audio.square().sum(1, keepdim=True).sqrt()
    left = torch.where(present[:, :1], rgb @ U.weight.T + U.bias, 1.0)
    right = torch.where(present[:, 1:], audio @ V.weight.T + V.bias, 1.0)
    f = (left * right).reshape(len(x), -1, 5).sum(2).relu()
    return f / f.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)


def plain_norm(x: Tensor, mask: Tensor, norm: nn.Module) -> Tensor:
    weight = mask.unsqueeze(2)
    number = mask.sum()
    mean = (x * weight).sum((0, 1)) / number
    var = ((x - mean).square() * weight).sum((0, 1)) / number
    return (x - mean) / (var + 1e-3).sqrt() * norm.weight + norm.bias


def plain_netvlad(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    a = plain_norm(x @ m.assign.weight.T, mask, m.norm).softmax(2) * mask.unsqueeze(2)
    V = torch.einsum("btd,btk->bdk", x, a) - torch.einsum("btk,dk->bdk", a, m.centres)
    V = V / V.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
    f = V.flatten(1)
    return (f / f.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()) @ m.hidden.weight.T


def plain_dbof(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    linear, norm = m.words
    h = plain_norm(x @ linear.weight.T, mask, norm).relu()
    return h.masked_fill(~mask.unsqueeze(2), -float("inf")).amax(1)


def plain_gmsa(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    attention = m.attention
    H, variant = attention.heads, attention.variant

    def heads(weight: Tensor) -> Tensor:
        return (x @ weight.T).unflatten(2, (H, -1)).transpose(1, 2)

    Q, K, V = map(heads, attention.queries_keys_values.weight.chunk(3))
    itself = torch.eye(mask.shape[1], dtype=torch.bool)
    there = mask[:, None, None, :] | itself
    near = there & attention.options.pairs(mask.shape[1])
    scores = Q @ K.transpose(2, 3) / Q.shape[3] ** 0.5
    A_far = scores.masked_fill(~there, -float("inf")).softmax(3)
    A_near = scores.masked_fill(~near, -float("inf")).softmax(3)

    def merged(A: Tensor) -> Tensor:
        return (A @ V).transpose(1, 2).flatten(2)

    if variant == "gate_op":
        W_far, G_far = attention.from_global.weight.chunk(2)
        W_near, G_near = attention.from_local.weight.chunk(2)
        O_far, O_near = merged(A_far), merged(A_near)
        R = torch.stack([O_far @ G_far.T, O_near @ G_near.T]).softmax(0)
        y = R[0] * (O_far @ W_far.T) + R[1] * (O_near @ W_near.T)
    else:
        A = A_far
        if variant == "share_att":
            A = torch.cat([A_far[:, : H // 2], A_near[:, H // 2 :]], 1)
        if variant == "gate_att":
            n = mask.shape[1]
            W_far, W_near = attention.gates[:, :n, :n]
            R = torch.stack([A_far @ W_far, A_near @ W_near]).softmax(0)
            A = R[0] * A_far + R[1] * A_near
        y = merged(A) @ attention.out.weight.T
    y = m.norm(x + y)
    y = m.feed_forward_norm(y + m.feed_forward(y))
    return (y * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)


def _cpu() -> str:
    with open("/proc/cpuinfo") as file:
        names = [x.partition(":")[2].strip() for x in file if x.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
