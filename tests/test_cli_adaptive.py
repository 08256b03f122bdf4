"""`mmf predict RUN VIDEO…` by a run with a policy: what is asked for, and no more."""

import csv
import json
import re
import shutil
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from mmf import MmfError, cli
from mmf.commands.adaptive import Adaptive
from mmf.extract.lanes import LaneProcess
from mmf.extract.sample_set import make_sample_set
from mmf.extract.stopping import Stop
from mmf.fuse import Ensemble

CLUES = {"clues": ["audio"], "modalities": ["rgb", "audio"], "layers": [8], "hidden": 8}
STAGES = {"segments": 3, "epochs": {"single": 1, "alternate": 1, "tune": 1}}


def mmf(*words: str) -> int:
    return cli.cli.main(list(words), standalone_mode=False) or 0


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A store of eight clips, and clips of other kinds: silent, unseen, broken and very short."""
    folder = tmp_path_factory.mktemp("adaptive")
    clips = make_sample_set(folder / "clips", clips=8, seed=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rows = ("--feature", "rgb=rgb:hog,fps=3", "--feature", "audio=audio:logmel,fps=2")
        assert mmf("extract", "clips", *rows) == 0
    odd = folder / "odd"
    odd.mkdir()
    shutil.copy(next(clips.glob("*/*.mp4")), odd / "whole.mp4")
    (odd / "broken.mp4").write_bytes(b"this is no video" * 100)
    with wave.open(str(odd / "unseen.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.zeros(24000, np.int16).tobytes())
    write_clip(odd / "silent.mp4", seconds=2, sound=False)
    write_clip(odd / "short.mp4", seconds=0.25, sound=True)
    return folder


def write_clip(path: Path, *, seconds: float, sound: bool) -> None:
    """Noise to see, and silence to hear where there is sound."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        seen = file.add_stream("mpeg4", rate=12, width=64, height=48, pix_fmt="yuv420p")
        heard = file.add_stream("aac", rate=16000, layout="mono") if sound else None
        for _ in range(int(12 * seconds)):
            picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            file.mux(seen.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(seen.encode())
        if heard is not None:
            samples = np.zeros((1, int(16000 * seconds)), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 16000
            file.mux(heard.encode(frame))
            file.mux(heard.encode())


@pytest.fixture
def there(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def train(name: str, **options) -> str:
    given = json.dumps({**CLUES, **STAGES, **options})
    words = [f"{key}={json.dumps(value)}" for key, value in json.loads(given).items()]
    run = f"runs/{name}"
    if not Path(run).exists():
        flags = [word for one in words for word in ("--fusion-option", one)]
        assert mmf("train", "--fusion", "policy", "--batch-size", "4", "--out", run, *flags) == 0
    return run


def predicted(*words: str) -> dict[tuple[str, str], tuple[str, float]]:
    assert mmf("predict", *words, "--out", "out.csv") == 0
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["item"], row["class"]): (row["reason"], float(row["score"] or "nan")) for row in rows
    }


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        a[0] == b[0] and (a[1] == pytest.approx(b[1], abs=1e-5, nan_ok=True))
        for a, b in ((one[key], other[key]) for key in one)
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("learned", {}),
        ("some", {"decisions": "random", "rate": {"rgb": 0.4, "audio": 0.8}}),
        ("none", {"decisions": "random", "rate": 0.0}),
        ("sound_first", {"always": ["audio"]}),
    ],
)
def test_predictions_are_those_of_everything(there, capsys, name, options):
    run = train(name, **options)
    capsys.readouterr()
    asked = predicted(run, "clips", "odd/whole.mp4", "odd/broken.mp4", "odd/unseen.wav")
    said = capsys.readouterr().err
    assert "'odd/broken.mp4' failed: not_media" in said
    rate = re.search(r"used: rgb in (\d+)%, audio in (\d+)% of the segments", said)
    rows = re.search(r"computed (\d+) of (\d+) rows of rgb", said)
    assert rate
    assert rows
    assert (int(rows[1]) == 0) == (int(rate[1]) == 0)
    every = predicted(
        *(run, "clips", "odd/whole.mp4", "odd/broken.mp4", "odd/unseen.wav", "--no-policy")
    )
    assert "used:" not in capsys.readouterr().err
    assert same(asked, every)
    assert len({item for item, _ in asked}) == 11


