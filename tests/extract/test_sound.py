"""Sound: the mean of the channels, at one rate, at its place on the file's time axis."""

from fractions import Fraction

import av
import numpy as np
import pytest

from mmf import MmfError
from mmf.extract.media.decoding import Done, Facts, Request, Row, decode
from mmf.extract.media.opening import Unusable
from mmf.extract.media.sound import SoundRows, mono
from mmf.extract.signals import Waves

RATE = 16000
SECOND = Waves(fps=1.0, sample_rate=RATE, samples=RATE)


def windows(path, signal: Waves = SECOND, facts: Facts | None = None) -> np.ndarray:
    """Every window of the file, (rows, samples)."""
    events = decode(str(path), [signal], Request(facts=facts or Facts()))
    return np.stack([event.payload for event in events if isinstance(event, Row)])


def frame(samples: np.ndarray, rate: int = RATE) -> av.AudioFrame:
    made = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
    made.sample_rate = rate
    return made


def laid_out(*pieces: tuple[float, np.ndarray], start: float = 0.0, end: float = 3.0) -> np.ndarray:
    """Pieces of sound (time, samples) on an axis from `start` to `end`."""
    rows = SoundRows(SECOND, start)
    made = [row for time, samples in pieces for row in rows.push(frame(samples), time, end)]
    made += list(rows.finish(end))
    assert [time for time, _ in made] == [start + row for row in range(len(made))]
    return np.concatenate([payload for _, payload in made])


ONES = np.ones(1024, np.float32)


def test_sound_lies_where_its_times_say():
    axis = laid_out((0.5, ONES), (0.564, ONES), (2.0, ONES))
    expected = np.zeros(3 * RATE)
    for at in (0.5, 0.564, 2.0):
        expected[round(at * RATE) : round(at * RATE) + 1024] = 1
    np.testing.assert_array_equal(axis, expected)


def test_overlaps_and_what_lies_before_the_start_are_cut():
    axis = laid_out((0.968, ONES), (1.0, 2 * ONES), (1.032, 3 * ONES), start=1.0, end=2.0)
    np.testing.assert_array_equal(axis[:512], 1)
    np.testing.assert_array_equal(axis[512:1024], 2)
    np.testing.assert_array_equal(axis[1024:1536], 3)
    assert not axis[1536:].any()


def test_times_rounded_to_milliseconds_leave_no_gaps():
    times = [round(i * 1024 / RATE, 3) + 0.001 * (i % 2) for i in range(40)]
    axis = laid_out(*((time, ONES) for time in times))
    assert axis[: 40 * 1024].all()


def test_a_gap_of_hours_is_not_held_in_memory():
    rows = SoundRows(SECOND, 0.0)
    held = 0
    for _ in rows.push(frame(ONES), 3600.0, 3601.0):
        held = max(held, len(rows.tracks[0]._held))
    assert held <= 2 * RATE


def test_a_window_may_be_longer_or_shorter_than_a_step(clip):
    path = clip("windows.wav", sound=3.0)
    whole = windows(path).ravel()
    long = windows(path, Waves(fps=2.0, sample_rate=RATE, samples=RATE))
    short = windows(path, Waves(fps=2.0, sample_rate=RATE, samples=100))
    padded = np.concatenate([whole, np.zeros(RATE)])
    assert len(long) == len(short) == 6
    for row in range(6):
        at = row * RATE // 2
        np.testing.assert_array_equal(long[row], padded[at : at + RATE])
        np.testing.assert_array_equal(short[row], padded[at : at + 100])


@pytest.mark.parametrize(("seconds", "rows"), [(0.4, 1), (1.0, 1), (2.0, 2), (2.5, 3)])
def test_the_tail_is_silence(clip, seconds, rows):
    made = windows(clip(f"tail{seconds}.wav", sound=seconds))
    assert made.shape == (rows, RATE)
    assert not made.ravel()[int(seconds * RATE) :].any()
    assert np.abs(made).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("form", ["u8", "s16", "s32", "flt", "dbl"])
