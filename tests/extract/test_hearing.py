"""Files without captions are heard: on their own axis, a window at a time, and only those."""

import json
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmf import MmfError, UnknownName, cli
from mmf.extract import JobOptions, VideoEnded, extract, parse_feature, plan, request_from_spec
from mmf.extract.decoder.events import Ended, Event, Restarted, Sample
from mmf.extract.decoder.parent import Decoder
from mmf.extract.hearing import SAMPLE_RATE, WINDOW, Hearing, Listener
from mmf.extract.media.captions import Cue
from mmf.extract.recipe import build, spec
from mmf.extract.signals import Cues, Waves
from mmf.extract.tally import Counts
from mmf.extract.weights import needed_weights
from mmf.store import FeatureStore
from mmf.store.weights import WeightsMissing

HERE = JobOptions(workers=1)
SPOKEN = Cues(speech="whisper:tiny")
SRT = "1\n00:00:00,500 --> 00:00:01,000\nthe red cat\n"


class Ear:
    """Hears one phrase half a second into each window, and keeps the windows' lengths."""

    def __init__(self) -> None:
        self.windows: list[int] = []

    def hear(self, window, start):
        self.windows.append(len(window))
        cue = Cue(start=start + 0.5, end=start + 1.0, text=f"said {len(self.windows)}")
        return [cue], len(window)


def events_of(path: Path, signals: Sequence[Cues], **given: str) -> list[Event]:
    """The decoder's events; arrays are copied."""
    with Decoder(signals) as decoder:
        decoder.submit("clip", str(path), **given)
        return [
            Sample(**{**vars(e), "payload": e.payload.copy()})
            if isinstance(e, Sample) and isinstance(e.payload, np.ndarray)
            else e
            for e in decoder.events()
        ]


def listened(events: Sequence[Event], ear: Ear) -> tuple[list[tuple[float, object]], Ended]:
    listener = Listener({0: ear})
    *rows, end = (made for event in events for made in listener(event))
    assert isinstance(end, Ended)
    return [(row.time, row.payload) for row in rows if isinstance(row, Sample)], end


@pytest.fixture(scope="module")
def clips(clip, tmp_path_factory) -> Path:
    """Three files that are heard, one with captions, and one with neither captions nor sound."""
    folder = tmp_path_factory.mktemp("spoken")
    for name, sound in {"a": 3.0, "b": 1.5, "c": 2.0, "captioned": 2.0}.items():
        shutil.copy(clip(f"{name}-heard.mp4", frames=25, sound=sound), folder / f"{name}.mp4")
    shutil.copy(clip("mute.mp4", frames=25), folder / "mute.mp4")
    (folder / "captioned.en.srt").write_text(SRT)
    return folder


def request(whisper: Path, more: str = "speech=whisper:tiny,language=en"):
    return parse_feature(f"t=text:hashing,{more},speech_weights={whisper}")


@pytest.fixture(scope="module")
def whole(clips, small_whisper, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s.mmf"
    result = extract(clips, path, [request(small_whisper)], HERE)
    return FeatureStore(path), result


# bad input first


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("t=text:hashing,speech=wisper", "unknown speech 'wisper'.*Known: whisper:base"),
        ("t=text:bert,speech=whisper:tny", "Did you mean 'whisper:tiny'"),
        ("r=rgb:hog,speech=whisper:tiny", "option of text features: .*rgb rows have no use"),
        ("a=audio:logmel,speech=whisper:tiny", "option of text features"),
        ("t=text:hashing,speech_weights=w", "Name one as well: speech=whisper:tiny"),
    ],
)
def test_speech_that_cannot_be_meant_is_one_sentence(text, says):
    with pytest.raises((MmfError, UnknownName), match=says):
        parse_feature(text)


def test_missing_weights_are_said_before_anything_is_written_or_decoded(clips, offline):
    asked = parse_feature("t=text:hashing,speech=whisper:base")
    says = r"whisper:base.*hf://openai/whisper-base@main was looked for at .*speech_weights=FOLDER"
    with pytest.raises(WeightsMissing, match=says):
        extract(clips, offline / "s.mmf", [asked], HERE)
    assert not (offline / "s.mmf").exists()
    folder = str(offline / "gone")
    with pytest.raises(
        WeightsMissing, match="of 'whisper:tiny' are not at '.*gone'.*speech_weights="
    ):
        build(request(offline / "gone"))
    bert, whisper = needed_weights([parse_feature("t=text:bert,speech=whisper:base")])
    assert (bert.location, whisper.location) == (
        "hf://google-bert/bert-base-uncased@main",
        "hf://openai/whisper-base@main",
    )
    (named,) = needed_weights([request(Path(folder))])
    assert (named.backbone, named.location, named.state) == ("whisper:tiny", folder, "missing")


