"""Log-mel spectrograms exactly as VGGish and YouTube-8M make them.

16 kHz mono → windows of 25 ms (400 samples, periodic Hann) every 10 ms (160) → magnitude of the
512-point FFT → 64 HTK mel bands from 125 to 7500 Hz, triangles that are linear in mel, the DC bin
left out → ln(mel + 0.01). 15,600 samples (0.975 s) give 96 frames.
Source: tensorflow/models, research/audioset/vggish, mel_features.py and vggish_params.py.
torchaudio's and librosa's triangles are linear in hertz: up to 0.01 away, so they are not used.
"""

import functools
import math
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32

from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.signals import Signal, Waves

SAMPLE_RATE = 16000
WINDOW = 400
HOP = 160
FFT = 512
BANDS = 64
LOW_HZ, HIGH_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01


def samples_of(frames: int) -> int:
    """Samples under `frames` spectrogram frames."""
    return WINDOW + HOP * (frames - 1)


def log_mel(waves: Float32[np.ndarray, "B samples"]) -> Float32[np.ndarray, "B frames bands"]:
    """Waves at 16 kHz, in -1…1 → ln(mel + 0.01); frames = 1 + (samples - 400) // 160."""
    windows = np.lib.stride_tricks.sliding_window_view(waves, WINDOW, axis=-1)[:, ::HOP]
    magnitude = np.abs(np.fft.rfft(windows * _hann(), FFT))  # (B, frames, 257)
    return np.log(magnitude @ _mel_weights() + np.float32(LOG_OFFSET))


@functools.cache
def _hann() -> Float32[np.ndarray, " window"]:
    phase = 2 * np.pi * np.arange(WINDOW) / WINDOW
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


@functools.cache
def _mel_weights() -> Float32[np.ndarray, "bins bands"]:
    bins = _mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)[:, None]
    low, high = _mel(np.array([LOW_HZ, HIGH_HZ]))
    edges = np.linspace(low, high, BANDS + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights.astype(np.float32)


def _mel(hertz: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return 1127.0 * np.log1p(hertz / 700.0)


class LogMel(Backbone):
    """Mean and standard deviation over time of the log-mel spectrogram: 64 + 64 numbers."""

    modality: ClassVar[str] = "audio"
    default_signal: ClassVar[Signal] = Waves()

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.row_shape = (2 * BANDS,)

    def rows(self, payloads: Float32[np.ndarray, "B samples"]) -> Float32[np.ndarray, "B D"]:
        """Waves (B, samples) → (B, 128)."""
        spectrogram = log_mel(payloads)
        return np.concatenate([spectrogram.mean(axis=1), spectrogram.std(axis=1)], axis=1)

    def flops_per_row(self) -> float:
        """Of each frame: window, FFT, magnitudes, mel product, logarithm and statistics.

        ``frames (400 + 5/2 N log2 N + 4 bins + 2 bins 64 + 6 · 64)``, N = 512, bins = 257: half of
        the 5 N log2 N of a complex FFT (radix 2), for the samples are real.
        """
        (samples,) = self.signal.row_shape
        frames = 1 + (samples - WINDOW) // HOP
        bins = FFT // 2 + 1
        transform = 5 * FFT * math.log2(FFT) / 2
        return frames * (WINDOW + transform + 4 * bins + 2 * bins * BANDS + 6 * BANDS)
