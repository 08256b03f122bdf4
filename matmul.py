"""Float32 products by oneDNN instead of MKL, where that is faster and as exact; for both stages.

MKL runs its AVX2 kernels on AMD, oneDNN its AVX-512 ones: 2.4 times as fast. torch hands float32
products to oneDNN where it is allowed to compute them in bfloat16; on a CPU without matrix tiles
oneDNN then still computes in float32. That is no promise, so it is tried before it is used: against
float64, on the shapes that networks have, forward and backward. A CPU that would really round to
bfloat16 fails by far.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

_SHAPES = ((1, 64, 768, 768), (1, 1024, 256, 1024), (1, 197, 1024, 128), (8, 256, 128, 256))
_SLACK = 4.0  # times plain float32's own error; rounding to bfloat16 is a hundred times that

_mkldnn: Any = torch.backends.mkldnn  # its annotations lack `matmul`
_lock = threading.Lock()
_users = 0
_before = "none"


@contextmanager
def fast_matmul() -> Iterator[None]:
    """Within it float32 products on the CPU go through oneDNN, if this machine's are exact.

    The setting is the whole process's; it ends with the last thread that is inside.
    """
    global _users, _before
    if not onednn_is_exact():
        yield
        return
    backend = _mkldnn.matmul
    with _lock:
        if _users == 0:
            _before, backend.fp32_precision = backend.fp32_precision, "bf16"
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                backend.fp32_precision = _before


@cache
def onednn_is_exact() -> bool:
    """Whether oneDNN's float32 products have no larger errors here than MKL's; tried once."""
    if not _mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False  # without AVX-512 both libraries have the same kernels
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(), _lock:
        return all(_is_exact(shape, generator) for shape in _SHAPES)


def _is_exact(shape: tuple[int, int, int, int], generator: torch.Generator) -> bool:
    """For a product (B, n, k) (B, k, m), and as a linear layer has them backward: transposed."""
    batch, rows, inner, columns = shape
    a = torch.randn(batch, rows, inner, generator=generator)
    b = torch.randn(batch, inner, columns, generator=generator)
    g = torch.randn(batch, rows, columns, generator=generator)
    pairs = ((a, b), (g, b.mT), (a.mT, g))
    return all(_error("bf16", *pair) <= _SLACK * _error("none", *pair) for pair in pairs)


def _error(precision: str, a: torch.Tensor, b: torch.Tensor) -> float:
    backend = _mkldnn.matmul
    before, backend.fp32_precision = backend.fp32_precision, precision
    try:
        return (a @ b - a.double() @ b.double()).abs().max().item()
    finally:
        backend.fp32_precision = before
