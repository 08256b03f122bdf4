"""Networks of clips: names, shapes and numbers of those who published them."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from mmf import MmfError
from mmf.extract.backbones import backbone, backbone_class
from mmf.extract.backbones.kinetics import EDITION, SAMPLING
from mmf.extract.backbones.x3d import SIZES
from mmf.extract.backbones.x3d_network import X3D
from mmf.extract.signals import Clips

# the paper's table 4, of one view: multiply-adds, then parameters
PAPER = {
    "xs": (0.60e9, 3.76e6),
    "s": (1.96e9, 3.76e6),
    "m": (4.73e9, 3.76e6),
    "l": (18.37e9, 6.08e6),
}
# pytorchvideo 0.1.5: entries of the state dict, parameters
PUBLISHED = {"m": (563, 3_794_274), "l": (1141, 6_153_384)}
SHAPES = {
    "blocks.0.conv.conv_t.weight": (24, 3, 1, 3, 3),
    "blocks.0.conv.conv_xy.weight": (24, 1, 5, 1, 1),
    "blocks.0.norm.running_var": (24,),
    "blocks.1.res_blocks.0.branch1_conv.weight": (24, 24, 1, 1, 1),
    "blocks.2.res_blocks.0.branch1_norm.weight": (48,),
    "blocks.3.res_blocks.10.branch2.norm_b.1.block.0.weight": (16, 216, 1, 1, 1),
    "blocks.4.res_blocks.0.branch2.norm_b.1.block.2.weight": (432, 32, 1, 1, 1),
    "blocks.4.res_blocks.6.branch2.conv_b.weight": (432, 1, 3, 3, 3),
    "blocks.5.pool.pre_norm.bias": (432,),
    "blocks.5.pool.post_conv.weight": (2048, 432, 1, 1, 1),
    "blocks.5.proj.weight": (400, 2048),
}
# its first four logits under the weights of `fill` and the clip of `wave`
LOGITS = {
    "m": (0.0118476599, 0.1078731269, 0.1486109495, 0.0873533487),
    "l": (-422200.5625, 22269.708984, 444986.40625, 433041.65625),
}


def fill(network: nn.Module) -> None:
    """Weights by a formula of names and places."""
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        place = torch.arange(tensor.numel(), dtype=torch.float64)
        wave = torch.cos(place * 0.7 + len(name)).reshape(tensor.shape)
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.copy_(1 + 0.5 * wave)
        else:
            scale = 0.1 if tensor.dim() == 1 else (2 / tensor[0].numel()) ** 0.5
            tensor.copy_(scale * wave)


def frames(clips: int, count: int, side: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Random clips (clips, count, 3, h, w), smooth in space."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.integers(0, 256, (clips * count, 3, 9, 12)).astype(np.float32))
    large = functional.interpolate(small, side, mode="bicubic").clamp(0, 255)
    return large.to(torch.uint8).reshape(clips, count, 3, *side).numpy()


def test_a_vision_transformer_has_no_grid_and_x3d_no_other_size():
    with pytest.raises(MmfError, match=r"mvit_v2_s.*no variant 'grid'"):
        backbone("mvit_v2_s:grid", weights="random:0")
    with pytest.raises(MmfError, match=r"x3d.*no variant 'xl'.*x3d:xs, x3d:s, x3d:m, x3d:l"):
        backbone("x3d:xl", weights="random:0")


def test_clips_of_another_length_are_refused():
    with pytest.raises(MmfError, match=r"\(T, 4, 3, h, w\).*\(1, 5, 3, 160, 160\)"):
        backbone("x3d:xs", weights="random:0")(np.zeros((1, 5, 3, 160, 160), np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_x3d_costs_what_the_paper_says(size):
    built = backbone(f"x3d:{size}", weights="random:0")
    operations, parameters = PAPER[size]
    assert built.flops_per_row() == pytest.approx(2 * operations, rel=0.01)
    held = sum(p.numel() for p in built.trunk.parameters())
    assert held == pytest.approx(parameters, rel=0.015)


@pytest.mark.parametrize("size", PUBLISHED)
@torch.inference_mode()
def test_x3d_is_pytorchvideos(size):
    network = X3D(SIZES[size].depths).eval()
    state = network.state_dict()
    assert (len(state), sum(p.numel() for p in network.parameters())) == PUBLISHED[size]
    assert {name: tuple(state[name].shape) for name in SHAPES} == SHAPES
    norms = {n.split(".")[1] for n in state if "branch1_norm" in n}
    assert norms == {"2", "3", "4"}  # the first stage does not widen
    fill(network)
    wave = torch.cos(torch.arange(3 * 4 * 64 * 64, dtype=torch.float64) * 0.3).float()
    logits = network(wave.reshape(1, 3, 4, 64, 64))
    torch.testing.assert_close(logits[0, :4], torch.tensor(LOGITS[size]), rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_a_block_of_x3d_is_that_of_the_paper_written_out():
    torch.manual_seed(0)
    block = X3D(SIZES["m"].depths).blocks[2].res_blocks[0].eval()
    for tensor in block.state_dict().values():
        if tensor.dtype == torch.float32:
            tensor.copy_(torch.rand(tensor.shape) + (0.5 if tensor.dim() == 1 else -0.5))
    clip = torch.rand(1, 24, 3, 6, 6)

    def normed(maps, norm):
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        shift = norm.bias - norm.running_mean * scale
        return maps * scale[:, None, None, None] + shift[:, None, None, None]

    def mixed(maps, convolution):
        return torch.einsum("oi,bithw->bothw", convolution.weight.flatten(1), maps)

    inner = block.branch2
    up = normed(mixed(clip, inner.conv_a), inner.norm_a).clamp(min=0)
    padded = functional.pad(up, (1, 1, 1, 1, 1, 1))
    kernel = inner.conv_b.weight[:, 0]
    across = torch.zeros(1, 108, 3, 3, 3)
    for t in range(3):
        for y in range(3):
            for x in range(3):
                window = padded[:, :, t : t + 3, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3]
                across[:, :, t, y, x] = (window * kernel).sum(dim=(2, 3, 4))
    across = normed(across, inner.norm_b[0])
    squeeze, excite = (inner.norm_b[1].block[i] for i in (0, 2))
    few = (across.mean(dim=(2, 3, 4)) @ squeeze.weight.flatten(1).T + squeeze.bias).clamp(min=0)
    gate = 1 / (1 + torch.exp(-(few @ excite.weight.flatten(1).T + excite.bias)))
    across = across * gate[..., None, None, None]
    down = normed(mixed(across / (1 + torch.exp(-across)), inner.conv_c), inner.norm_c)
    beside = normed(mixed(clip[..., ::2, ::2], block.branch1_conv), block.branch1_norm)
    torch.testing.assert_close(block(clip), (beside + down).clamp(min=0), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_of_the_model_zoo_loads_as_it_was_saved(tmp_path):
    network = X3D(SIZES["xs"].depths)
    saved = {"model_state": network.state_dict(), "epoch": 300, "cfg": "MODEL: x3d"}
    torch.save(saved, tmp_path / "X3D_XS.pyth")
    built = backbone("x3d:xs", weights=str(tmp_path / "X3D_XS.pyth"))
    loaded = built.trunk.network.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in saved["model_state"].items())
    assert backbone_class("x3d", "clip").published("x3d:xs").endswith("/kinetics/X3D_XS.pyth")
    with pytest.raises(MmfError, match=r"res_blocks.3.* is missing"):
        backbone("x3d:l", weights=str(tmp_path / "X3D_XS.pyth"))


@pytest.mark.parametrize("name", SAMPLING)
def test_clips_are_as_torchvision_states_its_accuracies(name):
    weights = torchvision.models.get_model_weights(name)[EDITION]
    published = weights.transforms()
    signal = backbone_class(name, "clip").signal_for(name, {})
    frame_rate = 30 / signal.stride
    assert f"`frame_rate={frame_rate:g}`" in weights.meta["_docs"]
    assert f"`clip_len={signal.frames}`" in weights.meta["_docs"]
    size = signal.size if isinstance(signal.size, tuple) else (signal.size,)
    assert (list(size), signal.crop) == (published.resize_size, published.crop_size[0])


@pytest.mark.parametrize("name", [n for n in SAMPLING if not n.startswith(("s3d", "swin"))])
def test_a_clip_costs_what_torchvision_says(name):
    published = torchvision.models.get_model_weights(name)[EDITION].meta["_ops"]
    built = backbone(name, weights="random:0")
    assert built.flops_per_row() == pytest.approx(2e9 * published, rel=0.001)


@pytest.mark.parametrize(
    ("name", "head", "signal"),
    [
        ("r3d_18", "fc", {}),
        ("mc3_18", "fc", {"frames": 8}),
        ("s3d", "classifier", {"frames": 16, "crop": 224}),
        ("swin3d_t", "head", {"frames": 4}),
    ],
)
@torch.inference_mode()
def test_a_row_is_what_torchvisions_classifier_sees(name, head, signal, tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "published.pth")
    asked = backbone_class(name, "clip").signal_for(name, {})
    asked = Clips(**{**vars(asked), **signal})
    built = backbone(name, weights=str(tmp_path / "published.pth"), signal=asked)
    given = frames(1, asked.frames, (240, 400))
    rows = built(torch.from_numpy(given))
    published = torchvision.models.get_model_weights(name)[EDITION].transforms()
    logits = theirs(published(torch.from_numpy(given)))
    classifier = theirs.get_submodule(head)
    ours = classifier(rows[..., None, None, None]).flatten(1) if name == "s3d" else classifier(rows)
    torch.testing.assert_close(ours, logits, rtol=1e-2, atol=2e-3 * logits.abs().max().item())


def test_the_grid_of_a_clip_is_its_map_meant_over_time():
    signal = Clips(frames=8, crop=64, resize=64)
    pooled = backbone("r3d_18", weights="random:0", signal=signal)
    grid = backbone("r3d_18:grid", weights="random:0", signal=signal)
    given = frames(2, 8, (64, 64))
    rows = grid(given)
    assert rows.shape == (2, 4, 4, 512)
    np.testing.assert_allclose(rows.mean(axis=(1, 2)), pooled(given), rtol=1e-4, atol=1e-5)
