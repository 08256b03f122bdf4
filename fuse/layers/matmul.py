"""Float32 products by oneDNN instead of MKL, where that is faster and as exact.

MKL runs its AVX2 kernels on AMD, oneDNN its AVX-512 ones, twice as fast; a training on a CPU is
mostly such products. torch hands float32 ones to oneDNN where it may compute them in bfloat16; on a
CPU without matrix tiles oneDNN still computes in float32. That is no promise, so it is tried first:
against float64, forward and backward. (`mmf.extract.matmul` does the same for networks of stage
one.)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

_SLACK = 4.0  # times MKL's own error; rounding to bfloat16 is a hundred times that
_mkldnn: Any = torch.backends.mkldnn  # its annotations lack `matmul`


@contextmanager
def fast_matmul() -> Iterator[None]:
    """Within it float32 products on the CPU, of the whole process, go through oneDNN if exact."""
    if not onednn_is_exact():
        yield
        return
    with _precision("bf16"):
        yield


@cache
def onednn_is_exact() -> bool:
    """Whether oneDNN's float32 products have no larger errors here than MKL's; tried once."""
    if not _mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False  # without AVX-512 both libraries have the same kernels
    generator = torch.Generator().manual_seed(0)
    x, w, g = (torch.randn(*s, generator=generator) for s in ((256, 768), (512, 768), (256, 512)))
    pairs = ((x, w.T), (g, w), (g.T, x))  # of a linear layer: forward, and both its gradients
    with torch.inference_mode():
        return all(_errors("bf16", *pair) <= _SLACK * _errors("none", *pair) for pair in pairs)


def _errors(precision: str, a: torch.Tensor, b: torch.Tensor) -> float:
    with _precision(precision):
        return (a @ b - a.double() @ b.double()).abs().max().item()


@contextmanager
def _precision(name: str) -> Iterator[None]:
    backend = _mkldnn.matmul
    before, backend.fp32_precision = backend.fp32_precision, name
    try:
        yield
    finally:
        backend.fp32_precision = before