def test_any_rate_and_format_gives_the_same_sine(tmp_path, rate, form):
    path = tmp_path / "sine.wav"
    time = np.arange(2 * rate) / rate
    wave = 0.5 * np.sin(2 * np.pi * 440 * time)
    codec = {
        "u8": "pcm_u8",
        "s16": "pcm_s16le",
        "s32": "pcm_s32le",
        "flt": "pcm_f32le",
        "dbl": "pcm_f64le",
    }
    scaled = {
        "u8": lambda: np.round(wave * 128 + 128).astype(np.uint8),
        "s16": lambda: (wave * 2**15).astype(np.int16),
        "s32": lambda: (wave * 2**31).astype(np.int32),
        "flt": lambda: wave.astype(np.float32),
        "dbl": lambda: wave,
    }[form]()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec[form], rate=rate, layout="mono")
        piece = av.AudioFrame.from_ndarray(scaled[None], format=form, layout="mono")
        piece.sample_rate, piece.pts, piece.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    made = windows(path).ravel()[200:-400]
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)[200:-400]
    np.testing.assert_allclose(made, expected, atol=0.012 if form == "u8" else 0.004)


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1", "hexadecagonal"])
@pytest.mark.parametrize("form", ["s16", "s16p", "flt", "fltp"])
def test_channels_are_averaged_in_any_layout(layout, form):
    count = av.AudioLayout(layout).nb_channels
    values = np.arange(count * 64).reshape(count, 64) / 2048 - 0.2
    stored = values if "flt" in form else np.round(values * 2**15)
    dtype = np.float32 if "flt" in form else np.int16
    array = stored.astype(dtype)
    packed = np.ascontiguousarray(array.T).reshape(1, -1)
    whole = av.AudioFrame.from_ndarray(packed, format=form.removesuffix("p"), layout=layout)
    whole.sample_rate = RATE
    (whole,) = av.AudioResampler(form).resample(whole)
    assert whole.format.name == form
    made = mono(whole)
    np.testing.assert_allclose(made, values.mean(axis=0), atol=1e-4)
    assert made.dtype == np.float32


def test_sound_that_is_not_finite_becomes_silence():
    broken = np.array([0.5, np.nan, np.inf, -np.inf], np.float32)
    assert mono(frame(broken)).tolist() == [0.5, 0, 0, 0]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("meta-pytorch+torchcodec/test/resources/sine_16ch_s16.wav", 1),
        ("lhotse-speech+lhotse/test/fixtures/big_buck_bunny_small.mp4", 6),  # 5.1
        ("tensorflow+io/tests/test_audio/mono_10khz.wav", 1),
        ("lhotse-speech+lhotse/test/fixtures/stereo.opus", 2),
        ("google-ai-edge+mediapipe/mediapipe/calculators/audio/testdata/"
         "sine_wave_1k_44100_stereo_2_sec_aac.audio", 3),
    ],
)  # fmt: skip
def test_real_sound_of_every_kind_comes_out(shared_data, name, rows):
    facts = Facts()
    made = windows(shared_data / "videos" / name, facts=facts)
    assert made.shape == (rows, RATE)
    assert 0.001 < np.abs(made).max() <= 1.5
    assert (facts.bad_packets, facts.frames) == (0, 0)


def test_a_real_sine_keeps_its_pitch(shared_data):
    folder = shared_data / "videos/google-ai-edge+mediapipe/mediapipe/calculators/audio/testdata"
    first = windows(folder / "sine_wave_1k_48000_stereo_2_sec_wav.audio")[0]
    assert np.abs(np.fft.rfft(first)).argmax() == 1000


def test_sound_of_which_nothing_decodes_is_undecodable(tmp_path, clip):
    source = clip("noise.mp4", sound=2.0)
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for packet in container.demux(audio=0):
            if packet.size:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    (tmp_path / "noise.mp4").write_bytes(data)
    facts = Facts()
    with pytest.raises(Unusable) as caught:
        windows(tmp_path / "noise.mp4", facts=facts)
    assert caught.value.reason == "undecodable"
    assert facts.bad_packets > 10


