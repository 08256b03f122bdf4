"""Speech becomes captions: phrases between the times that the network writes, none cut in two."""

import numpy as np
import pytest

from mmf import MmfError
from mmf.extract.media.captions import Cue
from mmf.extract.speech import Transcriber, transcriber
from mmf.store.weights import WeightsMissing

T0 = 1000  # the id of the timestamp 0.00
WORDS = {1: " hello", 2: " there", 3: " again"}


def at(seconds: float) -> int:
    return T0 + round(seconds / 0.02)


def heard(*windows: list[int]) -> tuple[Transcriber, list[int]]:
    """A transcriber that hears these windows, and the lengths of those it was given."""
    given: list[int] = []
    answers = iter(windows)

    def listen(window):
        given.append(len(window))
        return next(answers)

    spell = "".join
    return Transcriber(
        listen=listen, spell=lambda ids: spell(WORDS[i] for i in ids), first_time=T0
    ), given


def sound(seconds: float) -> np.ndarray:
    return np.full(round(16000 * seconds), 0.1, np.float32)


@pytest.mark.parametrize("name", ["wisper", "whisper:huge", "vosk:base"])
def test_unknown_names_say_what_exists(name):
    with pytest.raises(MmfError, match=r"unknown speech .*Known: whisper:base, .*whisper:tiny"):
        transcriber(name)


def test_weights_that_are_not_here_name_the_place(offline):
    with pytest.raises(
        WeightsMissing,
        match=r"whisper-tiny@main was looked for at .*speech=whisper:tiny --fetch.*speech_weights=",
    ):
        transcriber("whisper:tiny")
    (offline / "model.safetensors").write_bytes(b"")
    with pytest.raises(MmfError, match="is not the folder of a Whisper network"):
        transcriber("whisper:tiny", weights=str(offline))


def test_phrases_have_the_times_that_surround_them():
    whisper, _ = heard([at(0.5), 1, 2, at(1.2), at(3), 3, at(4.5)])
    assert whisper(sound(10), start=100.0) == [
        Cue(start=100.5, end=101.2, text="hello there"),
        Cue(start=103.0, end=104.5, text="again"),
    ]


def test_a_phrase_that_the_window_cuts_is_heard_whole_in_the_next():
    whisper, given = heard(
        [at(1), 1, at(2), at(2), 2, at(28), at(28)],
        [at(0), 2, 3, at(3)],
    )
    cues = whisper(sound(40))
    assert given == [30 * 16000, 12 * 16000]
    assert [(round(c.start, 2), round(c.end, 2), c.text) for c in cues] == [
        (1, 2, "hello"),
        (2, 28, "there"),
        (28, 31, "there again"),
    ]


@pytest.mark.parametrize("ids", [[], [at(0)], [at(0), at(0)], [1, 2], [at(30), at(30)]])
def test_whatever_the_network_writes_the_wave_comes_to_its_end(ids):
    whisper, given = heard(*[ids] * 4)
    cues = whisper(sound(95))
    assert given == [30 * 16000] * 3 + [5 * 16000]
    assert all(0 <= cue.start <= cue.end <= 95 for cue in cues)


def test_words_without_a_time_behind_them_last_to_the_end_and_moments_of_sound_are_left():
    whisper, _ = heard([at(1), 1])
    assert whisper(sound(4)) == [Cue(start=1.0, end=4.0, text="hello")]
    whisper, given = heard()
    assert whisper(sound(0.05)) == []
    assert given == []


def test_a_network_in_a_folder_transcribes(small_whisper):
    whisper = transcriber("whisper:tiny", weights=str(small_whisper), language="en")
    cues = whisper(np.random.default_rng(0).normal(0, 0.1, 16000 * 33).astype(np.float32))
    assert cues
    assert all(0 <= cue.start <= cue.end <= 33 and cue.text for cue in cues)
    assert not any("<|" in cue.text for cue in cues)
