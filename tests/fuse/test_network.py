"""The network as a whole: padding, missing features, grids, and every fusion with every head."""

import itertools

import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse.config import TrainConfig
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.heads import HEADS
from mmf.fuse.layers.normalise import Normalise, l2_joint
from mmf.fuse.network import Network
from mmf.fuse.policy.contract import SegmentFusion

SHAPES = {"a": (3,), "b": (4,)}


@pytest.fixture
def build(small):
    def make(fusion: str = "concat", shapes=None, **options) -> Network:
        torch.manual_seed(0)
        shapes = shapes or ({"a": (3,)} if fusion == "single" else SHAPES)
        its = {"fusion_options": small(FUSIONS, fusion)}
        its["head_options"] = small(HEADS, options.get("head", "logistic"))
        config = TrainConfig(fusion=fusion, max_steps=20, **(its | options))
        return Network(config, shapes, ("x", "y", "z"), "ce").eval()

    return make


def batch(steps: int = 5) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    features = {"a": torch.randn(4, steps, 3), "b": torch.randn(4, steps + 2, 4)}
    masks = {n: torch.ones(x.shape[:2], dtype=torch.bool) for n, x in features.items()}
    masks["a"][1, 2:] = False
    masks["b"][2] = False
    return features, masks


def only(network: Network, given: dict) -> dict:
    return {n: given[n] for n in network.features}


@pytest.mark.parametrize(("fusion", "head"), itertools.product(FUSIONS, HEADS))
def test_every_fusion_goes_with_every_head(build, fusion, head):
    if head == "sequence" and issubclass(FUSIONS.load(fusion), SegmentFusion):
        with pytest.raises(MmfError, match="takes each item alone"):
            build(fusion, head=head)
        return
    network = build(fusion, head=head)
    features, masks = batch()
    logits = network(only(network, features), only(network, masks))
    assert logits.shape == (4, 3)
    assert logits.isfinite().all()
    again = network(only(network, features), only(network, masks))
    assert torch.equal(logits, again)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("normalise", ["standardise", "l2", "l2_joint", "none"])
def test_padding_does_not_change_the_logits(build, fusion, normalise):
    network = build(fusion, normalise=normalise)
    if normalise == "standardise":
        network.standardise("a", [torch.randn(50, 3) * 5 + 2])
    features, masks = batch()
    wanted = network(only(network, features), only(network, masks))
    padded, wider = {}, {}
    for name, x in features.items():
        x = x.masked_fill(~masks[name].unsqueeze(2), float("nan"))  # whatever stands there
        padded[name] = torch.cat([x, torch.full((4, 3, x.shape[2]), 1e6)], 1)
        wider[name] = torch.cat([masks[name], torch.zeros(4, 3, dtype=torch.bool)], 1)
    found = network(only(network, padded), only(network, wider))
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != "single"])
def test_a_feature_left_out_is_missing_for_every_item(build, fusion):
    network = build(fusion)
    features, masks = batch()
    masks["b"][:] = False
    wanted = network(features, masks)
    found = network({"a": features["a"]}, {"a": masks["a"]})
    assert torch.allclose(found, wanted, atol=1e-6)  # other shapes are summed in another order


def test_without_masks_every_row_counts(build):
    network, (features, masks) = build(), batch()
    everything = {n: torch.ones_like(m) for n, m in masks.items()}
    assert torch.equal(network(features), network(features, everything))


def test_an_unknown_feature_is_refused(build):
    with pytest.raises(UnknownName, match="unknown feature 'aa'"):
        build()({"aa": torch.randn(1, 2, 3)})


def test_rows_of_another_shape_are_refused(build):
    with pytest.raises(MmfError, match=r"'a': rows of shape \(5,\); expected \(3,\)"):
        build()({"a": torch.randn(1, 2, 5)})


def test_no_feature_is_refused(build):
    with pytest.raises(MmfError, match="given no feature"):
        build()({})


def test_a_grid_counts_as_steps_of_its_last_dimension(build):
    network = build("single", {"a": (2, 2, 3)})
    x = torch.randn(2, 5, 2, 2, 3)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[0, 3:] = False
    flat = build("single", {"a": (3,)})
    wanted = flat({"a": x.reshape(2, 20, 3)}, {"a": mask.repeat_interleave(4, 1)})
    assert torch.allclose(network({"a": x}, {"a": mask}), wanted, atol=1e-6)


def test_rows_of_no_dimension_are_numbers(build):
    assert build("single", {"a": ()})({"a": torch.randn(2, 5)}).shape == (2, 3)


@pytest.mark.parametrize("name", ["values", "training", "type", "forward"])
def test_a_feature_may_be_called_like_an_attribute_of_a_module(build, name):
    assert build("concat", {name: (3,), "b": (4,)})({name: torch.randn(2, 5, 3)}).shape == (2, 3)


def test_parameters_are_counted_by_part(build):
    counts = build("mfb").parameter_counts()
    assert counts["fusion"] == (3 + 1) * 40 + (4 + 1) * 40  # 8 outputs of 5 factors
    assert counts["head"] == 8 * 3 + 3
    assert counts["total"] == sum(counts[n] for n in ("aggregate", "fusion", "head"))


def test_standardising_takes_the_mean_and_deviation_of_all_rows():
    torch.manual_seed(0)
    rows = torch.randn(1000, 3) * torch.tensor([1.0, 1e-3, 10.0]) + torch.tensor([0.0, 1e3, 5.0])
    module = Normalise(3, "standardise")
    assert module.fit([rows[:1], rows[1:400], rows[:0], rows[400:]]) == 1000
    assert torch.allclose(module.mean, rows.mean(0), rtol=1e-5)
    assert torch.allclose(module.sd, rows.double().std(0, unbiased=False).float(), rtol=1e-3)


def test_a_dimension_that_does_not_vary_is_not_blown_up():
    module = Normalise(2, "standardise")
    module.fit([torch.tensor([[7.0, 1.0], [7.0, 3.0]])])
    out = module(torch.tensor([[[7.5, 2.0]]]), torch.ones(1, 1, dtype=torch.bool))
    assert torch.allclose(out, torch.tensor([[[0.5, 0.0]]]))


def test_l2_clamps_the_squared_length_as_tensorflow_does():
    out = Normalise(2, "l2")(
        torch.tensor([[[3.0, 4.0], [1e-8, 0.0], [0.0, 0.0]]]), torch.ones(1, 3, dtype=torch.bool)
    )
    assert torch.allclose(out, torch.tensor([[[0.6, 0.8], [0.01, 0.0], [0.0, 0.0]]]))


def test_joint_l2_divides_by_the_length_of_all_features_rows_at_a_step():
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 3), torch.randn(2, 3, 4)
    both = torch.cat([a, torch.nn.functional.pad(b, (0, 0, 0, 2))], 2)
    wanted = both / both.norm(dim=2, keepdim=True)
    found = l2_joint([a, b])
    assert torch.allclose(found[0], wanted[..., :3])
    assert torch.allclose(found[1], wanted[:, :3, 3:])
    assert torch.equal(l2_joint([torch.zeros(1, 1, 2)])[0], torch.zeros(1, 1, 2))
    assert torch.allclose(
        l2_joint([torch.full((1, 1, 1), 1e-8), torch.zeros(1, 1, 1)])[0], torch.tensor(0.01)
    )


def test_joint_l2_refuses_rows_of_several_vectors(build):
    with pytest.raises(MmfError, match=r"'g' has rows of shape \[7, 7, 4\]"):
        build(shapes={"a": (3,), "g": (7, 7, 4)}, normalise="l2_joint")
