"""Every flow gives pixels per frame; GMFlow is the published network, whatever was made fast."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.extract.flow import FLOWS, FlowSetup, open_flow
from mmf.extract.flow.attention import PIECE, attend
from mmf.extract.flow.encoding import REST, WAYS, encode
from mmf.extract.flow.fitting import Fit
from mmf.extract.flow.gmflow_network import PUBLISHED, GMFlowNetwork
from mmf.extract.flow.matching import nearby_scores
from mmf.matmul import fast_matmul, onednn_is_exact
from mmf.store.weights import WeightsMissing

NAMES = [
    name for base in FLOWS for name in (base, *(f"{base}:{v}" for v in FLOWS.load(base).variants))
]
FORMULAS = [name for name in NAMES if not FLOWS.load(name).has_weights]


def opened(name: str, **setup: str):
    return open_flow(FlowSetup(name=name, **{"weights": "random:0", **setup}))


def ground(side: int = 40) -> np.ndarray:
    """A coarse random texture, `side` cells of 6 pixels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (side, side, 3), np.uint8).repeat(6, 0).repeat(6, 1)


def plain():
    path = Path(__file__).with_name("plain_gmflow.py")
    spec = importlib.util.spec_from_file_location("plain_gmflow", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.plain_flow


# bad input first


def test_unknown_flows_variants_and_fits_say_what_exists():
    with pytest.raises(UnknownName, match="'gmflo'.*'gmflow'.*Known: dis, farneback, gmflow, raft"):
        opened("gmflo")
    with pytest.raises(MmfError, match="no variant 'scale3'.*gmflow:scale1, gmflow:scale2"):
        opened("gmflow:scale3")
    with pytest.raises(UnknownName, match="'crop'.*pad, resize"):
        opened("gmflow", fit="crop")


def test_weights_that_are_not_here_name_the_published_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsMissing, match="gmflow-scale2-mixdata-train320x576-9ff1c094.pth"):
        opened("gmflow:scale2", weights="pretrained")
    with pytest.raises(WeightsMissing, match="raft_small_C_T_V2"):
        opened("raft:small", weights="pretrained")


def test_weights_of_another_scale_are_refused(tmp_path):
    torch.save({"model": GMFlowNetwork(PUBLISHED["scale1"]).state_dict()}, tmp_path / "one.pth")
    with pytest.raises(MmfError, match="trident_conv.weight is missing"):
        opened("gmflow:scale2", weights=str(tmp_path / "one.pth"))


# the contract of every flow


@pytest.mark.parametrize("name", NAMES)
def test_every_flow_gives_pixels_per_frame_of_any_size(name):
    flow = opened(name)
    frames = np.stack([ground(8)[:40, i : i + 46] for i in range(2)])
    made = flow.sequence(frames)
    assert made.shape == (1, 40, 46, 2)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.array_equal(flow.pairs(frames[None]), made)
    assert flow.sequence(frames[:1]).shape == (0, 40, 46, 2)
    assert flow.weights == ("random:0" if flow.has_weights else None)
    assert (flow.flops(40, 46) is None) == name.startswith("dis")  # its search may end early


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_finds_the_motion(name):
    first, second = ground()[20:180, 20:200], ground()[19:179, 17:197]  # 3 right, 1 down
    made = opened(name).pairs(np.stack([first, second])[None])[0]
    assert np.abs(np.median(made, axis=(0, 1)) - (3, 1)).max() < 0.3


# GMFlow


@pytest.mark.parametrize("name", ["scale1", "scale2", "refine"])
def test_gmflow_has_the_published_names_and_shapes(name):
    state = GMFlowNetwork(PUBLISHED[name]).state_dict()
    size = {"scale1": (4_680_288, 123), "scale2": (4_716_720, 124), "refine": (7_360_688, 152)}
    assert (sum(t.numel() for t in state.values()), len(state)) == size[name]
    assert state["transformer.layers.5.cross_attn_ffn.mlp.0.weight"].shape == (1024, 256)
    assert state["backbone.layer2.0.downsample.0.bias"].shape == (96,)
    assert state["feature_flow_attn.k_proj.bias"].shape == (128,)
    if name == "refine":
        assert state["refine.gru.convq2.weight"].shape == (128, 384, 5, 1)
        assert state["refine.encoder.convc1.weight"].shape == (256, 81, 1, 1)
    else:
        assert state["upsampler.2.weight"].shape[0] == {"scale1": 576, "scale2": 144}[name]