def test_a_network_that_cannot_do_it_is_refused(small_whisper, tmp_path):
    with pytest.raises(MmfError, match="does not know the language 'tlh'. Its languages: en"):
        build(request(small_whisper, "speech=whisper:tiny,language=tlh"))
    with pytest.raises(MmfError, match="a network that was never trained has no words"):
        build(request(Path("random:0")))
    shutil.copytree(small_whisper, tmp_path / "english")
    settings = json.loads((small_whisper / "generation_config.json").read_text())
    del settings["lang_to_id"]
    (tmp_path / "english" / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(MmfError, match="has no lang_to_id: expected that of a Whisper network"):
        build(request(tmp_path / "english"))


# what comes of the decoder


def test_sound_comes_whole_and_only_where_there_are_no_captions(clips):
    wave = Waves(fps=1.0, samples=SAMPLE_RATE)
    events = events_of(clips / "a.mp4", [SPOKEN, wave, Cues()])
    parts = [[e.payload for e in events if isinstance(e, Sample) and e.signal == n] for n in (0, 1)]
    assert len(parts[0]) >= 3
    np.testing.assert_array_equal(parts[0], parts[1])
    assert events[-1].missing == {2: "no_captions"}
    samples = [e for e in events_of(clips / "captioned.mp4", [SPOKEN]) if isinstance(e, Sample)]
    assert [(e.time, e.payload) for e in samples] == [(0.5, "the red cat")]  # no sound at all
    (ended,) = events_of(clips / "mute.mp4", [SPOKEN])
    assert ended.missing == {0: "no_captions"}


def test_captions_of_another_language_are_none(clips):
    shutil.copy(clips / "captioned.mp4", clips.parent / "tagged.mp4")
    (clips.parent / "tagged.de.srt").write_text(SRT)
    for language, kind in (("", str), ("de", str), ("en", np.ndarray)):
        asked = Cues(speech="whisper:tiny", language=language)
        first = events_of(clips.parent / "tagged.mp4", [asked])[0]
        assert isinstance(first.payload, kind)


def test_a_caption_file_without_a_cue_is_none(clips, tmp_path):
    (tmp_path / "empty.vtt").write_text("WEBVTT\n")
    given = {"captions": str(tmp_path / "empty.vtt")}
    rows, _ = listened(events_of(clips / "captioned.mp4", [SPOKEN], **given), Ear())
    assert rows == [(0.5, "said 1")]


def embedded(path: Path, texts: Sequence[str], languages: Sequence[str] = ("eng",)) -> Path:
    """Sound from 5 s on (a track per language, each at its own pitch) and a stream of captions."""
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") for _ in languages]
        for track, language in zip(tracks, languages, strict=True):
            track.metadata["language"] = language
        captions = container.add_stream("subrip")
        captions.codec_context.subtitle_header = b"[Script Info]\n\n[Events]\n"
        for pitch, track in enumerate(tracks, 1):
            for at in range(5 * SAMPLE_RATE, 8 * SAMPLE_RATE, 1024):
                wave = np.sin(np.arange(at, at + 1024) * 0.2 * pitch).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
                frame.sample_rate, frame.pts = SAMPLE_RATE, at
                frame.time_base = Fraction(1, SAMPLE_RATE)
                container.mux(track.encode(frame))
            container.mux(track.encode(None))
        for second, text in enumerate(texts):
            packet = av.Packet(text.encode())
            packet.stream, packet.time_base = captions, Fraction(1, 1000)
            packet.pts = packet.dts = 6000 + 1000 * second
            packet.duration = 500
            container.mux(packet)
    return path


def test_an_embedded_stream_without_a_word_is_none_and_times_are_the_files_own(tmp_path):
    rows, ended = listened(events_of(embedded(tmp_path / "a.mkv", ["one"]), [SPOKEN]), Ear())
    assert (rows, ended.transcribed) == ([(6.0, "one")], frozenset())
    ear = Ear()
    rows, ended = listened(events_of(embedded(tmp_path / "b.mkv", ["<i></i>"]), [SPOKEN]), ear)
    assert rows == [(pytest.approx(5.5, abs=0.1), "said 1")]
    assert (ended.rows, ended.transcribed) == ((1,), {0})
    # what is heard ends with the file, not with the second
    assert ear.windows == [pytest.approx(ended.media.duration * SAMPLE_RATE, abs=1)]
    assert ended.media.duration == pytest.approx(3.0, abs=0.15)


def test_the_track_of_the_language_is_heard(tmp_path):
    path = embedded(tmp_path / "two.mkv", [], ("eng", "ger"))
    loudest = {}
    for language in ("", "en", "de", "fr"):
        asked = Cues(speech="whisper:tiny", language=language)
        wave = events_of(path, [asked])[1].payload
        loudest[language] = np.abs(np.fft.rfft(wave)).argmax()  # Hz
    assert loudest["en"] == loudest[""] == loudest["fr"] == pytest.approx(509, abs=3)
    assert loudest["de"] == pytest.approx(2 * 509, abs=3)


# what is heard


def test_parts_are_heard_as_the_whole_and_no_more_than_a_window_is_held():
    wave = np.random.default_rng(0).normal(0, 0.1, 75 * SAMPLE_RATE + 123).astype(np.float32)
    whole, parts = Ear(), Ear()
    at_once = Hearing(whole, 2.0)
    expected = [*at_once.push(wave), *at_once.finish()]
    hearing, found = Hearing(parts, 2.0), []
    for at in range(0, len(wave), SAMPLE_RATE):
        part = wave[at : at + SAMPLE_RATE].copy()
        found += hearing.push(part)
        part[:] = np.nan  # the decoder's memory is another's after the next event
    assert [*found, *hearing.finish()] == expected
    assert [cue.start for cue in expected] == [2.5, 32.5, 62.5]
    assert parts.windows == whole.windows == [WINDOW, WINDOW, 15 * SAMPLE_RATE + 123]


def test_a_file_that_is_begun_anew_is_heard_anew(clips):
    *events, ended = events_of(clips / "a.mp4", [SPOKEN])
    ear = Ear()
    rows, _ = listened([*events, Restarted(key="clip"), *events, ended], ear)
    assert rows == [(0.5, "said 1")]
    assert len(ear.windows) == 1


def test_a_file_in_which_nothing_is_said_has_no_rows_and_says_so(clip, small_whisper, tmp_path):
    (tmp_path / "in").mkdir()
    with av.open(str(tmp_path / "in" / "hush.wav"), "w") as container:
        track = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 2 * SAMPLE_RATE), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), 0
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    result = extract(tmp_path / "in", tmp_path / "s.mmf", [request(small_whisper)], HERE)
    assert result.counts["t"] == Counts(skipped=1)
    with pytest.raises(MmfError, match="skipped: no_speech"):
        FeatureStore(tmp_path / "s.mmf").read("t", "hush.wav")


