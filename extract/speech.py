"""Speech to text by Whisper, as captions for media that have none.

Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, ICML 2023. A wave is
heard in windows of 30 s. The network writes ``<|t0|> words <|t1|>`` for each phrase, with times in
steps of 0.02 s from the window's begin; the next window begins where the last whole phrase ended,
so that none is cut (section 3.8 of the paper). The likeliest token is taken each time, in float32;
no text is handed on from window to window, and a window without any sound is not heard.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from mmf import MmfError, unknown
from mmf.extract.backbones.extra import library
from mmf.extract.backbones.tokens import fingerprint, open_tokenizer
from mmf.extract.backbones.transformer import Published, load_transformer
from mmf.extract.hearing import SAMPLE_RATE, SHORT, WINDOW, Hearing
from mmf.extract.media.captions import Cue, primary
from mmf.extract.signals import SPEECH
from mmf.store.weights import WeightsMissing, find_weights, place

STEP = 0.02  # seconds from one timestamp to the next
SETTINGS = "generation_config.json"
_NEEDED = ("no_timestamps_token_id", "lang_to_id", "task_to_id")  # of the settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Transcriber:
    """Waves → captions: what `listen` writes of a window, read as phrases."""

    listen: Callable[[Float32[np.ndarray, " samples"]], Sequence[int]]  # a window → token ids
    spell: Callable[[Sequence[int]], str]  # ids of words → text
    first_time: int  # the id of the timestamp 0.00; all from it on are times
    details: Mapping[str, str] = field(default_factory=dict)  # what makes the text, for the recipe
    path: str = ""  # of the weights
    libraries: Mapping[str, str] = field(default_factory=dict)  # their versions

    def __call__(self, wave: Float32[np.ndarray, " samples"], start: float = 0.0) -> list[Cue]:
        """The phrases of a mono wave at 16 kHz, in order; times in seconds, `start` added."""
        hearing = Hearing(self, start)
        return [*hearing.push(wave), *hearing.finish()]

    def hear(self, window: Float32[np.ndarray, " samples"], start: float) -> tuple[list[Cue], int]:
        """The phrases of one window, and the samples up to where the next one begins."""
        if not window.any():  # networks invent words for silence
            return [], len(window)
        ids = self.listen(window)
        return self._phrases(ids, start, len(window) / SAMPLE_RATE), self._heard(ids, len(window))

    def _phrases(self, ids: Sequence[int], start: float, length: float) -> list[Cue]:
        """The phrases between two times; words behind the last time go on to the window's end."""
        cues: list[Cue] = []
        begin, words = 0.0, list[int]()
        for one in [*ids, self.first_time + round(length / STEP)]:
            if one < self.first_time:
                words.append(one)
                continue
            time = max(begin, min((one - self.first_time) * STEP, length))
            text = self.spell(words).strip() if words else ""
            if text:
                cues.append(Cue(start=start + begin, end=start + time, text=text))
            begin, words = time, []
        return cues

    def _heard(self, ids: Sequence[int], samples: int) -> int:
        """Samples up to where the next window begins."""
        last = [one for one in ids[-2:] if one >= self.first_time]
        if len(last) < 2 or samples < WINDOW:
            return samples
        # two times at the end: a phrase ended, and another began that the window cuts off
        end = round((last[0] - self.first_time) * STEP * SAMPLE_RATE)
        return end if end > SHORT else samples


def published(name: str) -> str:
    """The location of the weights that `pretrained` means for `whisper:SIZE`."""
    return _published(name).location


def _published(name: str) -> Published:
    if name not in SPEECH:
        raise unknown("speech", name, SPEECH)
    return Published(
        model="WhisperForConditionalGeneration",
        repository=f"openai/whisper-{name.partition(':')[2]}",
        licence="apache-2.0",
    )


