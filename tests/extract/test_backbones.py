"""Every backbone of the registries keeps the contract; each family does what its file says."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.video import mvit

from mmf import MmfError, UnknownName
from mmf.extract.backbones import BACKBONES, Backbone, backbone, backbone_class, network
from mmf.extract.backbones.checkpoint import load_network
from mmf.extract.backbones.logmel import log_mel, samples_of
from mmf.extract.decoder.events import Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.flow.farneback import farneback
from mmf.extract.signals import Clips, Signal
from mmf.store.weights import WeightsMissing

REAL = Path(__file__).parents[3] / "shared" / "data" / "videos"
# it has no network of its own: those of repositories that a test makes are in test_text_networks
ELSEWHERE = {("text", "hf")}


def names_of(base: str, found: type[Backbone]) -> list[str]:
    """What of a line of the table is tried: the bare name and its variants, or its examples."""
    variants = [f"{base}:{variant}" for variant in found.variants]
    if found.any_variant:
        return variants
    # of published networks the bare name is the first
    return [base, *(variants[1:] if getattr(found, "known", None) else variants)]


def line_of(modality: str, base: str) -> tuple[str, str]:
    """A line of the tables; networks of one module are one when they are fed with flow.

    A single class feeds them all, and each is tried with frames.
    """
    found = backbone_class(base, modality)
    return modality, found.inner.__module__ if hasattr(found, "inner") else base


def library_of(found: type[Backbone]) -> str:
    """The library that a class builds its networks with."""
    module = getattr(found, "inner", found).__module__
    if module.endswith("_transformer"):
        return "transformers"
    return "timm" if module.endswith("timm_image") else "torch"


def all_names() -> Iterator[tuple[str, str]]:
    """Every line of the tables; the variants of a class on the first line that has it."""
    seen: set[Any] = set()
    for modality, table in BACKBONES.items():
        for base in table:
            found, line = backbone_class(base, modality), line_of(modality, base)
            names = names_of(base, found) if find_spec(library_of(found)) else []
            if line not in seen:
                for name in names[:1] if found in seen or line != (modality, base) else names:
                    yield modality, name
            seen |= {found, line}


NAMES = list(all_names())
# the smallest clips that a network takes, where 4 frames of 64 × 64 are too small
SMALLEST: dict[str, dict[str, int]] = {
    "s3d": {"frames": 16, "resize": 224, "crop": 224},
    "timesformer": {},
    "videomae": {},
    "vjepa2": {},
}


def small(modality: str, name: str) -> Signal:
    """What the backbone asks of a file, every 3 s and with clips as small as may be."""
    found = backbone_class(name, modality)
    signal = found.signal_for(name, found.options)
    changes: dict[str, Any] = {"fps": 1 / 3} if hasattr(signal, "fps") else {}
    if isinstance(signal, Clips):
        least = {"frames": 4, "resize": 64, "crop": 64, "wide": 0}
        changes |= SMALLEST.get(name.partition(":")[0], least)
    return replace(signal, **changes)


@pytest.fixture(scope="module")
def sampled() -> dict[Signal, list[np.ndarray]]:
    """The first two rows of a real clip for every signal of the tables; empty without the clip."""
    clip = REAL / "meta-pytorch+torchcodec/test/resources/nasa_13013.mp4"
    if not clip.exists():
        return {}
    signals = list(dict.fromkeys(small(*name) for name in NAMES))
    rows: dict[Signal, list[np.ndarray]] = {signal: [] for signal in signals}
    with Decoder(signals) as decoder:
        decoder.submit("clip", str(clip))
        for event in decoder.events():
            if isinstance(event, Sample) and len(rows[signals[event.signal]]) < 2:
                rows[signals[event.signal]].append(np.array(event.payload))
    return rows


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """MViT, whose parameters know the size of its clips, for small ones."""
    whole = mvit._mvit
    small = {"spatial_size": (64, 64), "temporal_size": 4}
    monkeypatch.setattr(mvit, "_mvit", lambda **how: whole(**{**how, **small}))


pytestmark = pytest.mark.usefixtures("small_networks")


def payloads(built: Backbone, rows: int, seed: int = 0) -> np.ndarray:
    """Random payloads of the backbone's signal."""
    rng = np.random.default_rng(seed)
    if built.signal.kind == "cues":
        words = [
            "a",
            "big",
            "red",
            "cat",
            "sleeps",
            "on",
            "the",
            "old",
            "mat",
            "while",
            "it",
            "rains",
        ]
        texts = [" ".join(rng.choice(words, 5)) for _ in range(rows)]
        return np.array(texts, dtype=object)
    if built.signal.kind == "waves":
        return rng.normal(0, 0.1, (rows, *built.signal.row_shape)).astype(np.float32)
    return rng.integers(0, 256, (rows, *built.signal.row_shape), np.uint8)


