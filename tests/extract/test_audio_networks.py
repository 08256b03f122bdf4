"""VGGish as Google defines it: names, front end, activation, whitening, codes."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from mmf import MmfError
from mmf.extract.backbones import backbone
from mmf.extract.backbones.logmel import log_mel, samples_of
from mmf.extract.backbones.vggish import VggishNetwork, published_names
from mmf.extract.recipe import build, request_from_spec, spec
from mmf.extract.request import parse_feature

# (name, shape) of vggish-10086976.pth
KEYS = {
    "features.0": (64, 1, 3, 3),
    "features.3": (128, 64, 3, 3),
    "features.6": (256, 128, 3, 3),
    "features.8": (256, 256, 3, 3),
    "features.11": (512, 256, 3, 3),
    "features.13": (512, 512, 3, 3),
    "embeddings.0": (4096, 12288),
    "embeddings.2": (4096, 4096),
    "embeddings.4": (128, 4096),
}


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    """A state dict with the published names and shapes."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, shape in KEYS.items():
        fan_in = np.prod(shape[1:])
        made[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        made[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return made


@pytest.fixture(scope="module")
def checkpoint(official, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("vggish") / "vggish-10086976.pth"
    torch.save(official, path)
    return str(path)


def sound(seconds: float = 0.975, rows: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.2, (rows, round(seconds * 16000))).astype("f4")


def written_out(tensors: dict[str, torch.Tensor], log_mels: torch.Tensor) -> torch.Tensor:
    """VGGish as its paper's list of layers, channels last as in TensorFlow."""
    maps = log_mels[:, None]
    for name in KEYS:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        if name.startswith("features"):
            maps = functional.conv2d(maps, weight, bias, padding=1).clamp(min=0)
            if name not in ("features.6", "features.11"):
                maps = maps.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax(dim=(3, 5))
            continue
        if name == "embeddings.0":
            maps = torch.stack([image.movedim(0, -1).reshape(-1) for image in maps])
        maps = maps @ weight.T + bias
        maps = maps.clamp(min=0) if name != "embeddings.4" else maps
    return maps


def test_other_windows_and_values_are_refused(checkpoint):
    with pytest.raises(MmfError, match=r"vggish hears 0\.96 s at a time"):
        build(parse_feature("a=audio:vggish,window=2"))
    with pytest.raises(MmfError, match="final_relu='maybe'.*yes or no"):
        build(parse_feature(f"a=audio:vggish,weights={checkpoint},final_relu=maybe"))
    with pytest.raises(MmfError, match=r"pca='gone\.npz' cannot be read.*mean\.npy.*pca_means"):
        build(parse_feature(f"a=audio:vggish,weights={checkpoint},pca=gone.npz"))


def test_matrices_of_another_size_are_refused(checkpoint, tmp_path):
    np.savez(tmp_path / "p.npz", pca_means=np.zeros(64), pca_eigen_vectors=np.eye(64))
    with pytest.raises(MmfError, match=r"mean of shape \(64,\).*expected those of 128 numbers"):
        build(parse_feature(f"a=audio:vggish,weights={checkpoint},pca={tmp_path / 'p.npz'}"))


def test_the_published_file_loads_and_gives_the_embedding_before_any_activation(
    official, checkpoint
):
    waves = sound()
    rows = build(parse_feature(f"a=audio:vggish,weights={checkpoint},batch=2")).rows(waves)
    expected = written_out(official, torch.from_numpy(log_mel(waves)).float())
    torch.testing.assert_close(torch.from_numpy(rows), expected, rtol=1e-4, atol=1e-4)
    assert (rows < 0).any()
    relu = f"a=audio:vggish,weights={checkpoint},batch=2,final_relu=yes"
    np.testing.assert_array_equal(build(parse_feature(relu)).rows(waves), rows.clip(0))


def test_tensorflows_and_torchaudios_names_are_those_of_the_published_file(official):
    layers = ["conv1", "conv2", "conv3/conv3_1", "conv3/conv3_2", "conv4/conv4_1", "conv4/conv4_2"]
    layers += ["fc1/fc1_1", "fc1/fc1_2", "fc2"]
    tensorflow = {}
    for layer, name in zip(layers, KEYS, strict=True):
        weight = official[f"{name}.weight"]
        turned = weight.permute(2, 3, 1, 0) if weight.dim() == 4 else weight.T
        tensorflow[f"vggish/{layer}/weights"] = turned
        tensorflow[f"vggish/{layer}/biases"] = official[f"{name}.bias"]
    torchaudio = {
        name.replace("features.", "features_network.").replace(
            "embeddings.", "embedding_network."
        ): tensor
        for name, tensor in official.items()
    }
    for names in (tensorflow, torchaudio, official):
        renamed = published_names(names)
        assert renamed.keys() == official.keys() == VggishNetwork().state_dict().keys()
        assert all(torch.equal(renamed[name], official[name]) for name in official)


def test_the_published_whitening_and_8_bits_are_googles(checkpoint, shared_data):
    file = shared_data / "weights" / "vggish_pca_params.npz"
    asked = f"a=audio:vggish,weights={checkpoint},batch=2,pca={file},dtype=uint8"
    request = parse_feature(asked)
    whitening, plain = build(request), build(parse_feature(asked.replace(f",pca={file}", "")))
    waves = sound()
    with np.load(file) as arrays:
        axes, mean = arrays["pca_eigen_vectors"], arrays["pca_means"].reshape(-1)
    expected = np.stack([axes @ (row - mean) for row in plain.rows(waves).astype(np.float64)])
    rows = whitening.rows(waves)
    np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-3)
    codes = spec(request, whitening).encode(rows)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, ((rows.clip(-2, 2) + 2) * 63.75).astype(np.uint8))


def test_the_matrices_are_pinned_by_their_numbers_and_found_again(checkpoint, tmp_path):
    arrays = {"pca_means": np.ones(128), "pca_eigen_vectors": np.eye(128)}
    np.savez(tmp_path / "p.npz", **arrays)
    torch.save({k: torch.from_numpy(v) for k, v in arrays.items()}, tmp_path / "p.pth")
    made = []
    for name in ("p.npz", "p.pth"):
        request = parse_feature(f"a=audio:vggish,weights={checkpoint},pca={tmp_path / name}")
        made.append(spec(request, build(request)))
    assert made[0].fingerprint == made[1].fingerprint
    again = request_from_spec(made[0])
    assert spec(again, build(again)).fingerprint == made[0].fingerprint
    np.savez(tmp_path / "p.npz", **{**arrays, "pca_means": np.zeros(128)})
    with pytest.raises(MmfError, match="are not those that the feature was made with"):
        build(request_from_spec(made[0]))


def test_a_spectrogram_of_the_golden_sound_goes_into_vggish(checkpoint, shared_data):
    folder = shared_data / "weights" / "testvectors"
    wave = np.fromfile(folder / "yamnet_test_audio.bin", "<i2").astype(np.float32)
    golden = np.fromfile(folder / "yamnet_test_spectra.bin", "<f4").reshape(1, 1, 96, 64)
    built = backbone("vggish", weights=checkpoint, batch=1)
    given = built.prepare((wave / np.abs(wave).max())[None])
    assert wave.shape == (samples_of(96),)
    assert np.abs(given.numpy() - golden).max() < 3e-6
