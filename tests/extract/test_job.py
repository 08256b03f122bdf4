"""A job over real files: what it does, what it leaves alone, and what a kill costs."""

import doctest
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mmf import MmfError
from mmf.extract import FeatureRequest, JobOptions, JobStarted, VideoEnded, extract, plan, tally
from mmf.extract.tally import Counts, JobResult
from mmf.store import FeatureStore, RecipeMismatch
from mmf.store.delete import delete
from mmf.store.repair import repair
from mmf.store.verify import verify

RGB = FeatureRequest(name="rgb", modality="rgb", backbone="hog")
AUDIO = FeatureRequest(name="audio", modality="audio", backbone="logmel")
TEXT = FeatureRequest(name="text", modality="text", backbone="hashing")
FLOW = FeatureRequest(name="flow", modality="flow", backbone="hof")
HERE = JobOptions(workers=1)


def run_examples(of: object, names: dict) -> tuple[int, int]:
    """Failed and tried examples of a docstring."""
    runner = doctest.DocTestRunner()
    for one in doctest.DocTestFinder().find(of, "example", globs=names):
        runner.run(one)
    return runner.failures, runner.tries


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory) -> tuple[FeatureStore, JobResult, list]:
    """The store of an undisturbed job in one lane."""
    path = tmp_path_factory.mktemp("whole") / "s.mmf"
    events: list = []
    result = extract(clips, path, [RGB, AUDIO, TEXT, FLOW], HERE, events.append)
    return FeatureStore(path), result, events


# bad input first


def test_nothing_asked_for_and_a_name_asked_for_twice_are_refused(clips, tmp_path):
    with pytest.raises(MmfError, match="no feature is asked for"):
        extract(clips, tmp_path / "s.mmf", [])
    with pytest.raises(MmfError, match="two features are called 'rgb'"):
        extract(clips, tmp_path / "s.mmf", [RGB, RGB])
    assert not (tmp_path / "s.mmf").exists()


def test_a_source_that_is_not_there_makes_no_store(tmp_path):
    with pytest.raises(MmfError, match="no such file or folder"):
        extract(tmp_path / "gone", tmp_path / "s.mmf", [RGB])
    assert not (tmp_path / "s.mmf").exists()