def embed(built: Backbone, given: np.ndarray) -> np.ndarray:
    """Rows of payloads, a full batch at a time, as the pipeline makes them."""
    out = []
    for start in range(0, len(given), built.batch):
        part = given[start : start + built.batch]
        batch = built.empty_batch()
        batch[: len(part)] = part
        out.append(built.rows(batch)[: len(part)])
    return np.concatenate(out)


# bad input first


def test_every_line_of_the_tables_is_tried():
    """A backbone that is registered runs on a real clip below, or somebody says here why not."""
    installed = {
        line_of(modality, base)
        for modality, table in BACKBONES.items()
        for base in table
        if find_spec(library_of(backbone_class(base, modality)))
    }
    tried = {line_of(modality, name.partition(":")[0]) for modality, name in NAMES}
    assert installed - tried == ELSEWHERE & installed


def test_unknown_backbone_suggests_the_nearest_and_lists_what_exists():
    with pytest.raises(UnknownName, match=r"'resnet43'.*Did you mean 'resnet34'.*Known: .*hashing"):
        backbone("resnet43")
    with pytest.raises(UnknownName, match="unknown audio backbone 'hog'"):
        backbone("hog", modality="audio")
    with pytest.raises(UnknownName, match="unknown modality 'sound'.*Known: audio, .*flow, rgb"):
        backbone("logmel", modality="sound")


def test_unknown_variant_and_setting_are_named():
    with pytest.raises(MmfError, match=r"no variant 'small'.*resnet34:grid"):
        backbone("resnet34:small", weights="random:0")
    with pytest.raises(MmfError, match=r"\['window'\]; it takes weights, batch"):
        backbone("hog", window=2)
    with pytest.raises(MmfError, match="'fp8'.*fp32, bf16, fp16"):
        backbone("resnet18", weights="random:0", precision="fp8")
    with pytest.raises(MmfError, match="batch size 0"):
        backbone("resnet18", weights="random:0", batch=0)


@pytest.mark.parametrize("weights", ["random", "random:", "random:-1", "random:x"])
def test_random_weights_need_a_seed(weights):
    with pytest.raises(MmfError, match="expected random:SEED"):
        backbone("resnet18", weights=weights)


def test_weights_that_cannot_be_had_name_the_file_and_the_ways_on(tmp_path, monkeypatch):
    with pytest.raises(WeightsMissing, match=r"gone\.pth.*random:0"):
        backbone("resnet18", weights=str(tmp_path / "gone.pth"))

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    says = r"resnet18-f37072fd\.pth was looked for at .*mmf weights --fetch.*PATH.*random:0"
    with pytest.raises(WeightsMissing, match=says):
        backbone("resnet18")


