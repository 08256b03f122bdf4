"""Image networks of timm and transformers give what their libraries give, from files alone."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmf import MmfError
from mmf.extract import parse_feature
from mmf.extract.backbones import Backbone, backbone, backbone_class
from mmf.extract.backbones.contract import as_payloads
from mmf.extract.recipe import build, spec
from mmf.store.weights import WeightsMissing

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
SMALL |= {"num_hidden_layers": 2}


pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A smooth picture with structure, of no special size."""
    small = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    return Image.fromarray(small).resize((401, 243), Image.Resampling.BICUBIC)


def as_frames(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).transpose(2, 0, 1)[None]


def prepared(built: Backbone, picture: Image.Image) -> torch.Tensor:
    """What the network of the backbone gets of a picture."""
    return built.prepare(np.stack(as_payloads(built.signal, as_frames(picture))))


def saved(folder: Path, model: str, config, seed: int = 0):
    """A network of transformers with random weights, saved as its authors save theirs."""
    torch.manual_seed(seed)
    network = getattr(transformers, model)(config).eval()
    network.save_pretrained(folder)
    return network


def clip_config(**vision):
    text = {"vocab_size": 50, **SMALL}
    sizes = {"image_size": 224, "patch_size": 32, "projection_dim": 16, **SMALL, **vision}
    return transformers.CLIPConfig(text_config=text, vision_config=sizes, projection_dim=16)


# bad input first


def test_a_model_that_timm_lacks_is_suggested():
    with pytest.raises(MmfError, match=r"no model 'resnet81'.*Did you mean.*timm:resnet18"):
        parse_feature("x=rgb:timm:resnet81")
    with pytest.raises(MmfError, match=r"no model 'resnet18\.mine'"):
        parse_feature("x=rgb:timm:resnet18.mine")
    with pytest.raises(MmfError, match="no model ''"):
        parse_feature("x=rgb:timm")


def test_unknown_variants_and_pools_say_what_exists():
    with pytest.raises(MmfError, match=r"no variant 'huge'.*clip:base32, clip:base16"):
        parse_feature("x=rgb:clip:huge")
    with pytest.raises(MmfError, match=r"unknown pool of dinov2 'max'. Known: grid, own"):
        backbone("dinov2", weights="random:0", options={"pool": "max"})
    with pytest.raises(MmfError, match="unknown option of rgb:clip 'pol'. Did you mean 'pool'"):
        parse_feature("x=rgb:clip,pol=grid")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("timm:resnet18", "hf://timm/resnet18.a1_in1k/model.safetensors@main"),
        ("clip:base16", "hf://openai/clip-vit-base-patch16@main"),
        ("siglip2:large16", "hf://google/siglip2-large-patch16-256@main"),
        ("dinov3:small", "hf://facebook/dinov3-vits16-pretrain-lvd1689m@main"),
    ],
)
def test_published_weights_are_never_fetched_by_a_job(name, place):
    with pytest.raises(WeightsMissing, match=f"{place} was looked for at .*mmf weights --fetch"):
        backbone(name)