def test_what_cannot_be_computed_makes_no_store(clips, tmp_path, monkeypatch):
    deep = FeatureRequest(
        name="rgb", modality="rgb", backbone="resnet18", weights=str(tmp_path / "gone.pth")
    )
    with pytest.raises(MmfError, match=r"gone\.pth"):
        extract(clips, tmp_path / "s.mmf", [deep], JobOptions(workers=1, device="cpu"))
    with pytest.raises(MmfError, match="'gpu': expected auto, cpu or cuda"):
        extract(clips, tmp_path / "s.mmf", [deep], JobOptions(device="gpu"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MmfError, match="torch sees no GPU here"):
        extract(clips, tmp_path / "s.mmf", [deep], JobOptions(device="cuda"))
    assert not (tmp_path / "s.mmf").exists()


@pytest.mark.parametrize("options", [{"workers": 0}, {"shard": (2, 2)}, {"shard": (-1, 2)}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(MmfError, match="expected"):
        JobOptions(**options)


def test_another_recipe_under_the_same_name_is_refused_and_named(whole, clips):
    store, _, _ = whole
    faster = FeatureRequest(name="rgb", modality="rgb", backbone="hog", fps=2)
    with pytest.raises(RecipeMismatch, match=r"rate 1.0 there, 2.0 here"):
        extract(clips, store.path, [faster], HERE)


# what a job does


def test_every_input_ends_done_skipped_or_failed(whole):
    store, result, events = whole
    assert result.inputs == 9
    assert (result.tried, result.failed) == (9, 1)
    for name in ("rgb", "audio", "flow"):
        assert result.counts[name] == Counts(done=8, failed=1)
    text = result.counts["text"]
    assert (text.done + text.skipped, text.failed, text.missing) == (8, 1, 0)
    assert result.exit_code == 3  # one of nine is above 5 %
    assert isinstance(events[0], JobStarted)
    assert {e.video_id for e in events[1:]} == set(store.state("rgb"))
    assert all(isinstance(e, VideoEnded) for e in events[1:])
    assert result.frames == sum(e.media.frames for e in events[1:]) == 8 * 48
    assert [f["reason"] for f in store.failures().to_pylist()] == ["not_media"] * 4


def test_the_example_of_extract_is_true(clips, tmp_path, monkeypatch):
    for home in clips.glob("*-*"):
        shutil.copytree(home, tmp_path / "clips" / home.name)
    monkeypatch.chdir(tmp_path)
    names = {"extract": extract, "FeatureRequest": FeatureRequest}
    assert run_examples(extract, names) == (0, 2)


def test_rows_of_all_modalities_lie_on_one_grid(whole):
    store, _, _ = whole
    for video_id, status in store.state("rgb").items():
        if status == "done":
            rgb, audio = store.read("rgb", video_id), store.read("audio", video_id)
            assert len(rgb) == len(audio) == len(store.read("flow", video_id)) == 4
            np.testing.assert_allclose(rgb.times, audio.times, atol=0.05)


def test_a_second_run_does_nothing_and_a_new_feature_does_only_itself(whole, clips):
    store, _, _ = whole
    before = store.content_hash()
    again = extract(clips, store.path, [RGB, AUDIO], HERE)
    assert (again.todo, again.tried, again.exit_code) == (0, 0, 0)
    store.refresh()
    assert store.content_hash() == before
    slow = FeatureRequest(name="slow", modality="rgb", backbone="hog", fps=0.5)
    more = extract(clips, store.path, [RGB, slow], HERE)
    assert more.todo == 9
    assert more.counts["slow"] == Counts(done=8, failed=1)


def test_a_deleted_video_is_no_input_any_more(clips, tmp_path):
    store = tmp_path / "s.mmf"
    first = extract(clips, store, [RGB], HERE)
    gone = FeatureStore(store).all_items()[0].video_id
    delete(store, [gone], purge=True)
    again = extract(clips, store, [RGB], JobOptions(workers=1, retry_failed=True))
    assert again.inputs == first.inputs - 1
    assert again.counts["rgb"].done == first.counts["rgb"].done - 1
    assert gone not in FeatureStore(store).state("rgb")


def test_what_repair_lost_is_extracted_again(clips, tmp_path):
    store = tmp_path / "s.mmf"
    extract(clips, store, [RGB, AUDIO], HERE)
    before = FeatureStore(store).content_hash()
    (shard,) = (store / "features.zarr" / "rgb").glob("c.*")
    shard.unlink()
    (done,) = repair(store)
    result = extract(clips, store, [RGB, AUDIO], HERE)
    assert result.todo == len(done.lost) == 8
    assert FeatureStore(store).content_hash() == before
    assert verify(store) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_store_stops_the_job_and_blames_no_video(workers, clips, tmp_path):
    store = tmp_path / "s.mmf"
    extract(clips, store, [RGB], JobOptions(workers=1, shard=(0, 2)))
    before = FeatureStore(store).state("rgb")
    (store / "tmp").rmdir()
    (store / "tmp").symlink_to("/proc")  # a folder that takes no files
    with pytest.raises(OSError, match=r"\[Errno \d+\].*'.*tmp/.*part'"):
        extract(clips, store, [RGB], JobOptions(workers=workers))
    (store / "tmp").unlink()
    (store / "tmp").mkdir()
    assert FeatureStore(store).state("rgb") == before
    result = extract(clips, store, [RGB], HERE)
    assert result.counts["rgb"] == Counts(done=8, failed=1)
    assert verify(store) == []


def test_failed_videos_are_tried_again_only_when_asked(clips, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    good = next(clips.glob("*/*.mp4"))
    (folder / "a.mp4").write_bytes(b"")
    shutil.copy(clips / "broken.mp4", folder / "b.mp4")
    extract(folder, tmp_path / "s.mmf", [RGB], HERE)
    shutil.copy(good, folder / "a.mp4")
    assert extract(folder, tmp_path / "s.mmf", [RGB], HERE).tried == 0
    retried = extract(folder, tmp_path / "s.mmf", [RGB], JobOptions(workers=1, retry_failed=True))
    assert (retried.tried, retried.failed) == (2, 1)
    assert retried.counts["rgb"] == Counts(done=1, failed=1)
    failures = FeatureStore(tmp_path / "s.mmf").failures().to_pylist()
    assert [(f["video_id"], f["attempts"]) for f in failures] == [("b.mp4", 2)]


def test_replace_begins_another_recipe_anew_and_keeps_the_same_one(clips, tmp_path):
    replace = JobOptions(workers=1, replace=True)
    one = next(clips.glob("*/*.mp4"))
    extract(one, tmp_path / "s.mmf", [RGB], HERE)
    assert extract(one, tmp_path / "s.mmf", [RGB], replace).tried == 0
    faster = FeatureRequest(name="rgb", modality="rgb", backbone="hog", fps=2)
    assert extract(one, tmp_path / "s.mmf", [faster], replace).tried == 1
    store = FeatureStore(tmp_path / "s.mmf")
    assert len(store.read("rgb", one.name)) == 8


def test_shards_part_the_inputs(whole, clips, tmp_path):
    parts = [
        extract(clips, tmp_path / "s.mmf", [AUDIO, TEXT], JobOptions(workers=1, shard=(i, 3)))
        for i in range(3)
    ]
    assert sum(part.inputs for part in parts) == sum(part.tried for part in parts) == 9
    assert max(part.inputs for part in parts) < 9
    store, reference = FeatureStore(tmp_path / "s.mmf"), whole[0]
    for video_id, status in reference.state("audio").items():
        assert store.state("audio")[video_id] == status
        if status == "done":
            assert np.array_equal(
                store.read("audio", video_id).values, reference.read("audio", video_id).values
            )


def test_names_that_are_no_text_are_inputs_too(clips, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = [b"with space \xff.mp4", "日本.mp4".encode(), b"-dash.mp4", b"10:30.mp4"]
    for name in names:
        shutil.copy(next(clips.glob("*/*.mp4")), os.path.join(os.fsencode(folder), name))
    result = extract(folder, tmp_path / "s.mmf", [AUDIO], HERE)
    assert result.counts["audio"] == Counts(done=4)
    known = FeatureStore(tmp_path / "s.mmf").state("audio")
    assert {"日本.mp4", "-dash.mp4", "10:30.mp4"} < set(known)


def test_a_dry_run_touches_nothing(whole, clips, tmp_path):
    planned = plan(clips, tmp_path / "s.mmf", [RGB], HERE)
    assert (planned.inputs, planned.todo, planned.unusable) == (9, 9, {"not_media": 1})
    assert not (tmp_path / "s.mmf").exists()
    store, _, _ = whole
    assert plan(clips, store.path, [RGB], HERE).todo == 0


def test_a_job_of_which_too_many_fail_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(tally, "JUDGED_AFTER", 5)
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(40):
        (folder / f"{n}.mp4").write_bytes(b"no video")
    result = extract(folder, tmp_path / "s.mmf", [AUDIO], HERE)
    assert result.stopped == "failures"
    assert result.exit_code == 3
    assert result.counts["audio"].failed == result.tried < 40
    assert result.counts["audio"].missing == 40 - result.tried


def test_the_batch_is_the_one_that_the_feature_was_created_with(clips, tmp_path):
    asked = FeatureRequest(
        name="rgb", modality="rgb", backbone="resnet18", weights="random:0", batch=2
    )
    one = next(clips.glob("*/*.mp4"))
    extract(one, tmp_path / "s.mmf", [asked], HERE)
    auto = FeatureRequest(name="rgb", modality="rgb", backbone="resnet18", weights="random:0")
    assert extract(one, tmp_path / "s.mmf", [auto], HERE).tried == 0
    other = FeatureRequest(
        name="rgb", modality="rgb", backbone="resnet18", weights="random:0", batch=4
    )
    with pytest.raises(RecipeMismatch, match=r"batch 2 there, 4 here"):
        extract(one, tmp_path / "s.mmf", [other], HERE)


# processes


def test_lanes_are_as_many_as_the_work_is_worth(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(3):
        with open(folder / f"{n}.mp4", "wb") as file:
            file.truncate(24 << 20)  # a hole: nothing is written
    (folder / "small.mp4").write_bytes(b"no video")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)

    class Told(Exception):
        """Raised before the lanes start, which would take seconds."""

    def tell(event):
        raise Told(event.lanes)

    for options, lanes in ((JobOptions(), "2"), (JobOptions(workers=3), "3")):
        with pytest.raises(Told, match=lanes):
            extract(folder, tmp_path / "s.mmf", [AUDIO], options, tell)


def test_lanes_in_processes_give_the_rows_of_one_lane(whole, clips, tmp_path):
    reference, _, _ = whole
    result = extract(clips, tmp_path / "s.mmf", [RGB, AUDIO, TEXT, FLOW], JobOptions(workers=2))
    assert result.counts["rgb"] == Counts(done=8, failed=1)
    store = FeatureStore(tmp_path / "s.mmf")
    for name in ("rgb", "audio", "text", "flow"):
        assert store.state(name) == reference.state(name)
        for video_id, status in store.state(name).items():
            if status == "done":
                ours, theirs = store.read(name, video_id), reference.read(name, video_id)
                assert np.array_equal(ours.values, theirs.values), (name, video_id)
                assert np.array_equal(ours.times, theirs.times)


_JOB = """
import sys
from mmf import MmfError
from mmf.extract import FeatureRequest, JobOptions, extract
requests = [FeatureRequest(name="rgb", modality="rgb", backbone="hog", fps=8.0)]
told = lambda event: print(type(event).__name__, flush=True)
try:
    result = extract(sys.argv[1], sys.argv[2], requests, JobOptions(workers=int(sys.argv[3])), told)
except MmfError as error:
    sys.exit(print(error))
print(result.stopped, flush=True)
sys.exit(result.exit_code)
"""


@contextmanager
def _job(clips: Path, store: Path, workers: int) -> Iterator[subprocess.Popen]:
    arguments = [sys.executable, "-c", _JOB, str(clips), str(store), str(workers)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def _read_until(process: subprocess.Popen, word: str, times: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        times -= word in line
        if not times:
            return
    raise AssertionError(f"the job ended with {process.wait()} before {word!r}")


def _below(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    children = [int(c) for t in tasks.iterdir() for c in (t / "children").read_text().split()]
    return children + [g for child in children for g in _below(child)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _gone(pids: list[int]) -> bool:
    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    deadline = time.monotonic() + 20
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_job_takes_its_processes_along_and_goes_on_where_it_was(workers, clips, tmp_path):
    request = FeatureRequest(name="rgb", modality="rgb", backbone="hog", fps=8.0)
    first = extract(clips, tmp_path / "killed.mmf", [request], JobOptions(workers=1, shard=(0, 4)))
    with _job(clips, tmp_path / "killed.mmf", workers) as process:
        _read_until(process, "VideoEnded", 3)
        below = _below(process.pid)
        assert len(below) >= workers
        process.kill()
    assert _gone(below)
    left = extract(clips, tmp_path / "killed.mmf", [request], HERE)
    assert 0 < first.tried <= 9 - left.tried < 9
    extract(clips, tmp_path / "whole.mmf", [request], HERE)
    killed, undisturbed = (FeatureStore(tmp_path / n) for n in ("killed.mmf", "whole.mmf"))
    assert killed.content_hash() == undisturbed.content_hash()


@pytest.mark.parametrize(
    ("number", "code", "workers"), [(signal.SIGTERM, 75, 2), (signal.SIGINT, 130, 1)]
)
def test_a_signal_commits_what_is_finished(number, code, workers, clips, tmp_path):
    with _job(clips, tmp_path / "s.mmf", workers) as process:
        _read_until(process, "VideoEnded", 1)
        os.kill(process.pid, number)
        said = process.stdout.read()
        assert process.wait(timeout=60) == code
    ended = 1 + said.count("VideoEnded")
    assert said.strip().endswith(signal.Signals(number).name)
    assert len(FeatureStore(tmp_path / "s.mmf").state("rgb")) == ended


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_what_a_lane_had_that_died_is_tried_again_and_nothing_is_blamed(clips, tmp_path):
    with _job(clips, tmp_path / "s.mmf", 2) as process:
        _read_until(process, "JobStarted", 1)
        lanes: list[int] = []
        while len(lanes) < 2:
            lanes = [p for p in _below(process.pid) if "mmf.extract.lane_process" in _command(p)]
        os.kill(lanes[0], signal.SIGKILL)
        process.stdout.read()
        process.wait(timeout=60)
    assert _gone(lanes)
    undisturbed = extract(clips, tmp_path / "whole.mmf", [RGB], HERE).counts["rgb"]
    state = list(FeatureStore(tmp_path / "s.mmf").state("rgb").values())
    assert (state.count("done"), len(state)) == (undisturbed.done, 9)


def test_what_rows_took_is_kept_with_them(whole):
    store, result, _ = whole
    assert set(result.spent.forward) == {"rgb", "audio", "text", "flow"}
    for name in result.spent.forward:
        found = store.stored(name).milliseconds_per_row
        assert min(found.compute, found.decode) > 0
    rgb, flow = (store.stored(n).outcomes["decode_seconds"].to_pylist() for n in ("rgb", "flow"))
    assert rgb == flow  # one pass
