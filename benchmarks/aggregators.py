"""How fast are NetVLAD, DBoF and GMSA, forward and backward, against a plain transcription?

    python benchmarks/aggregators.py [netvlad dbof gmsa:gate_op …] [--full]

YouTube-8M's rgb: 1024 numbers a step, items of 120 to 300 steps (its videos are 120 to 500 s long
and cut at 300), or of 300 each with --full. Plain is what one writes down from the equations:
padded steps computed and masked, every map of attention made, one product for each matrix.
Seconds of one thread, medians, both sides in turn in one run; the difference is the largest of
output and gradients over the largest number there.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmf.fuse.aggregators import AGGREGATORS

DEFAULT = [
    *("netvlad", "netvlad:256", "dbof"),
    *("gmsa:baseline", "gmsa:share_att", "gmsa:gate_att", "gmsa:gate_op"),
]
T, D = 300, 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=DEFAULT)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="every item has all 300 steps")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{_cpu()}, torch {torch.__version__}, 1 thread, batch {asked.batch}, ms a step\n")
    print("| aggregator | plain | ours | ratio | difference |")
    print("|---|---|---|---|---|")
    x, mask = data(asked.batch, asked.full)
    for name in asked.names:
        print(line(name, x, mask, asked.repeat), flush=True)


def data(items: int, full: bool, steps: int = T, size: int = D) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    lengths = torch.randint(steps * 2 // 5, steps + 1, (items, 1))
    if full:
        lengths[:] = steps
    mask = torch.arange(steps) < lengths
    return functional.normalize(torch.randn(items, steps, size), dim=2) * mask.unsqueeze(2), mask


def line(name: str, x: Tensor, mask: Tensor, repeat: int) -> str:
    aggregator, plain = build(name, x.shape[2])
    ours, theirs = step(aggregator, aggregator, x, mask), step(aggregator, plain, x, mask)
    found, wanted = ours(), theirs()
    pairs = list(zip(found, wanted, strict=True))
    difference = max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(repeat):
        for side, run in (("plain", theirs), ("ours", ours)):
            start = time.perf_counter()
            run()
            times[side].append(1000 * (time.perf_counter() - start))
    plain_ms, ours_ms = (statistics.median(times[side]) for side in ("plain", "ours"))
    ratio = plain_ms / ours_ms
    return f"| {name} | {plain_ms:.0f} | {ours_ms:.0f} | {ratio:.2f} | {difference:.0e} |"


def build(name: str, size: int) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    name, _, variant = name.partition(":")
    kind = AGGREGATORS.load(name)
    chosen: dict = {}
    if name == "gmsa":
        chosen = {"variant": variant}
    elif variant:
        chosen = {"clusters": int(variant)}
    torch.manual_seed(0)
    aggregator = kind(size, kind.Options(**chosen)).train()
    plain = {"netvlad": plain_netvlad, "dbof": plain_dbof, "gmsa": plain_gmsa}[name]
    return aggregator, lambda x, mask: plain(aggregator, x, mask)


def step(
    module: nn.Module, forward: Callable[[Tensor, Tensor], Tensor], x: Tensor, mask: Tensor
) -> Callable[[], list[Tensor]]:
    def run() -> list[Tensor]:
        module.zero_grad()
        out = forward(x, mask)
        out.backward(torch.linspace(-1, 1, out.numel()).reshape(out.shape))
        return [out.detach(), *(p.grad for p in module.parameters())]

    return run


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