def test_predictions_are_those_of_the_store(there):
    run = train("learned")  # chance would follow the items' names, which differ
    stored = predicted(run, "--store", "features.mmf")
    asked = predicted(run, *{f"clips/{item}" for item, _ in stored})
    assert same(asked, {(f"clips/{item}", c): value for (item, c), value in stored.items()})


def test_what_is_asked_for_is_extracted_by_the_lanes_that_extracted_the_clues(there, monkeypatch):
    run = train("half", decisions="random", rate=0.5)
    started, start = [], LaneProcess.__init__

    def counted(self):
        started.append(self)
        start(self)

    monkeypatch.setattr(LaneProcess, "__init__", counted)
    monkeypatch.setattr("mmf.extract.job.VIDEOS_PER_LANE", 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    predicted(run, "clips")
    assert len(started) == 2


def test_a_clue_that_comes_whole_and_windows_compute_everything(there, capsys):
    run = train("seen", clues=["rgb", "audio"])
    capsys.readouterr()
    predicted(run, "odd/whole.mp4")
    assert "computed everything, which is needed to decide" in capsys.readouterr().err
    predicted(run, "odd/whole.mp4", "--window", "2")
    assert "used:" not in capsys.readouterr().err


def test_nothing_but_broken_videos_is_an_error(there):
    run = train("learned")
    with pytest.raises(MmfError, match="none of the videos could be used"):
        mmf("predict", run, "odd/broken.mp4")


ODD = ("odd/silent.mp4", "odd/short.mp4", "odd/unseen.wav", "odd/whole.mp4")


def test_a_policy_that_wants_nothing_decodes_no_picture_and_predicts(there, tmp_path, capsys):
    ensemble = Ensemble([train("none", decisions="random", rate=0.0)], device="cpu")
    adaptive = Adaptive(ensemble, ODD, tmp_path)
    parts = list(adaptive.scored())
    assert adaptive.first == ("audio",)
    assert (adaptive.before.frames, adaptive.asked) == (0, [])
    assert sum(one.frames for one in adaptive.counted.values()) > 0  # which were not decoded
    assert sum(len(part.items) for part in parts) == 4
    for part in parts:
        assert not part.decisions.used.any()
        np.testing.assert_array_equal(part.logits, 0)  # nobody has said a thing
    found = predicted("runs/none", *ODD)
    said = capsys.readouterr().err
    assert re.search(r"used: rgb in 0%, audio in 0% .*\n.*computed 0 of \d+ rows of rgb", said)
    assert {reason for reason, _ in found.values()} == {""}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("everything", {"decisions": "all"}),
        ("none", {"decisions": "random", "rate": 0.0}),
        ("learned", {}),
    ],
)
@pytest.mark.parametrize("video", ODD)
def test_a_video_alone_that_is_silent_unseen_or_of_one_segment_is_predicted(
    there, capsys, video, name, options
):
    run = train(name, **options)
    capsys.readouterr()
    asked = predicted(run, video)
    assert "used: " in capsys.readouterr().err
    assert {reason for reason, _ in asked.values()} == {""}
    assert same(asked, predicted(run, video, "--no-policy"))


def test_a_silent_video_uses_pictures_and_an_unseen_one_sound(there, capsys):
    run = train("everything", decisions="all")
    for video, shares in (("silent.mp4", ("100", "0")), ("unseen.wav", ("0", "100"))):
        capsys.readouterr()
        predicted(run, f"odd/{video}")
        said = capsys.readouterr().err
        assert f"used: rgb in {shares[0]}%, audio in {shares[1]}% of the segments" in said
    capsys.readouterr()
    predicted(run, "odd/short.mp4")
    assert "rgb in 100%, audio in 100%" in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--no-policy",)])
def test_a_prediction_that_is_told_to_stop_is_none_of_a_part(there, monkeypatch, more):
    run = train("learned")
    monkeypatch.setattr(Stop, "__init__", lambda self, signals=(): None)
    monkeypatch.setattr(Stop, "__enter__", lambda self: self)
    monkeypatch.setattr(Stop, "__exit__", lambda self, *_: None)
    monkeypatch.setattr(Stop, "requested", "SIGTERM", raising=False)
    with pytest.raises(MmfError, match="stopped by SIGTERM; nothing was predicted") as raised:
        mmf("predict", run, "clips", "--out", "stopped.csv", *more)
    assert raised.value.exit_code == 75
    assert not Path("stopped.csv").exists()