@pytest.mark.parametrize("name", ["scale1", "scale2", "refine"])
def test_gmflow_is_the_network_of_the_papers(name):
    """In float64 the fast form and the plain one are the same function."""
    published = PUBLISHED[name]
    torch.manual_seed(0)
    network = GMFlowNetwork(published).double().eval()
    network.fold()
    frames = torch.rand(3, 3, 64, 96, dtype=torch.float64) * 255
    with torch.no_grad():
        scales = network.encode(frames)
        made = network.flow([s[:-1] for s in scales], [s[1:] for s in scales])
        wanted = plain()(
            network.state_dict(), frames[:-1], frames[1:], published.splits, published.steps
        )
    assert wanted.abs().mean() > 0.5
    assert (made - wanted).abs().max() < 1e-7


def test_gmflow_in_float32_is_as_near_to_float64_as_the_plain_form(tmp_path):
    torch.manual_seed(0)
    network = GMFlowNetwork(PUBLISHED["scale1"]).eval()
    state = network.state_dict()
    torch.save({"model": state}, tmp_path / "gmflow.pth")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 64, 96, 3), np.uint8)
    made = opened("gmflow", weights=str(tmp_path / "gmflow.pth")).sequence(frames)[0]
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        rough = plain()(state, images[:1], images[1:], (2,))
        double = {key: value.double() for key, value in state.items()}
        exact = plain()(double, images[:1].double(), images[1:].double(), (2,))
    exact = exact[0].permute(1, 2, 0)
    theirs = (rough[0].permute(1, 2, 0) - exact).abs()
    ours = (torch.from_numpy(made) - exact).abs()
    assert ours.mean() < 2 * theirs.mean()
    assert 0 < ours.max() < 2 * max(theirs.max(), 1e-4)


@pytest.mark.parametrize("batch", [1, 2])
def test_each_frame_of_a_video_is_encoded_once_and_gives_the_same_bits(batch, monkeypatch):
    monkeypatch.setattr("mmf.extract.flow.gmflow._BATCH", {"cpu": batch})
    flow = opened("gmflow")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # else each thread has a run
    seen = 0
    encode_frames = GMFlowNetwork.encode

    def counted(self, given):
        nonlocal seen
        seen += len(given)
        return encode_frames(self, given)

    monkeypatch.setattr(GMFlowNetwork, "encode", counted)
    together = flow.sequence(frames)
    assert seen == {1: 4, 2: 6}[batch]  # batches are filled up
    alone = [flow.pairs(np.stack([frames[i], frames[i + 1]])[None])[0] for i in range(3)]
    assert np.array_equal(together, np.stack(alone))
    mixed = flow.pairs(frames[[[2, 3], [0, 1]]])  # no chain
    assert np.array_equal(mixed, np.stack([alone[2], alone[0]]))


@pytest.mark.parametrize("name", ["gmflow", "raft:small"])
def test_the_number_of_threads_changes_no_bit(name):
    flow = opened(name)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2, 5):  # more than pairs
            torch.set_num_threads(threads)
            made.append(flow.sequence(frames))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])


def test_attention_in_pieces_is_attention(monkeypatch):
    torch.manual_seed(0)
    q, k, v = (torch.randn(12, 10, 4, dtype=torch.float64) for _ in range(3))
    mask = torch.randn(6, 10, 10, dtype=torch.float64)
    whole = torch.softmax(q @ k.transpose(1, 2) + mask.repeat(2, 1, 1), -1) @ v
    for piece in (PIECE, 400, 250, 30):  # everything, some windows, some windows, some rows
        monkeypatch.setattr("mmf.extract.flow.attention.PIECE", piece)
        torch.testing.assert_close(attend(q, k, v, mask), whole)


