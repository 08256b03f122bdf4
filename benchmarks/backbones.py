"""How fast is the forward pass of each backbone on this CPU against plain eager float32?

    python benchmarks/backbones.py rgb:mobilenet_v2 audio:vggish clip:x3d:m

CPU seconds of one thread, medians, both sides in turn in one run. Plain: the same network with its
batch norms, contiguous, MKL's products. Ours: as `Backbone.rows` computes it (channels last, batch
norm folded, oneDNN's products where they pass their test). Error: the largest difference from the
same network in float64, over the largest number there.
"""

import argparse
import copy
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
    "audio:vggish",
    "clip:x3d:s",
    "clip:x3d:m",
    "clip:r3d_18",
    "clip:r2plus1d_18",
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=DEFAULT, help="MODALITY:BACKBONE[:VARIANT]")
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{_cpu()}, torch {torch.__version__}, 1 thread\n")
    print("| backbone | GFLOP/row | plain ms/row | ours ms/row | ratio | GFLOP/s | errors |")
    print("|---|---|---|---|---|---|---|")
    for name in asked.names:
        print(_line(name, asked.repeat), flush=True)


@torch.inference_mode()
def _line(name: str, repeat: int) -> str:
    modality, _, called = name.partition(":")
    setup = {"modality": modality, "weights": "random:0"}
    with mock.patch("mmf.extract.backbones.imagenet.folded", lambda network: network):
        plain = backbone(called, **setup)
    ours = backbone(called, **setup)
    assert isinstance(ours, NetworkBackbone)
    assert isinstance(plain, NetworkBackbone)
    given = ours.prepare(_payloads(ours))
    network = plain.trunk.to(memory_format=torch.contiguous_format)
    exact = copy.deepcopy(network).double()(given.double())
    fast = given
    if given.dim() == 4:
        fast = given.contiguous(memory_format=ours.memory_format)

    def run_ours() -> Tensor:
        with ours._products():
            return ours.trunk(fast)

    sides: list[Callable[[], Tensor]] = [lambda: network(given), run_ours]
    errors = [(side().double() - exact).abs().max() / exact.abs().max() for side in sides]
    times: list[list[float]] = [[], []]
    for _ in range(repeat):
        for side, kept in zip(sides, times, strict=True):
            start = time.process_time()
            side()
            kept.append((time.process_time() - start) / len(given))
    before, after = map(statistics.median, times)
    work = ours.flops_per_row() / 1e9
    return (
        f"| {name} | {work:.2f} | {before * 1e3:.1f} | {after * 1e3:.1f} | {before / after:.2f} | "
        f"{work / after:.0f} | {errors[0]:.0e}, {errors[1]:.0e} |"
    )


def _payloads(built: NetworkBackbone) -> np.ndarray:
    batch, rng = built.empty_batch(), np.random.default_rng(0)
    if batch.dtype == np.float32:
        return rng.normal(0, 0.1, batch.shape).astype(np.float32)
    return rng.integers(0, 256, batch.shape, np.uint8)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


if __name__ == "__main__":
    main()
