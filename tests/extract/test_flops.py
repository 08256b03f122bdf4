"""The operations of a row: torch's count against counts by hand."""

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from mmf.extract.backbones import Backbone, backbone
from mmf.store import FeatureSpec


def built(name: str, *, batch: int | None = None) -> Backbone:
    return backbone(name, weights="random:0", batch=batch)


def resnet18() -> int:
    """Products in ResNet-18 (He et al., 2015, table 1) without its classifier, at 224 × 224."""
    products = 112**2 * 64 * 3 * 7**2 + 4 * 56**2 * 64 * 64 * 3**2
    for side, wide in ((28, 128), (14, 256), (7, 512)):
        narrow = wide // 2
        first, shortcut = wide * narrow * 3**2, wide * narrow
        products += side**2 * (first + 3 * wide * wide * 3**2 + shortcut)
    return products


def vit_small() -> int:
    """Products in ViT-S/14 (Oquab et al., DINOv2, 2023) at 224 × 224: attention's are some."""
    width, patches = 384, 16**2
    tokens = patches + 1
    linear = (3 + 1 + 4 + 4) * width**2  # queries, keys and values; out; up and down
    return patches * width * 3 * 14**2 + 12 * (tokens * linear + 2 * tokens**2 * width)


@pytest.mark.parametrize(("name", "products"), [("resnet18", resnet18), ("dinov2", vit_small)])
def test_a_row_costs_two_operations_for_each_product_counted_by_hand(name, products):
    assert built(name).flops_per_row() == 2 * products()


def test_a_rows_share_of_a_real_batch_is_what_was_counted_without_storage():
    network = built("resnet18", batch=3)
    payloads = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    with FlopCounterMode(display=False) as counter:
        network.trunk(network.prepare(payloads))
    assert counter.get_total_flops() == 3 * network.flops_per_row()


def test_a_network_whose_parts_were_fused_costs_as_much_as_before():
    network = built("mobilenet_v2", batch=1)
    before = network.flops_per_row()
    network.rows(network.empty_batch())
    assert network.flops_per_row() == before > 0


def test_a_store_that_says_nothing_of_costs_opens():
    written = FeatureSpec(name="rgb", modality="rgb", shape=(3,), flops_per_row=5.0).to_json()
    del written["flops_per_row"]
    assert FeatureSpec.from_json(written).flops_per_row is None
