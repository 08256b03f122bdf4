"""What a job would do and take, before it begins; and what it spent, afterwards."""

import shutil
from pathlib import Path

import pytest

from mmf import MmfError, cli
from mmf.extract import FeatureRequest, JobOptions, extract, measure, plan
from mmf.extract.decoder.events import Ended
from mmf.extract.decoder.parent import Decoder
from mmf.extract.planning import PlannedFeature
from mmf.extract.signals import Clips, Cues, FramePairs, Frames, Waves
from mmf.extract.spent import Forward, Spent
from mmf.store import FeatureSpec, FeatureStore

RGB = FeatureRequest(name="rgb", modality="rgb", backbone="hog")
AUDIO = FeatureRequest(name="audio", modality="audio", backbone="logmel", dtype="float32")
TEXT = FeatureRequest(name="text", modality="text", backbone="hashing")
HERE = JobOptions(workers=1)
SIGNALS = [
    Frames(),
    Frames(fps=3.0, limit=5),
    FramePairs(segments=3),
    Clips(views=2, crops=3, frames=2),
    Clips(fps=0.5, frames=4),
    Frames(sample="keyframes"),
    Waves(fps=2.0),
    Cues(),
]


@pytest.fixture(scope="module")
def store(clips, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("store") / "s.mmf"
    extract(clips, path, [RGB, AUDIO, TEXT], HERE)
    return path


def ended(paths: list[Path], *, planned: bool) -> dict[str, Ended]:
    with Decoder(SIGNALS, plan=planned) as decoder:
        for path in paths:
            decoder.submit(path.name, str(path))
        return {e.key: e for e in decoder.events() if isinstance(e, Ended)}


def run(capsys, *arguments: str) -> str:
    cli.cli.main(["extract", *arguments], standalone_mode=False)
    return capsys.readouterr().out


# bad input first


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sample", "20"], "Add --dry-run"),
        (["--sample", "some"], "'some': expected grid, keyframes or a number"),
        (["--sample", "0", "--dry-run"], "'0': expected"),
        (["--sample", "2", "--sample", "3", "--dry-run"], "one name and one number at most"),
    ],
)
def test_a_sample_that_cannot_be_meant_is_refused(clips, options, words):
    with pytest.raises(MmfError, match=words):
        cli.cli.main(["extract", str(clips), *options], standalone_mode=False)


def test_nothing_is_reckoned_from_videos_that_cannot_be_used(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"this is no video" * 100)
    planned = plan(tmp_path, tmp_path / "s.mmf", [RGB])
    with pytest.raises(MmfError, match="none of the 1 videos"):
        measure(planned, tmp_path, [RGB], HERE, videos=5)


def test_a_plan_refuses_what_the_job_would(clips, store):
    faster = FeatureRequest(name="rgb", modality="rgb", backbone="hog", fps=2.0)
    with pytest.raises(MmfError, match=r"made otherwise: rate 1\.0 there, 2\.0 here"):
        plan(clips, store, [faster])
    assert plan(clips, store, [faster], JobOptions(replace=True)).todo == 9
    assert plan(clips, store, [RGB], JobOptions(replace=True)).todo == 0


# the plan


def test_what_is_planned_is_what_is_done(clips, store, tmp_path):
    planned = plan(clips, tmp_path / "none.mmf", [RGB, AUDIO, TEXT])
    assert (planned.inputs, planned.todo) == (9, 9)
    assert planned.streams == {"pictures": 8, "sound": 8, "captions": 8}
    assert planned.unusable == {"not_media": 1}
    assert planned.media_seconds == pytest.approx(8 * 4, abs=0.5)
    assert planned.frames == 8 * 48
    made = FeatureStore(store)
    for feature in planned.features:
        done = [v for v, s in made.state(feature.spec.name).items() if s == "done"]
        rows = sum(len(made.read(feature.spec.name, v)) for v in done)
        assert (feature.videos, feature.rows) == (8, rows)
        assert feature.bytes == rows * made.features[feature.spec.name].row_bytes
    assert not (tmp_path / "none.mmf").exists()


def test_only_what_is_lacking_is_planned(clips, store):
    faster = FeatureRequest(name="faster", modality="rgb", backbone="hog", fps=2.0)
    planned = plan(clips, store, [RGB, faster])
    assert planned.todo == 9
    assert {f.spec.name: f.rows for f in planned.features} == {"rgb": 0, "faster": 64}
    assert plan(clips, store, [RGB]).todo == 0
    again = plan(clips, store, [RGB], JobOptions(retry_failed=True))
    assert (again.todo, again.unusable) == (1, {"not_media": 1})


def test_headers_foresee_the_rows_of_real_files(shared_data):
    folder = shared_data / "videos"
    names = (
        *("nasa_13013.mp4", "fire2.mp4", "no_duration.webm", "test_non_zero_start.mp4"),
        *("book.mkv", "testsrc2_mpeg4.avi", "sine_stereo_mp2.mpg", "format_FLV_H264_AAC.video"),
        *("gs-16b-2c-44100hz.mp4", "stereo.opus", "animated.gif", "testsrc2_vp9.webm"),
    )
    paths = [next(folder.rglob(name)) for name in names]
    foreseen, decoded = ended(paths, planned=True), ended(paths, planned=False)
    assert set(foreseen) == set(decoded) == set(names)
    for name, event in decoded.items():
        assert foreseen[name].rows[:-1] == event.rows[:-1], name
        assert foreseen[name].rows[-1] >= event.rows[-1], name  # an embedded cue may be empty
        assert foreseen[name].missing == event.missing, name
        assert foreseen[name].media.frames == event.media.frames, name


