"""Small media files, made with PyAV where a test needs one with a known content."""

import json
from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest
from torch import nn

from mmf.extract.sample_set import make_sample_set

RATE = 16000


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 clips of 4 s with sound and captions, and a file that is no media; to be read only."""
    folder = make_sample_set(tmp_path_factory.mktemp("sample"), clips=8)
    (folder / "broken.mp4").write_bytes(b"this is no video" * 100)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a clip: `clip("a.mp4", frames=50, sound=2.0)`; frame i is grey level 4 i modulo 256."""
    folder = tmp_path_factory.mktemp("clips")

    def make(
        name: str, *, frames: int = 0, fps: int = 25, sound: float = 0.0, **video: int
    ) -> Path:
        parts = [frames, fps, sound, *sorted(video.items())]  # of one name there may be several
        path = folder / "-".join(map(str, parts)) / name
        if path.exists():
            return path
        path.parent.mkdir(exist_ok=True)
        with av.open(str(path), "w") as container:
            # both streams before any packet: the header is written with the first
            pictures = _video_stream(container, fps, **video) if frames else None
            wave = _audio_stream(container) if sound else None
            if pictures:
                _add_frames(container, pictures, frames, fps)
            if wave:
                _add_sine(container, wave, sound)
        return path

    return make


def _video_stream(container, fps: int, width: int = 64, height: int = 48):
    codec = "libvpx" if container.format.name == "webm" else "libx264"
    stream = container.add_stream(codec, rate=fps)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    return stream


def _audio_stream(container):
    codec = "pcm_s16le" if container.format.name == "wav" else "aac"
    return container.add_stream(codec, rate=RATE, layout="mono")


def _add_frames(container, stream, frames: int, fps: int) -> None:
    for i in range(frames):
        image = np.full((stream.height, stream.width, 3), 4 * i % 256, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1, fps)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _add_sine(container, stream, seconds: float) -> None:
    form = stream.codec_context.format.name
    time = np.arange(int(seconds * RATE)) / RATE
    wave = (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    if form == "s16":
        wave = (wave * 32767).astype(np.int16)
    step = stream.codec_context.frame_size or 1024
    for at in range(0, len(wave), step):
        frame = av.AudioFrame.from_ndarray(wave[None, at : at + step], format=form, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def with_statistics() -> Callable[[nn.Module], nn.Module]:
    """Fills a network as if it had learned: convolutions by He, batch norms off identity."""

    def fill(network: nn.Module) -> nn.Module:
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
        return network.eval()

    return fill


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random networks of transformers with one narrow layer; what they take in is as published."""
    if find_spec("transformers") is None:
        return
    from mmf.extract.backbones import transformer

    whole = transformer.random_config

    def small(*of):
        config = whole(*of)
        if hasattr(config, "depths"):
            return config
        sizes = {"hidden_size": 96, "intermediate_size": 96, "num_attention_heads": 2}
        sizes |= {"num_hidden_layers": 1, "pred_num_hidden_layers": 1}
        for name, value in sizes.items():
            if hasattr(config, name):
                setattr(config, name, value)
        return config

    monkeypatch.setattr(transformer, "random_config", small)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and empty caches of this test alone."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture(scope="session")
def small_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small Whisper with random weights, its tokenizer and settings."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    letters = [chr(c) for c in range(33, 127)] + ["Ġ"]
    specials = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>"]
    specials += ["<|translate|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    ids = {token: i for i, token in enumerate([*letters, *specials])}
    folder = tmp_path_factory.mktemp("whisper")
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.WhisperTokenizer.from_pretrained(str(folder))
    tokenizer.save_pretrained(folder)
    end, begin = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": len(ids) + 1501}
    special = {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end}
    special |= {"decoder_start_token_id": begin}
    torch.manual_seed(0)
    config = transformers.WhisperConfig(**sizes, **special, begin_suppress_tokens=None)
    network = transformers.WhisperForConditionalGeneration(config)
    network.generation_config = transformers.GenerationConfig(
        **special,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        lang_to_id={"<|en|>": ids["<|en|>"]},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        is_multilingual=True,
        max_length=24,
    )
    network.save_pretrained(folder)
    return folder
