"""The ablation of a modality: its rows are zeros, and that is not that it is missing."""

import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse import TrainConfig, evaluate
from mmf.fuse.network import Network
from mmf.store import FeatureStore

SHAPES = {"a": (3,), "b": (4,)}


def build(**options) -> Network:
    torch.manual_seed(0)
    network = Network(TrainConfig(**options), SHAPES, ("x", "y"), "ce").eval()
    network.standardise("a", [torch.randn(50, 3) * 5 + 2])
    for vector in network.fusion.missing:
        vector.data += 1
    return network


def batch() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    features = {"a": torch.randn(4, 5, 3), "b": torch.randn(4, 6, 4)}
    masks = {n: torch.ones(x.shape[:2], dtype=torch.bool) for n, x in features.items()}
    masks["a"][1] = False
    return features, masks


def test_a_feature_that_is_not_there_cannot_be_zeroed():
    with pytest.raises(UnknownName, match="unknown feature 'aa'"):
        build(zero=("aa",))
    with pytest.raises(UnknownName, match="unknown feature 'c'"):
        build().zero(["c"])


def test_zeroed_rows_stand_at_the_mean_and_what_is_missing_stays_missing():
    features, masks = batch()
    network = build()
    at_mean = {**features, "a": network.normalise[0].mean.expand(4, 5, 3)}
    wanted = network(at_mean, masks)
    network.zero(["a"])
    assert torch.allclose(network(features, masks), wanted, atol=1e-6)
    assert torch.equal(build(zero=("a",))(features, masks), network(features, masks))
    assert not torch.allclose(network({"b": features["b"]}), network(features), atol=1e-3)


def test_a_run_may_be_trained_without_a_modality_or_measured_without(xor_store, make_run):
    options = {"fusion_options": {"outputs": 16}, "batch_size": 8, "lr": 1e-2}
    both = make_run(xor_store, epochs=40, **options)
    assert evaluate(both, device="cpu")["accuracy"] == 1
    assert evaluate(both, device="cpu", zero=("b",))["accuracy"] < 0.8
    alone = make_run(xor_store, name="alone", epochs=5, zero=("b",), **options)
    assert TrainConfig.read(alone / "config.json").zero == ("b",)
    found = evaluate(alone, device="cpu")
    assert found["loss"] == evaluate(alone, device="cpu", zero=("b",))["loss"]
    assert found["accuracy"] < 0.8


def test_a_feature_taken_for_missing_is_as_one_that_the_store_lacks(xor_store, make_run, tmp_path):
    run = make_run(xor_store, "concat", epochs=2)
    found = evaluate(run, device="cpu", without=("b",))
    assert found["loss"] != evaluate(run, device="cpu")["loss"]
    lacking = FeatureStore.create(tmp_path / "lacking")
    videos = xor_store.videos().to_pylist()
    lacking.add(xor_store.features["a"], [xor_store.read("a", v["video_id"]) for v in videos])
    lacking.label(
        {v["video_id"]: v["labels"] for v in videos},
        split={v["video_id"]: v["split"] for v in videos},
    )
    assert found == evaluate(run, lacking.path, device="cpu")
    with pytest.raises(UnknownName, match="unknown feature 'c'"):
        evaluate(run, device="cpu", without=("c",))
    with pytest.raises(MmfError, match="without a, b there is nothing to predict from"):
        evaluate(run, device="cpu", without=("a", "b"))