def test_weights_that_do_not_fit_name_the_first_keys(tmp_path):
    right = load_network("resnet18", "random:0")[0].state_dict()
    wrong = {("stem.weight" if k == "conv1.weight" else k): v for k, v in right.items()}
    wrong["fc.bias"] = torch.zeros(10)
    torch.save(wrong, tmp_path / "wrong.pth")
    says = r"conv1.weight is missing; stem.weight is not in.*fc.bias has shape \(10,\).*\(1000,\)"
    with pytest.raises(MmfError, match=says):
        backbone("resnet18", weights=str(tmp_path / "wrong.pth"))


class Canary:
    """What a hostile checkpoint would run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_runs_no_code(tmp_path):
    torch.save({"conv1.weight": Canary(tmp_path / "ran")}, tmp_path / "hostile.pth")
    with pytest.raises(MmfError, match=r"hostile\.pth' cannot be read as weights"):
        backbone("resnet18", weights=str(tmp_path / "hostile.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_a_broken_file_of_weights_is_one_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(MmfError, match=r"cannot be read as weights"):
        backbone("resnet18", weights=str(tmp_path / name))


def test_tensors_that_reach_beyond_their_file_take_no_memory(tmp_path):
    one = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]}
    header = json.dumps({"conv1.weight": one}).encode()
    (tmp_path / "bomb.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (tmp_path / "head.safetensors").write_bytes((1 << 60).to_bytes(8, "little"))
    for name in ("bomb", "head"):
        with pytest.raises(MmfError, match="cannot be read as weights"):
            backbone("resnet18", weights=str(tmp_path / f"{name}.safetensors"))


def test_payloads_of_another_shape_or_type_are_refused():
    with pytest.raises(MmfError, match=r"expected uint8 of shape \(T, 3, h, w\); got float32"):
        backbone("hog")(np.zeros((2, 3, 64, 64), np.float32))
    with pytest.raises(MmfError, match=r"\(T, 15600\).*\(2, 100\)"):
        backbone("logmel")(np.zeros((2, 100), np.float32))
    with pytest.raises(MmfError, match="a list of strings"):
        backbone("hashing")("one string is a list of letters")


# the contract of every backbone


@pytest.fixture
def fused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is built again with the same weights is not fused again: it takes seconds."""
    known: list[tuple[dict, torch.Size, Any]] = []
    fuse = network.fused

    def once(trunk, given):
        weights = trunk.state_dict()
        for theirs, shape, made in known:
            if shape == given.shape and all(torch.equal(w, theirs[n]) for n, w in weights.items()):
                return made
        known.append((weights, given.shape, fuse(trunk, given)))
        return known[-1][-1]

    monkeypatch.setattr(network, "fused", once)


@pytest.mark.usefixtures("fused_once")
@pytest.mark.parametrize(("modality", "name"), NAMES)
def test_every_backbone_keeps_the_contract_on_a_real_clip(modality, name, sampled):
    setup = {"modality": modality, "weights": "random:0", "batch": 2}
    first, second = (backbone(name, signal=small(modality, name), **setup) for _ in range(2))
    if name.endswith(":grid"):  # the network of the pooled rows, which is fused with those
        first.fuses = second.fuses = False
    real = sampled.get(first.signal)
    given = np.stack(real) if real else payloads(first, 2)
    rows = first.rows(given)
    assert rows.shape == (2, *first.row_shape)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    assert np.abs(rows.astype(np.float16)).max(axis=tuple(range(1, rows.ndim))).min() > 0
    assert not np.array_equal(rows[0], rows[1])  # it looks at the payload
    # built again, and with every row in another place: the same bits
    assert np.array_equal(second.rows(np.ascontiguousarray(given[::-1])), rows[::-1])
    assert first.weights == ("random:0" if first.has_weights else None)
    assert (first.flops_per_row() or 0) > 0
    assert first.libraries()["numpy"]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_row_has_the_same_bits_whatever_its_neighbours(name, precision):
    built = backbone(name, weights="random:0", precision=precision)
    given = payloads(built, built.batch)
    full = built.rows(given)
    for fill in (1, 3, built.batch - 1):
        batch = built.empty_batch()
        batch[:fill] = given[:fill]
        assert np.array_equal(built.rows(batch)[:fill], full[:fill]), fill
        moved = np.roll(given, fill, axis=0)
        assert np.array_equal(built.rows(moved), np.roll(full, fill, axis=0)), fill