# recipe


def test_another_network_or_setting_is_another_recipe(small_whisper, tmp_path):
    asked = request(small_whisper)
    made = spec(asked, build(asked))
    assert made.recipe["signal"]["speech"] == "whisper:tiny"
    assert set(made.recipe["details"]["speech"]) == {"weights", "settings", "tokenizer"}
    assert all(v.startswith("sha256:") for v in made.recipe["details"]["speech"].values())
    assert made.environment["speech_path"] == str(small_whisper)
    plain = parse_feature("t=text:hashing,language=en")
    assert "details" not in spec(plain, build(plain)).recipe
    again = request_from_spec(made)
    assert spec(again, build(again)).fingerprint == made.fingerprint
    for file, old, new in (
        ("generation_config.json", '"max_length": 24', '"max_length": 25'),
        ("config.json", '"dropout": 0.0', '"dropout": 0.1'),
    ):
        other = tmp_path / file
        shutil.copytree(small_whisper, other)
        text = (other / file).read_text()
        assert old in text
        (other / file).write_text(text.replace(old, new))
        changed = request(other)
        assert spec(changed, build(changed)).fingerprint != made.fingerprint
    moved = type(made)(**{**vars(made), "environment": {"speech_path": str(other)}})
    with pytest.raises(MmfError, match="are not those that feature 't' was made with"):
        request_from_spec(moved)


# a job


