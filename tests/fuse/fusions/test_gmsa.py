"""GMSA as a whole model."""

import pytest
import torch

from mmf.fuse.aggregators.gmsa import GMSAOptions
from mmf.fuse.config import TrainConfig
from mmf.fuse.fusions.contract import Stream
from mmf.fuse.fusions.gmsa import GMSAFusion
from mmf.fuse.network import Network


def test_the_whole_models_size_is_near_that_of_the_paper():
    options = {"variant": "baseline"}
    config = TrainConfig(fusion="gmsa", fusion_options=options, normalise="l2")
    classes = [str(c) for c in range(3862)]
    network = Network(config, {"rgb": (1024,), "audio": (128,)}, classes, "bce")
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters * 4 / 2**20 == pytest.approx(48.9, rel=0.02)


def test_gmsa_as_a_fusion_is_the_aggregator_and_concat():
    shapes, masks = {"a": (3,), "b": (4,)}, {}
    options = {"heads": 2, "extent": 2}
    whole = TrainConfig(fusion="gmsa", fusion_options=options)
    parts = TrainConfig(fusion="concat", aggregate="gmsa", aggregate_options=options)
    one, other = (Network(c, shapes, ("x", "y"), "ce").eval() for c in (whole, parts))
    state = {k.replace("fusion.streams", "aggregate"): v for k, v in one.state_dict().items()}
    other.load_state_dict(state)
    features = {"a": torch.randn(4, 5, 3), "b": torch.randn(4, 7, 4)}
    masks = {"a": torch.rand(4, 5) < 0.5, "b": torch.rand(4, 7) < 0.5}
    masks["a"][1], masks["b"][2] = False, False
    assert torch.equal(one(features, masks), other(features, masks))


def test_a_feature_that_an_item_lacks_is_a_learned_vector_in_the_whole_model():
    streams = {"a": Stream(size=3, most=5), "b": Stream(size=4, most=5)}
    fusion = GMSAFusion(streams, GMSAOptions(heads=2), 1)
    with torch.no_grad():
        fusion.missing[1].fill_(2.0)
    there = torch.ones(2, 5, dtype=torch.bool)
    found = fusion([torch.randn(2, 5, 3), torch.zeros(2, 5, 4)], [there, torch.zeros_like(there)])
    assert torch.equal(found[:, 3:], torch.full((2, 4), 2.0))
