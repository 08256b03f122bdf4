"""Speech to text by Whisper, as captions for media that have none.

Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, ICML 2023. A wave is
heard in windows of 30 s. The network writes ``<|t0|> words <|t1|>`` for each phrase, with times in
steps of 0.02 s from the window's begin; the next window begins where the last whole phrase ended,
so that none is cut (section 3.8 of the paper).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from mmf import MmfError
from mmf.extract.backbones.extra import library
from mmf.extract.backbones.transformer import Published, load_transformer
from mmf.extract.media.captions import Cue
from mmf.store.weights import find_weights

SAMPLE_RATE = 16000
SECONDS = 30.0  # that the network hears at once
STEP = 0.02  # seconds from one timestamp to the next
SHORT = 0.1  # seconds of sound below which nothing is said
SIZES = ("tiny", "base", "small", "medium", "large-v3")


@dataclass(frozen=True, kw_only=True)
class Transcriber:
    """Waves → captions: what `listen` writes of a window, read as phrases."""

    listen: Callable[[Float32[np.ndarray, " samples"]], Sequence[int]]  # a window → token ids
    spell: Callable[[Sequence[int]], str]  # ids of words → text
    first_time: int  # the id of the timestamp 0.00; all from it on are times

    def __call__(self, wave: Float32[np.ndarray, " samples"], start: float = 0.0) -> list[Cue]:
        """The phrases of a mono wave at 16 kHz, in order; times in seconds, `start` added."""
        cues: list[Cue] = []
        heard = 0  # samples
        while len(wave) - heard > SHORT * SAMPLE_RATE:
            window = wave[heard : heard + int(SECONDS * SAMPLE_RATE)]
            ids = self.listen(window)
            length = len(window) / SAMPLE_RATE
            cues += self._phrases(ids, start + heard / SAMPLE_RATE, length)
            heard += self._heard(ids, len(window))
        return cues

    def _phrases(self, ids: Sequence[int], start: float, length: float) -> list[Cue]:
        """The phrases between two times; words behind the last time go on to the window's end."""
        cues: list[Cue] = []
        begin, words = 0.0, list[int]()
        for one in [*ids, self.first_time + round(length / STEP)]:
            if one < self.first_time:
                words.append(one)
                continue
            time = min((one - self.first_time) * STEP, length)
            text = self.spell(words).strip() if words else ""
            if text:
                cues.append(Cue(start=start + begin, end=start + max(begin, time), text=text))
            begin, words = time, []
        return cues

    def _heard(self, ids: Sequence[int], samples: int) -> int:
        """Samples up to where the next window begins."""
        last = [one for one in ids[-2:] if one >= self.first_time]
        if len(last) < 2 or samples < SECONDS * SAMPLE_RATE:
            return samples
        # two times at the end: a phrase ended, and another began that the window cuts off
        end = round((last[0] - self.first_time) * STEP * SAMPLE_RATE)
        return end if end > SHORT * SAMPLE_RATE else samples


def transcriber(
    name: str, *, weights: str = "pretrained", language: str = "", device: str = "cpu"
) -> Transcriber:
    """`whisper:SIZE` (tiny, base, small, medium, large-v3) as a transcriber.

    `weights` is pretrained or a location; `language` (en, de, …) is told or, where empty, heard by
    the network. Raises MmfError where the name is none of these or the weights cannot be had.
    """
    base, _, size = name.partition(":")
    if base != "whisper" or (size and size not in SIZES):
        raise MmfError(f"speech {name!r}: expected whisper:SIZE, one of {', '.join(SIZES)}.")
    published = Published(
        model="WhisperForConditionalGeneration",
        repository=f"openai/whisper-{size or 'base'}",
        licence="apache-2.0",
    )
    location = published.location if weights == "pretrained" else weights
    folder = find_weights(location, name=name).path
    if not (folder / "generation_config.json").is_file():
        raise MmfError(
            f"{str(folder)!r} is not the folder of a Whisper network: expected config.json, "
            "generation_config.json, tokenizer and tensors, as its repository has them."
        )
    loaded = load_transformer(published, str(folder), name=name)
    network: Any = loaded.network
    transformers = library("transformers")
    settings = transformers.GenerationConfig.from_pretrained(str(folder))
    network.generation_config = settings
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )
    network.to(torch.device(device))
    return Transcriber(
        listen=_listener(network, _extractor(network), language),
        spell=lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True),
        first_time=settings.no_timestamps_token_id + 1,
    )


def _extractor(network: Any) -> Any:
    bands = network.config.num_mel_bins
    return library("transformers").WhisperFeatureExtractor(feature_size=bands)


def _listener(network: Any, extractor: Any, language: str) -> Callable[[np.ndarray], list[int]]:
    @torch.inference_mode()
    def listen(window: Float32[np.ndarray, " samples"]) -> list[int]:
        given = extractor(window, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        ids = network.generate(
            given["input_features"].to(network.device),
            return_timestamps=True,
            task="transcribe",
            language=language or None,
        )[0].tolist()
        ends = {network.generation_config.eos_token_id}
        # what stands before the first time or word says the language and the task
        prompt = {network.generation_config.decoder_start_token_id, *_told(network)}
        return [one for one in ids if one not in ends | prompt]

    return listen


def _told(network: Any) -> set[int]:
    settings = network.generation_config
    return {*settings.lang_to_id.values(), *settings.task_to_id.values()}