def test_a_limit_ends_the_rows_and_holds_no_more_sound():
    rows = SoundRows(Waves(fps=1.0, sample_rate=RATE, samples=RATE, limit=2), 0.0)
    second = np.ones(RATE, np.float32)
    made = [row for k in range(9) for row in rows.push(frame(second), float(k), 9.0)]
    made += rows.finish(9.0)
    assert [time for time, _ in made] == [0.0, 1.0]
    assert len(rows.tracks[0]._held) <= RATE


# ---- several tracks


@pytest.fixture(scope="session")
def tracks(tmp_path_factory):
    """A file whose audio streams (mono, 1, 2 and 3 s) hold 0.1 (eng), 0.2 (deu) and 0.6.

    FFmpeg's best is the second, so that the grid has two rows.
    """
    path = tmp_path_factory.mktemp("tracks") / "tracks.mkv"
    with av.open(str(path), "w") as container:
        streams = [
            container.add_stream("pcm_s16le", rate=rate, layout="mono")
            for rate in (RATE, 48000, RATE)
        ]
        for stream, language in zip(streams, ("eng", "deu"), strict=False):
            stream.metadata["language"] = language
        for tenth in range(30):
            for stream, level, ends in zip(streams, (0.1, 0.2, 0.6), (10, 20, 30), strict=True):
                if tenth < ends:
                    step = stream.rate // 10
                    wave = np.full((1, step), round(level * 32768), np.int16)
                    sound = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
                    sound.sample_rate, sound.pts = stream.rate, tenth * step
                    sound.time_base = Fraction(1, stream.rate)
                    container.mux(stream.encode(sound))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("track", ["eng", "-1", "lang=", "1.5", "ALL"])
def test_a_track_that_means_nothing_is_refused(track):
    with pytest.raises(MmfError, match="expected all, lang=LANGUAGE"):
        Waves(track=track)


@pytest.mark.parametrize("track", ["lang=fra", "3"])
def test_a_track_that_is_not_there_is_no_such_stream(tracks, track):
    *_, done = decode(str(tracks), [Waves(track=track), Waves()])
    assert isinstance(done, Done)
    assert done.missing == {0: "no_such_stream"}
    assert done.rows[0] == 0 < done.rows[1]


@pytest.mark.parametrize(
    ("track", "levels"),
    [
        ("", (0.2, 0.2)),
        ("0", (0.1, 0)),
        ("1", (0.2, 0.2)),
        ("2", (0.6, 0.6)),
        ("lang=eng", (0.1, 0)),
        ("lang=de", (0.2, 0.2)),
        ("all", (0.3, 0.8 / 3)),
    ],
)
def test_a_track_is_chosen_by_number_or_language_or_all_are_mixed(tracks, track, levels):
    made = windows(tracks, Waves(fps=1.0, sample_rate=RATE, samples=RATE, track=track))
    inside = made[:, 200:-200]  # the resampler rings where sound begins and ends
    np.testing.assert_allclose(inside.mean(axis=1), levels, atol=1e-3)
    assert inside.std(axis=1).max() < 1e-3


def test_two_tracks_of_one_file_are_two_signals_of_one_pass(tracks):
    one, other = Waves(fps=1.0, track="0"), Waves(fps=1.0, track="2")
    rows = [e for e in decode(str(tracks), [one, other]) if isinstance(e, Row)]
    assert {round(float(r.payload.mean()), 3) for r in rows if r.signal == 1} == {0.6}
    np.testing.assert_allclose(
        next(r for r in rows if r.signal == 0).payload.mean(), 0.1, atol=1e-3
    )


def test_a_track_that_falls_far_behind_is_silent_and_nothing_piles_up():
    rows = SoundRows(SECOND, 0.0, [4, 7])
    made = []
    for second in range(200):
        made += rows.push(frame(np.ones(RATE)), float(second), 200.0, stream=4)
        assert len(rows.tracks[4]._held) <= 62 * RATE
    assert len(made) == 140
    made += rows.push(frame(np.ones(RATE)), 100.0, 200.0, stream=7)  # too late
    made += rows.push(frame(np.ones(RATE)), 150.0, 200.0, stream=7)
    made += rows.finish(200.0)
    levels = [float(payload.mean()) for _, payload in made]
    assert levels == [1.0 if second == 150 else 0.5 for second in range(200)]