def test_nearby_scores_are_products_with_shifted_pictures():
    torch.manual_seed(0)
    q, k = (torch.randn(2, 5, 11, 13, dtype=torch.float64) for _ in range(2))
    padded = torch.nn.functional.pad(k, (2, 2, 2, 2))
    made = nearby_scores(q, k, 2).view(2, 11, 13, 5, 5)
    for dy in range(5):
        for dx in range(5):
            shifted = padded[:, :, dy : dy + 11, dx : dx + 13]
            torch.testing.assert_close(made[..., dy, dx], (q * shifted).sum(1))


# sizes


def test_padding_leaves_the_middle_as_it_is():
    fit = Fit(height=30, width=45, multiple=16)
    frames = torch.rand(1, 3, 30, 45)
    assert fit.frames(frames).shape == (1, 3, 32, 48)
    assert torch.equal(fit.flow(fit.frames(frames)[:, :2]), frames[:, :2])
    assert fit.frames(frames)[0, 0, 0, 0] == frames[0, 0, 0, 0]  # edges are repeated


def test_resizing_scales_the_flow_back_and_turns_upright_frames():
    wide = Fit(height=30, width=45, multiple=16, how="resize")
    assert wide.size == (32, 48)
    moved = wide.flow(torch.ones(1, 2, 32, 48))
    assert moved.shape == (1, 2, 30, 45)
    torch.testing.assert_close(moved[0, :, 0, 0], torch.tensor([45 / 48, 30 / 32]))
    tall = Fit(height=45, width=30, multiple=16, how="resize")
    assert tall.frames(torch.rand(1, 3, 45, 30)).shape == (1, 3, 32, 48)
    # along the network's x lies the frame's y
    along = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 32, 48)
    torch.testing.assert_close(tall.flow(along)[0, :, 0, 0], torch.tensor([0.0, 45 / 48]))


# pictures of flow


def still_and_right() -> tuple[np.ndarray, np.ndarray]:
    flow = np.zeros((4, 6, 2), np.float32)
    flow[:, 3:, 0] = 10.0
    first = np.full((4, 6, 3), 200, np.uint8)
    return flow, first


def test_an_unknown_encoding_lists_the_ways():
    with pytest.raises(UnknownName, match="'hsv'.*Known: gray, gray-only, mean, two, wheel, zero"):
        encode(*still_and_right(), way="hsv", bound=20.0)


def test_velocities_lie_on_levels_around_rest():
    flow, first = still_and_right()
    pictures = {way: encode(flow, first, way=way, bound=20.0) for way in WAYS}
    for way in ("two", "mean", "zero", "gray"):
        assert pictures[way][0, 0, :2].tolist() == [REST, REST]
        assert pictures[way][0, 4, :2].tolist() == [191, REST]  # half of the bound
    assert pictures["mean"][0, 4, 2] == 159  # a quarter
    assert (pictures["zero"][..., 2] == REST).all()
    assert (pictures["gray"][..., 2] == 200).all()
    assert (pictures["gray-only"] == [REST, REST, 200]).all()
    assert encode(flow, first, way="zero", bound=None)[0, 4, 0] == 255  # the picture's fastest
    assert encode(-flow, first, way="zero", bound=1.0)[0, 4, 0] == 0  # cut


def test_the_colour_wheel_is_the_published_one():
    from torchvision.utils import flow_to_image

    flow = np.random.default_rng(0).normal(0, 4, (64, 96, 2)).astype(np.float32)
    first = np.zeros((64, 96, 3), np.uint8)
    ours = encode(flow, first, way="wheel", bound=None)
    theirs = flow_to_image(torch.from_numpy(flow).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    fixed = encode(flow / 100, first, way="wheel", bound=20.0)
    assert fixed.min() > 240  # slow is pale


# products


def test_fast_products_are_exact_or_off_and_the_setting_ends(monkeypatch):
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    with fast_matmul(), fast_matmul():
        assert (backend.fp32_precision == "bf16") == onednn_is_exact()
        a, b = torch.randn(64, 256), torch.randn(256, 64)
        assert (a @ b - (a.double() @ b.double())).abs().max() < 1e-4
    assert backend.fp32_precision == before
    monkeypatch.setattr("mmf.matmul.onednn_is_exact", lambda: False)
    with fast_matmul():
        assert backend.fp32_precision == before
