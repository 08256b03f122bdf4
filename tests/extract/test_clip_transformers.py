"""Video transformers: fed as their own processors feed them, pooled or as a grid of tokens."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmf import MmfError
from mmf.extract import parse_feature
from mmf.extract.backbones import backbone, backbone_class
from mmf.extract.backbones.contract import as_payloads
from mmf.extract.signals import Clips

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.usefixtures("offline", "small_networks")

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SMALL = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2}
SMALL |= {"num_hidden_layers": 2}


@pytest.fixture(scope="module")
def video():
    """16 smooth frames of no special size, uint8 (16, 3, h, w)."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(16):
        picture = Image.fromarray(rng.integers(0, 256, (12, 20, 3), np.uint8))
        frames.append(np.asarray(picture.resize((301, 203), Image.Resampling.BICUBIC)))
    return np.stack(frames).transpose(0, 3, 1, 2)


def save(folder, model, **config):
    whole = getattr(transformers, model)
    torch.manual_seed(0)
    network = whole(whole.config_class(**SMALL, **config)).eval()
    network.save_pretrained(folder)
    return network


def test_options_that_cannot_be_meant_say_what_exists():
    with pytest.raises(MmfError, match="unknown option of clip:timesformer 'pool'"):
        parse_feature("x=clip:timesformer,pool=grid")
    with pytest.raises(MmfError, match="no variant 'small'. Its variants: vjepa2:large"):
        parse_feature("x=clip:vjepa2:small")


def test_a_clip_network_takes_the_options_of_its_signal():
    request = parse_feature("x=clip:videomae,frames=8,stride=2,views=2x3")
    assert request.signal == Clips(
        fps=0.5, frames=8, stride=2, views=2, crops=3, resize=224, crop=224
    )


@pytest.mark.parametrize(
    ("name", "processor"),
    [
        (
            "videomae",
            transformers.VideoMAEImageProcessor(image_mean=IMAGENET[0], image_std=IMAGENET[1]),
        ),
        (
            "timesformer",
            transformers.VideoMAEImageProcessor(image_mean=[0.45] * 3, image_std=[0.225] * 3),
        ),
        ("vjepa2", transformers.VJEPA2VideoProcessor()),
    ],
)
def test_frames_are_prepared_as_transformers_does_to_one_level(name, processor, video):
    built = backbone(name, weights="random:0")
    clip = video[: built.signal.frames]
    ours = built.prepare(np.stack(as_payloads(built.signal, clip[None])))
    theirs = processor(list(clip), return_tensors="pt")
    theirs = theirs.get("pixel_values", theirs.get("pixel_values_videos"))
    level = 1 / 255 / min(built.entry(name).scale[1])
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1.05 * level


def test_videomae_rows_are_what_its_classifier_sees(tmp_path, video):
    network = save(tmp_path, "VideoMAEForVideoClassification", num_labels=7)
    own, grid = (
        backbone("videomae", weights=str(tmp_path), options={"pool": pool})
        for pool in ("own", "grid")
    )
    with torch.inference_mode():
        pixels = own.prepare(np.stack(as_payloads(own.signal, video[None])))
        scores = network(pixel_values=pixels).logits
        tokens = network.videomae(pixel_values=pixels).last_hidden_state
        ours = network.classifier(torch.from_numpy(own(video[None])))
    torch.testing.assert_close(ours, scores, rtol=1e-3, atol=1e-4)
    made = grid(video[None])
    assert made.shape == (1, 8, 14, 14, 24)
    np.testing.assert_allclose(made.reshape(1, -1, 24), tokens, rtol=1e-3, atol=1e-4)


def test_timesformer_rows_are_what_its_classifier_sees(tmp_path, video):
    network = save(tmp_path, "TimesformerForVideoClassification", num_labels=7)
    built = backbone("timesformer", weights=str(tmp_path))
    with torch.inference_mode():
        pixels = built.prepare(np.stack(as_payloads(built.signal, video[None, :8])))
        scores = network(pixel_values=pixels).logits
        ours = network.classifier(torch.from_numpy(built(video[None, :8])))
    torch.testing.assert_close(ours, scores, rtol=1e-3, atol=1e-4)


def test_vjepa2_rows_are_the_mean_of_its_encoders_tokens(tmp_path, video):
    config = transformers.VJEPA2Config(
        hidden_size=48, num_attention_heads=2, num_hidden_layers=2, pred_hidden_size=48,
        pred_num_attention_heads=2, pred_num_hidden_layers=1,
    )  # fmt: skip
    torch.manual_seed(0)
    network = transformers.VJEPA2Model(config).eval()
    network.save_pretrained(tmp_path)
    own, grid = (
        backbone("vjepa2", weights=str(tmp_path), options={"pool": pool})
        for pool in ("own", "grid")
    )
    with torch.inference_mode():
        pixels = own.prepare(np.stack(as_payloads(own.signal, video[None])))
        tokens = network(pixels, skip_predictor=True).last_hidden_state
    np.testing.assert_allclose(own(video[None]), tokens.mean(dim=1), rtol=1e-3, atol=1e-4)
    made = grid(video[None])
    assert made.shape == (1, 8, 16, 16, 48)
    np.testing.assert_allclose(made.reshape(1, -1, 48), tokens, rtol=1e-3, atol=1e-4)


# the papers' figures, rounded as they are there; V-JEPA 2 without its predictor
SIZES = {"videomae:base": 87, "videomae:large": 305, "timesformer:base": 121.4}
SIZES |= {"vjepa2:large": 300, "vjepa2:huge": 600, "vjepa2:giant": 1000}


@pytest.mark.parametrize(("name", "millions"), SIZES.items())
def test_every_size_has_the_parameters_that_were_published(name, millions):
    published = backbone_class(name, "clip").entry(name).network
    model = getattr(transformers, published.model)
    with torch.device("meta"):
        network = model(model.config_class(**published.config))
    network = getattr(network, "encoder", network)
    count = sum(tensor.numel() for tensor in network.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.06)
