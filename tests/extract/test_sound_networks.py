"""Networks of sound: fed as their own processors feed them, one row per window."""

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.extract import parse_feature
from mmf.extract.backbones import backbone, backbone_class
from mmf.extract.signals import Waves

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.usefixtures("offline", "small_networks")


@pytest.fixture(scope="module")
def wave():
    """Ten seconds of tones in noise, off centre."""
    rng = np.random.default_rng(0)
    time = np.arange(480000) / 48000
    tones = 0.2 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 3000 * time**2)
    return (tones + rng.normal(0.05, 0.02, len(time))).astype(np.float32)


def test_unknown_variants_say_what_exists():
    with pytest.raises(MmfError, match=r"no variant 'tiny'. Its variants: hubert:base, hubert:lar"):
        parse_feature("x=audio:hubert:tiny")


@pytest.mark.parametrize("samples", [160000, 164080, 200000, 16000])
def test_ast_gets_what_its_own_processor_makes(wave, samples):
    signal = Waves(samples=samples)
    built = backbone("ast", weights="random:0", signal=signal)
    ours = built.prepare(wave[None, :samples])
    theirs = transformers.ASTFeatureExtractor()(
        wave[:samples], sampling_rate=16000, return_tensors="pt"
    )["input_values"]
    assert ours.shape == (1, 1024, 128)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
def test_waves_are_scaled_in_each_window_as_published(wave, name):
    built = backbone(name, weights="random:0")
    windows = np.stack([wave[:15600], 3 * wave[20000:35600], np.zeros(15600, np.float32)])
    theirs = transformers.Wav2Vec2FeatureExtractor()(
        list(windows), sampling_rate=16000, return_tensors="pt"
    )["input_values"]
    torch.testing.assert_close(built.prepare(windows), theirs, rtol=1e-5, atol=1e-5)


def test_clap_hears_mel_bands_in_decibels(wave):
    import torchaudio

    built = backbone("clap", weights="random:0")
    (ours,) = built.prepare(wave[None])[0]
    bands = torchaudio.transforms.MelSpectrogram(
        48000, n_fft=1024, hop_length=480, f_min=50, f_max=14000, n_mels=64, norm="slaney",
        mel_scale="slaney",
    )(torch.from_numpy(wave))  # fmt: skip
    decibels = 10 * torch.log10(bands.clamp(min=1e-10)).T
    assert ours.shape == (1001, 64)
    assert (ours - decibels).abs().max() < 0.05


@pytest.mark.parametrize(
    ("name", "model", "sizes"),
    [
        ("wav2vec2", "Wav2Vec2ForPreTraining", {"conv_dim": (32,) * 7}),
        ("hubert", "HubertForCTC", {"conv_dim": (32,) * 7}),
        ("ast", "ASTForAudioClassification", {}),
    ],
)
def test_rows_are_the_last_layer_pooled(tmp_path, wave, name, model, sizes):
    whole = getattr(transformers, model)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = whole.config_class(num_hidden_layers=2, **small, **sizes)
    torch.manual_seed(0)
    network = whole(config).eval()
    network.save_pretrained(tmp_path)
    signal = Waves(samples=15600)
    built = backbone(name, weights=str(tmp_path), signal=signal, batch=2)
    windows = np.stack([wave[:15600], wave[20000:35600]])
    with torch.inference_mode():
        given = built.prepare(windows)
        output = network.base_model(given)
        mean = output.last_hidden_state.mean(dim=1)
        expected = output.pooler_output if name == "ast" else mean
    assert built.row_shape == (32,)
    np.testing.assert_allclose(built(windows), expected, rtol=1e-3, atol=1e-4)


def test_clap_rows_are_its_embeddings_of_sound(tmp_path, wave):
    audio = {"depths": [1, 1, 1, 1], "patch_embeds_hidden_size": 32, "hidden_size": 256}
    audio |= {"projection_dim": 16}
    text = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "vocab_size": 9}
    config = transformers.ClapConfig(
        audio_config=audio, text_config={**text, "num_attention_heads": 2}, projection_dim=16
    )
    torch.manual_seed(0)
    network = transformers.ClapModel(config).eval()
    network.save_pretrained(tmp_path)
    built = backbone("clap", weights=str(tmp_path), batch=1)
    with torch.inference_mode():
        seen = network.audio_model(input_features=built.prepare(wave[None])).pooler_output
        expected = network.audio_projection(seen)
    np.testing.assert_allclose(built(wave[None]), expected, rtol=1e-3, atol=1e-4)


SIZES = {"ast": 86.2, "wav2vec2:base": 94.4, "wav2vec2:large": 315.4}
SIZES |= {"hubert:base": 94.4, "hubert:large": 315.4}


@pytest.mark.parametrize(("name", "millions"), SIZES.items())
def test_every_size_has_the_parameters_that_were_published(name, millions):
    published = backbone_class(name, "audio").entry(name).network
    model = getattr(transformers, published.model)
    with torch.device("meta"):
        network = model(model.config_class(**published.config))
    count = sum(tensor.numel() for tensor in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.06)
