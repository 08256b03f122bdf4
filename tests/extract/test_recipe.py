"""How features are asked for, and what of it becomes the recipe."""

import doctest
import subprocess
import sys

import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.extract import FeatureRequest, backbone, parse_feature, preset, request_from_spec
from mmf.extract.backbones.checkpoint import load_network
from mmf.extract.presets import PRESETS
from mmf.extract.recipe import build, spec
from mmf.extract.signals import Cues, Frames, Waves
from mmf.store import FeatureSpec


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rgb", "expected NAME=MODALITY:BACKBONE"),
        ("rgb=hog", "expected NAME=MODALITY:BACKBONE"),
        ("=rgb:hog", "expected NAME=MODALITY:BACKBONE"),
        ("x=rgb:hgo", "Did you mean 'hog'"),
        ("x=rbg:hog", "unknown modality 'rbg'"),
        ("x=rgb:hog,fps", "'fps' is not key=value"),
        ("x=rgb:hog,fps=often", "fps=often is not a number"),
        ("x=rgb:hog,fps=0", "fps is 0.0; expected above 0"),
        ("x=rgb:hog,fps=nan", "fps is nan"),
        ("x=rgb:hog,fps=1,hop=1", "fps or hop, not both"),
        ("x=rgb:hog,window=2", "rgb rows have no window"),
        ("x=text:hashing,fps=1", "no rate: a row is a caption"),
        ("x=text:hashing,lang=en", "Did you mean 'language'"),
        ("x=rgb:hog,size=3", "unknown option of rgb:hog 'size'"),
    ],
)
def test_a_feature_that_cannot_be_meant_is_one_sentence(text, says):
    with pytest.raises(MmfError, match=says):
        parse_feature(text)


def test_the_general_form_says_everything():
    request = parse_feature(
        "clip=audio:resnet34:grid,weights=random:7,hop=0.5,window=1.92,batch=4,"
        "precision=bf16,dtype=float32"
    )
    assert (request.name, request.modality, request.backbone) == ("clip", "audio", "resnet34:grid")
    assert request.signal == Waves(fps=2.0, samples=400 + 160 * 191)
    assert (request.batch, request.precision, request.dtype) == (4, "bf16", "float32")
    assert parse_feature("t=text:hashing,language=de").signal == Cues(language="de")
    assert parse_feature("r=rgb:hog,batch=auto").batch is None
    assert parse_feature("r=rgb:hog").signal == Frames()


def test_the_examples_are_true():
    runner = doctest.DocTestRunner()
    for of in (backbone, parse_feature):
        for one in doctest.DocTestFinder().find(of, "example", globs={of.__name__: of}):
            runner.run(one)
    assert (runner.failures, runner.tries) == (0, 2)


def test_a_window_of_0_96_seconds_is_the_96_frames_of_vggish():
    assert parse_feature("a=audio:logmel,window=0.96").signal == Waves()


def test_a_window_is_in_seconds_at_whatever_rate_the_network_hears():
    pytest.importorskip("transformers")
    signal = parse_feature("a=audio:clap,window=5").signal
    assert signal == Waves(fps=0.1, sample_rate=48000, samples=240000)


def test_unknown_preset_suggests_and_every_preset_can_be_built():
    with pytest.raises(UnknownName, match="'embeded'.*'embedded'"):
        preset("embeded")
    for chosen in PRESETS.values():
        assert chosen.source
        for modality, name in chosen.backbones.items():
            parse_feature(f"{modality}={modality}:{name}")


def test_a_flow_as_the_backbone_means_its_histograms_by_its_own_weights():
    asked = parse_feature("f=flow:raft:small,weights=random:2,fps=2")
    assert (asked.backbone, asked.fps) == ("hof", 2.0)
    assert asked.own_options == {"flow": "raft:small", "flow_weights": "random:2"}
    built = build(asked)
    assert built.row_shape == (144,)
    assert spec(asked, built).recipe["options"]["flow_weights"] == "random:2"
    # a network on flow has weights of its own, and the flow others
    fed = parse_feature("f=flow:resnet18,flow=raft,weights=random:2")
    assert "flow_weights" not in fed.own_options


def test_the_recipe_is_what_makes_the_rows_and_the_rest_is_environment():
    def made(text: str) -> FeatureSpec:
        request = parse_feature(text)
        return spec(request, build(request))

    base = made("rgb=rgb:resnet18,weights=random:0")
    assert base.recipe == {
        "extractor": 1,
        "backbone": "resnet18",
        "weights": "random:0",
        "signal": {
            "kind": "frames",
            "fps": 1.0,
            "resize": 256,
            "crop": 224,
            "interpolation": "bilinear",
            "squash": False,
            "wide": 0,
            "limit": 0,
            "segments": 0,
            "sample": "grid",
            "decode": "exact",
            "interlaced": "estdif",
            "hdr": "bt2390",
        },
        "batch": 8,
        "precision": "fp32",
    }
    assert {"torch", "av", "device"} <= base.environment.keys()
    assert base.flops_per_row == pytest.approx(3.63e9, rel=0.01)
    for other in ("fps=2", "batch=4", "precision=bf16", "dtype=float32", "weights=random:1"):
        assert made(f"rgb=rgb:resnet18,weights=random:0,{other}").fingerprint != base.fingerprint
    assert made("t=text:hashing").rate is None
    whole = FeatureRequest(name="r", modality="rgb", backbone="hog", fps=2)
    assert spec(whole, build(whole)).fingerprint == made("r=rgb:hog,fps=2").fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "r=rgb:hog,fps=2.5",
        "a=audio:logmel,window=2,hop=0.5",
        "g=audio:resnet34:grid,weights=random:1,batch=2,dtype=float32",
        "f=flow:hof",
        "t=text:hashing,language=en",
    ],
)
def test_a_stored_feature_can_be_asked_for_again(text):
    request = parse_feature(text)
    stored = FeatureSpec.from_json(spec(request, build(request)).to_json())
    again = request_from_spec(stored)
    assert spec(again, build(again)).fingerprint == stored.fingerprint


def test_weights_are_pinned_by_their_bytes(tmp_path):
    path = tmp_path / "own.pth"
    torch.save(load_network("resnet18", "random:0")[0].state_dict(), path)
    request = parse_feature(f"rgb=rgb:resnet18,weights={path}")
    stored = spec(request, build(request))
    assert str(stored.recipe["weights"]).startswith("sha256:")
    assert str(tmp_path) not in str(stored.recipe)
    assert request_from_spec(stored).weights == str(path)
    torch.save(load_network("resnet18", "random:1")[0].state_dict(), path)
    with pytest.raises(MmfError, match=r"own\.pth' are not those that feature 'rgb' was made with"):
        request_from_spec(stored)
    path.unlink()
    with pytest.raises(MmfError, match=r"no weights for 'resnet18' at .*own\.pth"):
        request_from_spec(stored)


def test_a_feature_computed_elsewhere_cannot_be_extracted():
    foreign = FeatureSpec(name="text", modality="text", shape=(100,))
    with pytest.raises(MmfError, match="'text' was computed elsewhere"):
        request_from_spec(foreign)


def test_asking_for_features_loads_no_torch():
    program = (
        "import sys, mmf.extract\n"
        "from mmf.extract import extract, backbone, parse_feature\n"
        "for one in ('r=rgb:hog', 'a=audio:logmel', 'f=flow:hof', 't=text:hashing'):\n"
        "    request = parse_feature(one)\n"
        "    backbone(request.backbone)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