def test_a_folder_without_a_tensor_of_the_network_is_refused(tmp_path):
    network = saved(tmp_path, "CLIPModel", clip_config())
    tensors = {k: v.clone() for k, v in network.state_dict().items()}
    del tensors["visual_projection.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(MmfError, match=r"do not fit: visual_projection\.weight is missing"):
        backbone("clip", weights=str(tmp_path))


def test_a_bare_file_must_fit_the_network_as_published(tmp_path):
    network = saved(tmp_path / "folder", "CLIPModel", clip_config())
    save_file(network.state_dict(), tmp_path / "clip.safetensors")
    with pytest.raises(
        MmfError, match=r"has shape \(.*\), expected \(.*768.*do not fit|do not fit"
    ):
        backbone("clip", weights=str(tmp_path / "clip.safetensors"))


def test_code_that_lies_beside_the_weights_is_never_run(tmp_path):
    saved(tmp_path, "CLIPModel", clip_config())
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    backbone("clip", weights=str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_timm_weights_of_another_network_are_refused(tmp_path):
    save_file(timm.create_model("resnet34").state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(MmfError, match=r"do not fit 'timm:resnet18'.*layer1"):
        backbone("timm:resnet18", weights=str(tmp_path / "net.safetensors"))


# frames are prepared as published


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "vit_tiny_patch16_224",
        "convnext_atto.d2_in1k",
        "vit_base_patch16_siglip_224.v2_webli",
        "mobilenetv3_small_050.lamb_in1k",
    ],
)
def test_frames_are_prepared_as_timm_does(name, picture):
    options = {"weights": "random:0"}
    built = backbone(f"timm:{name}", **options)
    published = timm.get_pretrained_cfg(name).to_dict()
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config({}, pretrained_cfg=published), is_training=False
    )
    torch.testing.assert_close(prepared(built, picture)[0], transform(picture), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "processor", "levels"),
    [
        ("clip:base16", transformers.CLIPImageProcessorPil(), 0),
        ("siglip2:base16", transformers.SiglipImageProcessorPil(resample=2), 0),
        (
            "dinov2:small",
            transformers.BitImageProcessorPil(
                size={"shortest_edge": 256},
                crop_size={"height": 224, "width": 224},
                image_mean=[0.485, 0.456, 0.406],
                image_std=[0.229, 0.224, 0.225],
            ),
            0,
        ),
        # resizes numbers, not levels
        ("dinov3:small", transformers.DINOv3ViTImageProcessor(), 1),
    ],
)
def test_frames_are_prepared_as_transformers_does(name, processor, levels, picture, small_networks):
    built = backbone(name, weights="random:0")
    theirs = processor(picture, return_tensors="pt")["pixel_values"]
    level = 1 / 255 / min(built.entry(name).scale[1])
    assert (prepared(built, picture) - theirs).abs().max() <= levels * level + 1e-5


# millions of parameters as the papers and model cards give them; the towers of images alone
SIZES = {
    "clip:base32": 87.8,
    "clip:base16": 86.2,
    "clip:large14": 304.0,
    "clip:large14-336": 304.3,
    "siglip2:base16": 92.9,
    "siglip2:base16-512": 93.5,
    "siglip2:large16": 316.0,
    "siglip2:so400m14": 428.2,
    "dinov2:small": 22.1,
    "dinov2:base": 86.6,
    "dinov2:large": 304.4,
    "dinov2:giant": 1136.5,
    "dinov3:small": 21.6,
    "dinov3:base": 85.7,
    "dinov3:large": 303.1,
}


@pytest.mark.parametrize(("name", "millions"), SIZES.items())
def test_every_size_has_the_parameters_that_were_published(name, millions):
    published = backbone_class(name, "rgb").entry(name).network
    model = getattr(transformers, published.model)
    with torch.device("meta"):
        network = model(model.config_class(**published.config))
    count = sum(tensor.numel() for tensor in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.06)


# rows are what the network gives


def test_timm_rows_are_what_its_classifier_sees(tmp_path, picture):
    torch.manual_seed(1)
    network = timm.create_model("vit_tiny_patch16_224").eval()
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    weights = {"weights": str(tmp_path / "net.safetensors")}
    built = backbone("timm:vit_tiny_patch16_224", **weights)
    assert built.weights is not None
    assert built.weights.startswith("sha256:")
    with torch.inference_mode():
        tokens = network.forward_features(prepared(built, picture))
        scores = network(prepared(built, picture))
        rows = torch.from_numpy(built(as_frames(picture)))
        torch.testing.assert_close(network.head(rows), scores, rtol=1e-4, atol=1e-5)
    grid = backbone("timm:vit_tiny_patch16_224", **weights, options={"pool": "grid"})
    map_ = torch.from_numpy(grid(as_frames(picture)))
    assert map_.shape == (1, 14, 14, 192)
    torch.testing.assert_close(map_.flatten(1, 2), tokens[:, 1:], rtol=1e-4, atol=1e-5)


def test_the_map_of_a_timm_convolution_has_its_pooled_row_as_mean(picture):
    setup = {"weights": "random:0"}
    row = backbone("timm:resnet18", **setup)(as_frames(picture))
    grid = backbone("timm:resnet18", **setup, options={"pool": "grid"})(as_frames(picture))
    np.testing.assert_allclose(grid.mean(axis=(1, 2)), row, rtol=1e-4, atol=1e-6)


