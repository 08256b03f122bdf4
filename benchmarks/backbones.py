"""How fast is the forward pass of each backbone on this CPU against plain eager float32?

    python benchmarks/backbones.py [rgb:mobilenet_v2 audio:vggish clip:x3d:m …]

CPU seconds of one thread, medians, all sides in turn in one run. Plain: the same network as torch
runs it by itself, with its batch norms, contiguous, MKL's products. Ours: as `Backbone.rows`
computes it (convolutions fused by oneDNN, channels last, oneDNN's products where they pass their
test). Difference: the largest from plain float32, over the largest number there.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from mmf.extract.backbones import backbone
from mmf.extract.backbones.network import NetworkBackbone

DEFAULT = [
    "rgb:resnet34",
    "rgb:mobilenet_v2",
    "rgb:inception_v3",
    "rgb:inception_2015",
    "rgb:timm:resnet50",
    "audio:vggish",
    "audio:ast",
    "clip:r3d_18",
    "clip:r2plus1d_18",
    "clip:x3d:m",
    "clip:s3d",
    "clip:swin3d_t",
    "text:bert",
    "text:bert:large",
]
TOKENS = "128"
WORDS = "many words stand in this line so that the whole length of the text is filled " * 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=DEFAULT, help="MODALITY:BACKBONE[:VARIANT]")
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{_cpu()}, torch {torch.__version__}, 1 thread, CPU ms/row\n")
    print(
        "| backbone | batch | plain | ours | ratio | GFLOP/s | difference | bf16 | ratio | diff. |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in asked.names:
        print(_line(name, asked.repeat), flush=True)


@torch.inference_mode()
def _line(name: str, repeat: int) -> str:
    with mock.patch("mmf.extract.backbones.imagenet.folded", lambda network: network):
        plain = _built(name, "fp32")
    backbones = {"fp32": _built(name, "fp32"), "bf16": _built(name, "bf16")}
    given = plain.prepare(_payloads(plain))
    network = plain.trunk.to(memory_format=torch.contiguous_format)
    sides: dict[str, Callable[[], Tensor]] = {"plain": lambda: network(given)}
    for precision, built in backbones.items():
        sides[precision] = _forward(built, given)
    made, times = {}, {side: list[float]() for side in sides}
    for side, run in list(sides.items()):
        try:
            made[side] = run().float()
        except NotImplementedError:  # a pool that torch has not in bfloat16
            del sides[side]
    for _ in range(repeat):
        for side, run in sides.items():
            start = time.process_time()
            run()
            times[side].append((time.process_time() - start) / len(given) * 1e3)
    spent = {side: statistics.median(times[side]) for side in sides}
    rate = plain.flops_per_row() / spent["fp32"] / 1e6
    cells = [name, str(plain.batch), f"{spent['plain']:.1f}"]
    for side in backbones:
        if side not in spent:
            cells += ["–"] * 3
            continue
        apart = (made[side] - made["plain"]).abs().max() / made["plain"].abs().max()
        cells += [f"{spent[side]:.1f}", f"{spent['plain'] / spent[side]:.2f}"]
        cells += [f"{rate:.0f}"] * (side == "fp32") + [f"{apart:.0e}"]
    return f"| {' | '.join(cells)} |"


def _built(name: str, precision: str) -> NetworkBackbone:
    modality, _, called = name.partition(":")
    options = {"tokens": TOKENS} if modality == "text" else {}
    setup = {"modality": modality, "weights": "random:0", "precision": precision}

    built = backbone(called, **setup, options=options)
    assert isinstance(built, NetworkBackbone)
    return built


def _forward(built: NetworkBackbone, given: Tensor) -> Callable[[], Tensor]:
    own = built._cast(given)
    if own.dim() == 4:
        own = own.contiguous(memory_format=built.memory_format)

    def run() -> Tensor:
        with built._products():
            return built._forward(own)

    return run


def _payloads(built: NetworkBackbone) -> np.ndarray:
    batch, rng = built.empty_batch(), np.random.default_rng(0)
    if batch.dtype == object:
        return np.array([f"{row} {WORDS}" for row in range(len(batch))], dtype=object)
    if batch.dtype == np.float32:
        return rng.normal(0, 0.1, batch.shape).astype(np.float32)
    return rng.integers(0, 256, batch.shape, np.uint8)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


if __name__ == "__main__":
    main()