def test_what_is_heard_is_stored_with_its_times_and_told_from_captions(clips, whole):
    store, result = whole
    assert result.counts["t"] == Counts(done=4, skipped=1)
    said = parse_feature("t=text:hashing,language=en")
    alone = FeatureStore.create(store.path.parent / "alone.mmf")
    assert extract(clips, alone, [said], HERE).counts["t"] == Counts(done=1, skipped=4)
    captioned = store.read("t", "captioned.mp4")
    assert captioned.times.tolist() == [0.5]
    np.testing.assert_array_equal(captioned.values, alone.read("t", "captioned.mp4").values)
    for name, length in {"a.mp4": 3.0, "b.mp4": 1.5, "c.mp4": 2.0}.items():
        times = store.read("t", name).times
        assert len(times)
        assert all(0 <= time <= length + 0.1 for time in times)
    reasons = {r["video_id"]: r["reason"] for r in store.stored("t").outcomes.to_pylist()}
    assert reasons == {
        **dict.fromkeys(["a.mp4", "b.mp4", "c.mp4"], "transcribed"),
        "captioned.mp4": None,
        "mute.mp4": "no_captions",
    }
    assert (
        result.spent.forward["t"].rows == sum(len(store.read("t", f"{n}.mp4")) for n in "abc") + 1
    )


def test_two_features_share_what_is_heard(clips, small_whisper, whole, tmp_path):
    one, two = (
        request(small_whisper),
        parse_feature(
            f"u=text:hashing,speech=whisper:tiny,language=en,speech_weights={small_whisper},dtype=float32"
        ),
    )
    extract(clips, tmp_path / "s.mmf", [one, two], HERE)
    store = FeatureStore(tmp_path / "s.mmf")
    for name in ("a.mp4", "captioned.mp4"):
        t, u = store.read("t", name), store.read("u", name)
        assert t.times.tolist() == u.times.tolist() == whole[0].read("t", name).times.tolist()
        np.testing.assert_allclose(t.values, u.values, atol=1e-3)


def test_two_networks_hear_a_file_each_for_itself(clips, small_whisper, tmp_path):
    shutil.copytree(small_whisper, tmp_path / "short")
    settings = tmp_path / "short" / "generation_config.json"
    settings.write_text(settings.read_text().replace('"max_length": 24', '"max_length": 8'))
    text = "u=text:hashing,speech=whisper:tiny,language=en,speech_weights="
    other = parse_feature(f"{text}{tmp_path / 'short'}")
    extract(clips, tmp_path / "s.mmf", [request(small_whisper), other], HERE)
    extract(clips, tmp_path / "u.mmf", [other], HERE)
    both, alone = FeatureStore(tmp_path / "s.mmf"), FeatureStore(tmp_path / "u.mmf")
    assert len(both.read("u", "a.mp4")) < len(both.read("t", "a.mp4"))
    np.testing.assert_array_equal(both.read("u", "a.mp4").values, alone.read("u", "a.mp4").values)


class Killed(BaseException):
    """What nobody catches."""


def test_a_killed_job_goes_on_to_the_same_store(clips, small_whisper, whole, tmp_path):
    store, asked, ended = tmp_path / "s.mmf", [request(small_whisper)], []

    def killed(event) -> None:
        if isinstance(event, VideoEnded):
            ended.append(event)
        if len(ended) == 2:
            raise Killed

    first = extract(clips, store, asked, JobOptions(workers=1, shard=(0, 2)))
    with pytest.raises(Killed):
        extract(clips, store, asked, HERE, killed)
    left = extract(clips, store, asked, HERE)
    assert 0 < first.tried == 5 - left.tried
    assert FeatureStore(store).content_hash() == whole[0].content_hash()


def test_the_plan_says_what_will_be_heard(clips, small_whisper, tmp_path, capsys):
    (planned,) = plan(clips, tmp_path / "s.mmf", [request(small_whisper)]).features
    assert (planned.videos, planned.rows, planned.heard) == (4, 1, 3)
    text = f"t=text:hashing,speech=whisper:tiny,language=en,speech_weights={small_whisper}"
    cli.cli.main(
        ["extract", str(clips), "--feature", text, "--dry-run", "--sample", "5"],
        standalone_mode=False,
    )
    said = capsys.readouterr().out
    assert "from 4 videos, and what is heard in 3 of them" in said
    assert "measured on 5 videos" in said


def test_the_status_tells_what_was_heard(whole, capsys):
    cli.cli.main(["status", str(whole[0].path)], standalone_mode=False)
    assert "t: 1 no_captions, 3 transcribed" in capsys.readouterr().out