def test_planning_decodes_nothing(clip):
    path = clip("planned.mp4", frames=50, sound=2.0)
    damaged = path.with_name("damaged.mp4")
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    data[begin + 200 : begin + 2000] = bytes(1800)
    damaged.write_bytes(data)
    assert ended([damaged], planned=True)["damaged.mp4"].rows[0] == 2


def test_bytes_are_rows_of_the_stored_type():
    spec = FeatureSpec(name="a", modality="a", shape=(7, 7, 512), dtype="float16")
    assert PlannedFeature(spec=spec, rows=10).bytes == 10 * 7 * 7 * 512 * 2


# what it takes


def test_a_measure_reckons_with_the_whole_and_leaves_nothing_behind(clips, tmp_path):
    planned = plan(clips, tmp_path / "s.mmf", [RGB, AUDIO])
    found = measure(planned, clips, [RGB, AUDIO], HERE, videos=3)
    assert found.measured == 3
    assert found.decoder_cpu_seconds > 0
    assert found.forward_cpu_seconds > 0
    assert found.gpu_seconds == 0
    assert found.bytes == 32 * 505 * 2 + 32 * 128 * 4
    assert found.limit in ("decoding", "the forward pass")
    assert not (tmp_path / "s.mmf").exists()


@pytest.mark.parametrize(("measured", "whole", "times"), [(1, 6, 2), (4, 4, 1), (9, 1200, 100)])
def test_a_pass_costs_the_same_however_few_its_rows(measured, whole, times):
    spec = FeatureSpec(name="a", modality="a", shape=(1,), dtype="float16", recipe={"batch": 4})
    assert PlannedFeature(spec=spec, rows=whole).times(measured, longer=7.0) == times
    heard = PlannedFeature(spec=spec, rows=whole, heard=1)
    assert heard.times(measured, longer=7.0) == 7.0


def test_the_dry_run_says_streams_rows_bytes_and_hours(clips, capsys, tmp_path):
    store = str(tmp_path / "s.mmf")
    options = ("--modality", "rgb", "--sample", "keyframes", "--dry-run")
    said = run(capsys, str(clips), "--store", store, *options, "--sample", "3")
    assert "9 videos; 9 have something to do: by their headers " in said
    assert "streams: pictures in 8, sound in 8, captions in 8\n" in said
    assert "cannot be opened: 1 not_media\n" in said
    assert "rgb: 8 rows of 505 float16 = 7.9 KiB from 8 videos\n" in said
    assert "measured on 3 videos, 3 rows: " in said
    assert "CPU-hours (decoding" in said
    assert "GPU-hours" in said
    assert "TB; " in said
    assert said.endswith("Nothing was done.\n")
    assert not Path(store).exists()


# what it took


def test_the_last_line_says_which_side_waited(clips, capsys, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(next(clips.glob("*/*.mp4")), tmp_path / "one/a.mp4")
    said = run(capsys, str(tmp_path / "one"), "--store", str(tmp_path / "s"), "--modality", "rgb")
    last = said.splitlines()[-1]
    assert last.startswith("decode ")
    assert " frames/s, forward " in last
    assert " rows/s in 1 lane: " in last
    assert last.endswith((" decoding limits", " the forward pass limits"))
    heard = run(
        capsys, str(tmp_path / "one"), "--store", str(tmp_path / "a"), "--modality", "audio"
    )
    assert " s of media/s, forward " in heard.splitlines()[-1]
    again = run(capsys, str(tmp_path / "one"), "--store", str(tmp_path / "s"), "--modality", "rgb")
    assert "decode " not in again
    (tmp_path / "one/broken.mp4").write_bytes(b"this is no video" * 100)
    cannot = run(capsys, str(tmp_path / "one"), "--store", str(tmp_path / "s"), "--modality", "rgb")
    assert "1 videos tried" in cannot
    assert "decode " not in cannot


@pytest.mark.parametrize("workers", [1, 2])
def test_lanes_tell_what_they_spent(clips, tmp_path, workers):
    spent = extract(clips, tmp_path / "s", [RGB, AUDIO], JobOptions(workers=workers)).spent
    assert spent.lanes == workers
    assert {name: one.rows for name, one in spent.forward.items()} == {"rgb": 32, "audio": 32}
    assert 0 < spent.waited + spent.forward_all.seconds <= spent.seconds
    assert spent.decoder_cpu_seconds > 0
    assert all(one.cpu_seconds > 0 for one in spent.forward.values())


def test_the_side_that_limits_is_the_one_that_was_waited_for():
    busy = Spent(lanes=1, seconds=10, waited=1, forward={"a": Forward(rows=5, seconds=8)})
    idle = Spent(lanes=1, seconds=10, waited=8, forward={"b": Forward(rows=5, seconds=1)})
    assert (busy.limit, idle.limit, Spent().limit) == ("the forward pass", "decoding", "")
    both = busy + idle
    assert (both.lanes, both.seconds, both.waited) == (2, 20, 9)
    assert both.forward_all == Forward(rows=10, seconds=9)
    assert both.forward == {**busy.forward, **idle.forward}
