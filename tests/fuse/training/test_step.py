"""What a step computes with."""

import pytest
import torch

from mmf import matmul
from mmf.fuse import TrainConfig
from mmf.fuse.network import Network
from mmf.fuse.training.step import products


@pytest.mark.parametrize(
    ("config", "size", "fast"),
    [
        ({"fusion": "concat"}, 4, True),
        ({"fusion": "gmsa"}, 64, False),
        ({"fusion": "gmsa"}, 512, True),
        ({"fusion": "early", "fusion_options": {"hidden": 64}}, 512, False),
    ],
)
def test_narrow_attention_keeps_the_usual_products(config, size, fast, monkeypatch):
    monkeypatch.setattr(matmul, "onednn_is_exact", lambda: True)
    with torch.device("meta"):
        network = Network(TrainConfig(**config), {"a": (size,), "b": (4,)}, ("x", "y"), "ce")
    with products(network):
        assert (torch.backends.mkldnn.matmul.fp32_precision == "bf16") is fast