def transcriber(
    name: str, *, weights: str = "pretrained", language: str = "", device: str = "cpu"
) -> Transcriber:
    """`whisper:SIZE` (tiny, base, small, medium, large-v3, large-v3-turbo) as a transcriber.

    `weights` is pretrained or the location of a folder; `language` (en, eng, de, …) is told or,
    where empty, heard by the network in each window. Raises MmfError where the name is none of
    these, the weights cannot be had, or the network does not know the language.
    """
    asked = _published(name)
    if weights.startswith("random:"):
        raise MmfError(
            f"speech {name!r} with weights {weights!r}: a network that was never trained has no "
            "words. Name the folder of a Whisper network (speech_weights=FOLDER)."
        )
    folder = _found(asked.location if weights == "pretrained" else weights, name)
    if not (folder / SETTINGS).is_file():
        raise MmfError(
            f"{str(folder)!r} is not the folder of a Whisper network: expected config.json, "
            f"{SETTINGS}, tokenizer and tensors, as its repository has them."
        )
    loaded = load_transformer(asked, str(folder), name=name)
    network: Any = loaded.network
    network.generation_config = _settings(folder)
    tokenizer = open_tokenizer(folder)
    told = _told(network, language, name)
    network.to(torch.device(device))
    return Transcriber(
        listen=_listener(network, told),
        spell=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=True)),
        first_time=network.generation_config.no_timestamps_token_id + 1,
        details={
            "weights": loaded.identity,
            "settings": f"sha256:{hashlib.sha256((folder / SETTINGS).read_bytes()).hexdigest()}",
            "tokenizer": fingerprint(tokenizer),
        },
        path=str(Path(folder).absolute()),
        libraries={
            "transformers": library("transformers").__version__,
            "torch": str(torch.__version__),
        },
    )


def _found(location: str, name: str) -> Path:
    try:
        return find_weights(location, name=name).path
    except WeightsMissing as error:
        where = f"at {str(place(location))!r}"
        if "://" in location:
            where = f"on this machine: {location} was looked for {where}, and nothing is fetched"
        raise WeightsMissing(
            f"the weights of {name!r} are not {where}. Fetch them where there is a network (mmf "
            f"weights --feature t=text:hashing,speech={name} --fetch), or name the folder that has "
            "them (speech_weights=FOLDER)."
        ) from error


def _settings(folder: Path) -> Any:
    settings = library("transformers").GenerationConfig.from_pretrained(str(folder))
    if lacking := [name for name in _NEEDED if getattr(settings, name, None) is None]:
        raise MmfError(
            f"{str(folder / SETTINGS)!r} has no {' and no '.join(lacking)}: expected that of a "
            "Whisper network of many languages, which writes times."
        )
    return settings


def _told(network: Any, language: str, name: str) -> str | None:
    """The language as the network calls it; None where it is to be heard."""
    if not language:
        return None
    known = {code.strip("<|>") for code in network.generation_config.lang_to_id}
    tag = language.lower().partition("-")[0]
    told = tag if tag in known else primary(language)
    if told not in known:
        raise MmfError(
            f"speech {name!r} does not know the language {language!r}. Its languages: "
            f"{', '.join(sorted(known))}. Without language=… it hears which one is spoken."
        )
    return told


def _listener(network: Any, language: str | None) -> Callable[[np.ndarray], list[int]]:
    settings = network.generation_config
    bands = network.config.num_mel_bins
    extractor = library("transformers").WhisperFeatureExtractor(feature_size=bands)
    # what stands before the first time or word says the language and the task
    signs = {settings.eos_token_id, settings.decoder_start_token_id}
    signs |= {*settings.lang_to_id.values(), *settings.task_to_id.values()}
    exact = {"benchmark": False, "deterministic": True, "allow_tf32": False}

    @torch.inference_mode()
    def listen(window: Float32[np.ndarray, " samples"]) -> list[int]:
        given = extractor(window, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.backends.cudnn.flags(**exact):
            ids = network.generate(
                given["input_features"].to(network.device),
                return_timestamps=True,
                task="transcribe",
                language=language,
                do_sample=False,
                num_beams=1,
            )[0].tolist()
        return [one for one in ids if one not in signs]

    return listen
