"""Products by oneDNN: as exact as MKL's, and only while they are asked for."""

import pytest
import torch

from mmf import matmul


def test_the_setting_ends_with_the_block_even_by_an_error(monkeypatch):
    backend = torch.backends.mkldnn.matmul
    monkeypatch.setattr(matmul, "onednn_is_exact", lambda: True)
    before, within = backend.fp32_precision, []

    def fail() -> None:
        within.append(backend.fp32_precision)
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"), matmul.fast_matmul():
        fail()
    assert within == ["bf16"]
    assert backend.fp32_precision == before


def test_where_onednn_would_round_nothing_is_changed(monkeypatch):
    errors = {"none": 1e-6, "bf16": 1e-2}
    monkeypatch.setattr(matmul, "_error", lambda precision, a, b: errors[precision])
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not matmul.onednn_is_exact.__wrapped__()
    monkeypatch.setattr(matmul, "onednn_is_exact", lambda: False)
    with matmul.fast_matmul():
        assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_a_layer_learns_the_same_in_float32():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(300, 200), torch.randn(64, 300)
    layer.double()(x.double()).square().sum().backward()
    wanted = [p.grad.clone() for p in layer.parameters()]
    layer.float().zero_grad()
    with matmul.fast_matmul():
        layer(x).square().sum().backward()
    pairs = zip(layer.parameters(), wanted, strict=True)
    assert all((p.grad - w).abs().max() < 1e-5 * w.abs().max() for p, w in pairs)