def test_seeds_differ_and_leave_the_callers_random_state_alone():
    state = torch.random.get_rng_state()
    one, two = (load_network("resnet18", f"random:{seed}")[0] for seed in (1, 2))
    assert not torch.equal(one.conv1.weight, two.conv1.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


# images


def test_frames_of_any_size_are_prepared_as_torchvision_publishes(shared_data):
    from PIL import Image
    from torchvision.models import MobileNet_V2_Weights
    from torchvision.transforms.functional import pil_to_tensor

    built = backbone("mobilenet_v2", weights=_mobilenet(shared_data))
    published = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (24, 40, 3), np.uint8))
    image = small.resize((400, 240), Image.Resampling.BICUBIC)
    ours = built(pil_to_tensor(image)[None])
    network = load_network("mobilenet_v2", _mobilenet(shared_data))[0]
    with torch.inference_mode():
        theirs = network.features(published(image)[None]).mean(dim=(2, 3))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_tensors_come_back_as_tensors_and_arrays_as_arrays():
    built = backbone("resnet18", weights="random:0", batch=2)
    frames = torch.randint(0, 256, (3, 3, 90, 120), dtype=torch.uint8)
    rows = built(frames)
    assert rows.shape == (3, 512)
    assert rows.dtype == torch.float32
    assert np.array_equal(built(frames.numpy()), rows.numpy())


def _mobilenet(shared_data: Path) -> str:
    return str(shared_data / "weights" / "mobilenet_v2_imagenet_fp16.safetensors")


def test_real_weights_see_what_clips_show(shared_data):
    """Frames of one clip are nearer to each other than to those of other clips."""
    from mmf.extract.decoder.events import Sample
    from mmf.extract.decoder.parent import Decoder

    built = backbone("mobilenet_v2", weights=_mobilenet(shared_data))
    assert built.weights is not None
    assert built.weights.startswith("sha256:")
    clips = [
        "meta-pytorch+torchcodec/test/resources/nasa_13013.mp4",
        "Zulko+moviepy/media/chaplin.mp4",
        "intel-iot-devkit+sample-videos/asl_gestures/book.mkv",
    ]
    frames: dict[str, list[np.ndarray]] = {clip: [] for clip in clips}
    with Decoder([built.signal]) as decoder:
        for clip in clips:
            decoder.submit(clip, str(shared_data / "videos" / clip))
        for event in decoder.events():
            if isinstance(event, Sample) and len(frames[event.key]) < 3:
                frames[event.key].append(event.payload.transpose(2, 0, 1).copy())
    rows = np.concatenate([built(np.stack(kept)) for kept in frames.values()])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    alike = rows @ rows.T
    same = np.repeat(np.arange(3), 3)
    within = alike[(same[:, None] == same) & ~np.eye(9, dtype=bool)]
    across = alike[same[:, None] != same]
    assert within.mean() > across.mean() + 0.2
    # a classifier that sees: on real frames its top class is far above chance
    network = load_network("mobilenet_v2", _mobilenet(shared_data))[0]
    with torch.inference_mode():
        scores = network.classifier(torch.from_numpy(built(np.stack(frames[clips[0]]))))
    assert scores.softmax(1).amax(1).min() > 0.05


def test_hog_knows_shape_and_colour():
    frames = np.full((3, 3, 224, 224), 60, np.uint8)
    frames[0, 0, 60:160, 60:160] = 200  # red square
    frames[1, 2, 60:160, 60:160] = 200  # blue square
    frames[2, 0, 80:140, 20:200] = 200  # red bar
    red, blue, bar = backbone("hog")(frames)
    gradients, colours = slice(0, 441), slice(441, None)
    assert np.abs(red[colours] - blue[colours]).max() > 1
    assert np.abs(red[gradients] - bar[gradients]).max() > 0.1


