"""Networks of sound from transformers, one row per window.

AST: Gong et al., Interspeech 2021, on 128 mel bands of Kaldi's filter bank; the row is the mean of
its two class tokens, for 10 s as AudioSet's clips are. Wav2Vec 2.0: Baevski et al., NeurIPS 2020,
and HuBERT: Hsu et al., 2021, on the wave itself, scaled to mean 0 and variance 1 in each window;
the row is the mean over time of the last layer. CLAP: Wu et al., ICASSP 2023, on 10 s at 48 kHz;
the row is the sound's embedding in the space that it shares with text.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torchaudio
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.extra import library
from mmf.extract.backbones.transformer import LARGE, Known, Published, TransformerBackbone
from mmf.extract.signals import Signal, Waves

_LARGE = {
    **LARGE,
    "conv_bias": True,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
}
_QUIET = 1e-7  # keeps silence from being divided by 0
# of the logarithms of AudioSet's filter banks
AST_MEAN, AST_DEVIATION = -4.2677393, 4.5689974


class AudioTransformer(TransformerBackbone):
    """What the sound networks of transformers share."""

    modality: ClassVar[str] = "audio"
    default_signal: ClassVar[Signal] = Waves()


class SpeechTransformer(AudioTransformer):
    """What networks on the wave itself share."""

    def prepare(self, payloads: Float32[np.ndarray, "B samples"]) -> Float32[Tensor, "B samples"]:
        """Waves → with mean 0 and variance 1 in each window."""
        waves = self.on_device(payloads)
        centred = waves - waves.mean(dim=1, keepdim=True)
        return centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + _QUIET)

    def wanted(self, network: Any, given: Tensor) -> Tensor:
        """The mean over time."""
        return network(given).last_hidden_state.mean(dim=1)


def _speech(model: str, repository: str, **config: Any) -> Known:
    network = Published(model=model, repository=repository, licence="apache-2.0", config=config)
    return Known(network=network, signal=Waves())


class Wav2Vec2(SpeechTransformer):
    """Wav2Vec 2.0, pretrained on speech: 768 numbers, large 1024."""

    known: ClassVar[Mapping[str, Known]] = {
        "base": _speech("Wav2Vec2Model", "facebook/wav2vec2-base"),
        "large": _speech("Wav2Vec2Model", "facebook/wav2vec2-large-lv60", **_LARGE),
    }


class Hubert(SpeechTransformer):
    """HuBERT, pretrained on speech: 768 numbers, large 1024."""

    known: ClassVar[Mapping[str, Known]] = {
        "base": _speech("HubertModel", "facebook/hubert-base-ls960"),
        "large": _speech("HubertModel", "facebook/hubert-large-ll60k", **_LARGE),
    }


class Ast(AudioTransformer):
    """The audio spectrogram transformer, trained on AudioSet: 768 numbers."""

    batches: ClassVar[Mapping[str, int]] = {"cpu": 1, "cuda": 16}
    known: ClassVar[Mapping[str, Known]] = {
        "audioset": Known(
            network=Published(
                model="ASTModel",
                repository="MIT/ast-finetuned-audioset-10-10-0.4593",
                licence="bsd-3-clause",
            ),
            signal=Waves(fps=0.1, samples=160000),
        )
    }

    def prepare(
        self, payloads: Float32[np.ndarray, "B samples"]
    ) -> Float32[Tensor, "B frames bands"]:
        """Waves → Kaldi's log mel filter bank every 10 ms, filled up with 0, then scaled."""
        banks = [self._bank(torch.from_numpy(wave)) for wave in payloads]
        return ((torch.stack(banks) - AST_MEAN) / (2 * AST_DEVIATION)).to(self.device)

    def _bank(self, wave: Tensor) -> Tensor:
        bank = torchaudio.compliance.kaldi.fbank(
            wave[None],
            sample_frequency=16000,
            window_type="hanning",
            num_mel_bins=self.config.num_mel_bins,
        )[: self.config.max_length]
        return functional.pad(bank, (0, 0, 0, self.config.max_length - len(bank)))

    def wanted(self, network: Any, given: Tensor) -> Tensor:
        """The mean of the two class tokens."""
        return network(given).pooler_output


class Clap(AudioTransformer):
    """CLAP's audio tower: 512 numbers in the space that it shares with text."""

    batches: ClassVar[Mapping[str, int]] = {"cpu": 2, "cuda": 32}
    known: ClassVar[Mapping[str, Known]] = {
        "unfused": Known(
            network=Published(
                model="ClapAudioModelWithProjection",
                repository="laion/clap-htsat-unfused",
                licence="apache-2.0",
            ),
            signal=Waves(fps=0.1, sample_rate=48000, samples=480000),
        )
    }

    def __init__(self, setup: Setup):
        self._extractor = library("transformers").ClapFeatureExtractor(
            frequency_min=50, frequency_max=14000, truncation="rand_trunc", padding="repeatpad"
        )
        super().__init__(setup)

    def prepare(
        self, payloads: Float32[np.ndarray, "B samples"]
    ) -> Float32[Tensor, "B 1 frames bands"]:
        """Waves of 10 s at 48 kHz → the log mel spectrogram as CLAP's own processor makes it."""
        made = self._extractor(list(payloads), sampling_rate=48000, return_tensors="pt")
        return made["input_features"].float().to(self.device)

    def wanted(self, network: Any, given: Tensor) -> Tensor:
        """The embedding."""
        return network(input_features=given).audio_embeds