def test_clip_rows_are_its_image_embeddings(tmp_path, picture):
    network = saved(tmp_path, "CLIPModel", clip_config())
    built = backbone("clip", weights=str(tmp_path))
    with torch.inference_mode():
        pixels = prepared(built, picture)
        seen = network.vision_model(pixel_values=pixels)
        expected = network.visual_projection(seen.pooler_output)
    assert built.row_shape == (16,)
    np.testing.assert_allclose(built(as_frames(picture)), expected, rtol=1e-4, atol=1e-5)
    grid = backbone("clip", weights=str(tmp_path), options={"pool": "grid"})
    tokens = seen.last_hidden_state[:, 1:].reshape(1, 7, 7, 32)
    np.testing.assert_allclose(grid(as_frames(picture)), tokens, rtol=1e-4, atol=1e-5)


def test_siglip_rows_are_what_its_attention_pools(tmp_path, picture):
    vision = {"image_size": 224, "patch_size": 16, **SMALL}
    config = transformers.SiglipConfig(
        text_config={"vocab_size": 50, **SMALL}, vision_config=vision
    )
    network = saved(tmp_path, "SiglipModel", config)
    built = backbone("siglip2", weights=str(tmp_path))
    with torch.inference_mode():
        expected = network.vision_model(pixel_values=prepared(built, picture)).pooler_output
    np.testing.assert_allclose(built(as_frames(picture)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "model", "config"),
    [
        ("dinov2", "Dinov2Model", {"image_size": 518}),
        ("dinov3", "DINOv3ViTModel", {"num_register_tokens": 4, "intermediate_size": 64}),
    ],
)
def test_dino_rows_are_the_class_token_and_the_patches(tmp_path, picture, name, model, config):
    sizes = {k: v for k, v in SMALL.items() if k != "intermediate_size"} | config
    network = saved(tmp_path, model, getattr(transformers, model).config_class(**sizes), seed=2)
    own, grid = (
        backbone(name, weights=str(tmp_path), options={"pool": pool}) for pool in ("own", "grid")
    )
    with torch.inference_mode():
        tokens = network(pixel_values=prepared(own, picture)).last_hidden_state
    np.testing.assert_allclose(own(as_frames(picture)), tokens[:, 0], rtol=1e-4, atol=1e-5)
    made = grid(as_frames(picture))
    side = made.shape[1]
    assert tokens.shape[1] - side * side == 1 + config.get("num_register_tokens", 0)
    patches = tokens[:, -side * side :].reshape(made.shape)
    np.testing.assert_allclose(made, patches, rtol=1e-4, atol=1e-5)


# what stands in the recipe


def test_the_recipe_names_the_bytes_and_the_preprocessing_and_the_licence(tmp_path):
    network = timm.create_model("resnet18")
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    request = parse_feature(f"rgb=rgb:timm:resnet18,weights={tmp_path / 'net.safetensors'}")
    made = spec(request, build(request))
    assert made.recipe["details"] == {
        "mean": [0.485, 0.456, 0.406],
        "deviation": [0.229, 0.224, 0.225],
    }
    assert made.recipe["signal"]["interpolation"] == "bicubic"
    assert made.recipe["signal"]["resize"] == 235
    assert made.recipe["options"] == {"pool": "own"}
    assert made.environment["licence"] == "apache-2.0"


def test_weights_in_the_hubs_cache_are_found_behind_its_links(tmp_path):
    home = tmp_path / "hub" / "models--org--net"
    (home / "blobs").mkdir(parents=True)
    (home / "snapshots" / "c0ffee").mkdir(parents=True)
    save_file(timm.create_model("resnet18").state_dict(), home / "blobs" / "1234")
    os.symlink("../../blobs/1234", home / "snapshots" / "c0ffee" / "model.safetensors")
    built = backbone("timm:resnet18", weights="hf://org/net/model.safetensors@c0ffee")
    assert built.weights_path is not None
    assert Path(built.weights_path).parent.name == "c0ffee"
    again = backbone("timm:resnet18", weights=built.weights_path)
    assert again.weights == built.weights