# sound


def test_log_mel_is_the_published_one(shared_data):
    folder = shared_data / "weights" / "testvectors"
    wave = np.fromfile(folder / "yamnet_test_audio.bin", "<i2").astype(np.float32)
    golden = np.fromfile(folder / "yamnet_test_spectra.bin", "<f4").reshape(96, 64)
    ours = log_mel((wave / np.abs(wave).max())[None])
    assert ours.shape == (1, 96, 64)
    assert np.abs(ours[0] - golden).max() < 3e-6


def test_log_mel_has_the_frames_that_the_samples_hold():
    assert samples_of(96) == 15600
    assert log_mel(np.zeros((2, samples_of(50)), np.float32)).shape == (2, 50, 64)
    silence = log_mel(np.zeros((1, samples_of(3)), np.float32))
    assert np.allclose(silence, np.log(0.01))


def test_logmel_finds_the_pitch():
    t = np.arange(15600, dtype=np.float32) / 16000
    low, high = (np.sin(2 * np.pi * hertz * t) for hertz in (300.0, 3000.0))
    rows = backbone("logmel")(np.stack([low, high]).astype(np.float32))
    assert rows[0, :64].argmax() < 10
    assert rows[1, :64].argmax() > 35


def test_the_grid_of_a_spectrogram_has_its_pooled_row_as_mean():
    wave = np.random.default_rng(0).normal(0, 0.2, (2, 15600)).astype(np.float32)
    setup = {"modality": "audio", "weights": "random:0", "batch": 2}
    grid, pooled = backbone("resnet34:grid", **setup)(wave), backbone("resnet34", **setup)(wave)
    assert grid.shape == (2, 7, 7, 512)
    assert pooled.shape == (2, 512)
    np.testing.assert_allclose(grid.mean(axis=(1, 2)), pooled, rtol=1e-4)


# flow


def test_farneback_gives_the_motion_in_pixels():
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (40, 50, 3), np.uint8).repeat(6, 0).repeat(6, 1)
    flow = farneback(ground[20:180, 20:200], ground[20:180, 17:197])  # all moves 3 to the right
    assert np.abs(np.median(flow, axis=(0, 1)) - (3, 0)).max() < 0.3


def test_hof_tells_direction_and_stillness():
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (40, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    still = ground[20:244, 20:244]
    right, down = ground[20:244, 16:240], ground[16:240, 20:244]
    pairs = np.stack([np.stack([still, second]) for second in (still, right, down)])
    rows = backbone("hof")(pairs.transpose(0, 1, 4, 2, 3)).reshape(3, 16, 9)
    assert (rows[0, :, 8] == 1).all()
    assert (rows[0, :, :8] == 0).all()
    assert (rows[1].mean(axis=0)[:8].argmax(), rows[2].mean(axis=0)[:8].argmax()) == (0, 2)


# text


def test_hashing_is_the_same_in_every_process():
    program = (
        "from mmf.extract.backbones import backbone\n"
        "print(backbone('hashing')(['Ein Käfer im Gras']).tobytes().hex())"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == backbone("hashing")(["Ein Käfer im Gras"]).tobytes().hex()


def test_hashing_finds_likeness_in_any_script_and_survives_broken_text():
    cat, cats, rain, chinese, chinese_more = backbone("hashing")(
        ["The cat sleeps.", "the CATS sleep", "it rains in Bonn", "小猫在睡觉", "小猫在睡觉呢"]
    )
    assert cat @ cats > cat @ rain + 0.2
    assert chinese @ chinese_more > 0.4
    broken, empty = backbone("hashing")(["\ud800 \x00 cat", "… !"])
    assert np.linalg.norm(broken) == pytest.approx(1)
    assert (empty == 0).all()
