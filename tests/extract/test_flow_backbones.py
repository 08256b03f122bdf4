"""Backbones on flow: the histograms, the flow itself, and networks for pictures that are fed."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.extract.backbones import BACKBONES, backbone, backbone_class
from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.backbones.flow_backbone import OPTIONS
from mmf.extract.backbones.flow_input import FlowInput
from mmf.extract.flow.encoding import encode
from mmf.extract.flow.farneback import farneback
from mmf.extract.flow.gmflow_network import PUBLISHED, GMFlowNetwork
from mmf.extract.recipe import build, request_from_spec, spec
from mmf.extract.request import parse_feature
from mmf.extract.signals import Clips, FramePairs, Signal


def on_flow(name: str, **options: str) -> Backbone:
    return backbone(name, modality="flow", weights="random:0", batch=2, options=options)


def moving(*steps: int) -> np.ndarray:
    """A pair of frames for each step to the right: (B, 2, 224, 224, 3)."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (40, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    first = ground[20:244, 20:244]
    return np.stack([np.stack([first, ground[20:244, 20 - d : 244 - d]]) for d in steps])


# bad input first


def test_options_that_cannot_be_meant_say_what_is_expected():
    with pytest.raises(UnknownName, match="unknown flow 'gmfow'.*Did you mean 'gmflow'"):
        on_flow("hof", flow="gmfow")
    with pytest.raises(MmfError, match="bound='fast'.*above 0, or frame"):
        on_flow("resnet18", bound="fast")
    with pytest.raises(MmfError, match="side='tiny'.*16 or more"):
        on_flow("raw", side="tiny")
    with pytest.raises(UnknownName, match="'colours'.*wheel"):
        on_flow("resnet18", encode="colours")
    with pytest.raises(UnknownName, match="option of flow:resnet18.*encode"):
        parse_feature("flow=flow:resnet18,encoding=zero")


# networks for pictures


@pytest.mark.parametrize("way", ["zero", "gray"])
def test_a_network_sees_the_flow_as_pictures(way):
    pairs = moving(0, 3)
    rows = on_flow("resnet18", encode=way, bound="10").rows(pairs)
    pictures = [encode(farneback(*pair), pair[0], way=way, bound=10.0) for pair in pairs]
    seen = backbone("resnet18", modality="rgb", weights="random:0", batch=2).rows(
        np.stack(pictures)
    )
    assert np.array_equal(rows, seen)
    assert not np.array_equal(rows[0], rows[1])


def test_without_its_flow_only_the_grey_frame_counts():
    still, fast = on_flow("resnet18", encode="gray-only").rows(moving(0, 3))
    assert np.array_equal(still, fast)


def test_a_stem_of_two_channels_keeps_its_response_and_knows_no_third():
    own = on_flow("resnet18")._fed.trunk[0]
    adapted = on_flow("resnet18", encode="two")._fed.trunk[0]
    grey = torch.rand(1, 1, 32, 32).expand(-1, 3, -1, -1)
    torch.testing.assert_close(adapted(grey), own(grey), rtol=1e-4, atol=1e-4)
    other = grey.clone()
    other[:, 2] += 1
    assert torch.equal(adapted(other), adapted(grey))
    other[:, 1] += 1
    assert not torch.allclose(adapted(other), adapted(grey))


def test_a_network_without_a_stem_of_colours_says_which_ways_are_left():
    with pytest.raises(MmfError, match="no convolution of three colours.*encode=zero"):
        _FedMean(_setup(encode="two"))


class _Mean(Backbone):
    """The mean colour of each frame of a clip."""

    modality: ClassVar[str] = "clip"
    default_signal: ClassVar[Signal] = Clips(frames=3, stride=1, crop=32, resize=36)
    row_shape = (3, 3)

    def rows(self, payloads):
        return payloads.mean(axis=(2, 3), dtype=np.float32)


class _FedMean(FlowInput):
    inner: ClassVar[type[Backbone]] = _Mean
    options = {**OPTIONS, "encode": "zero", "bound": "20"}  # noqa: RUF012


def _setup(**options: str) -> Setup:
    return Setup(name="mean", signal=_FedMean.signal_for("mean", {}), options=options)


def test_a_network_for_clips_gets_a_clip_of_flow():
    fed = _FedMean(_setup())
    assert fed.signal == replace(_Mean.default_signal, pairs=True)
    clip = np.stack([pair[:, :32, :32] for pair in moving(0, 3, -3)])[None]  # (1, 3, 2, 32, 32, 3)
    still, right, left = fed.rows(clip)[0]
    assert np.abs(still - 128).max() < 1
    assert right[0] > 132
    assert left[0] < 124
    assert abs(right[1] - 128) < 2


def test_every_network_for_pictures_can_be_fed_under_its_own_name_and_options():
    for modality in ("rgb", "clip"):
        for name in BACKBONES.get(modality, ()):
            if name == "hog":
                continue
            inner, fed = backbone_class(name, modality), backbone_class(name, "flow")
            assert fed is backbone_class(name, "flow")
            assert fed.variants == inner.variants
            assert {*inner.options, "flow", "encode"} <= {*fed.options}
            assert fed.has_weights == inner.has_weights
    assert isinstance(backbone_class("resnet34", "flow").signal_for("resnet34", {}), FramePairs)


# flow itself


def test_raw_flow_is_in_pixels_of_the_crop_it_is_stored_at():
    raw = on_flow("raw", side="112")
    assert raw.row_shape == (112, 112, 2)
    assert (raw.signal.resize, raw.signal.crop) == (128, 112)
    small = np.ascontiguousarray(moving(0, 6)[:, :, ::2, ::2])
    rows = raw.rows(small)
    assert abs(np.median(rows[1, ..., 0]) - 3) < 0.3
    whole = parse_feature("flow=flow:raw,side=64")
    assert spec(whole, build(whole)).shape == (64, 64, 2)


def test_histograms_take_any_flow():
    still, right = on_flow("hof", flow="dis").rows(moving(0, 6)).reshape(2, 16, 9)
    assert (still[:, 8] == 1).all()
    assert right.mean(axis=0)[:8].argmax() == 0


# recipes


def test_the_recipe_pins_the_flows_weights_and_finds_them_again(tmp_path):
    path = tmp_path / "gmflow.pth"
    torch.save({"model": GMFlowNetwork(PUBLISHED["scale1"]).state_dict()}, path)
    asked = parse_feature(f"flow=flow:hof,flow=gmflow,fit=resize,flow_weights={path}")
    stored = spec(asked, build(asked))
    options = stored.recipe["options"]
    assert (options["flow"], options["fit"]) == ("gmflow", "resize")
    assert options["flow_weights"].startswith("sha256:")
    assert str(path) not in str(stored.recipe)
    again = build(request_from_spec(stored))
    assert spec(asked, again).recipe == stored.recipe
    torch.save(GMFlowNetwork(PUBLISHED["scale1"]).state_dict(), path)
    with pytest.raises(MmfError, match="not those that the feature was made with.*same file"):
        build(request_from_spec(stored))


def test_the_recipe_of_a_formula_names_no_weights():
    asked = parse_feature("flow=flow:resnet18,flow=dis:fast,encode=wheel,bound=frame")
    options = spec(asked, build(replace(asked, weights="random:0"))).recipe["options"]
    assert options == {"flow": "dis:fast", "encode": "wheel", "bound": "frame"}
