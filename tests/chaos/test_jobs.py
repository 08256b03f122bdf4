"""Trials of whole jobs: that they find what is lost or left, and their smallest form."""

import sys

import numpy as np
import pytest

from mmf.chaos import jobs
from mmf.chaos import together as together_module
from mmf.chaos.stopped import STOPPED, _Job, _Stops
from mmf.chaos.together import together
from mmf.chaos.trial import Setting
from mmf.store import FeatureSpec, FeatureStore, Track

SPEC = FeatureSpec(name="f", modality="rgb", shape=(1,), dtype="float32")


def store_of(path, *videos, value=0.0):
    store = FeatureStore.create(path)
    store.create_feature(SPEC)
    values, times = np.full((2, 1), value, np.float32), np.arange(2.0)
    store.add(SPEC, [Track(video_id=v, values=values, times=times) for v in videos])
    return path, FeatureStore(path).content_hash()


@pytest.fixture
def two_videos(monkeypatch):
    monkeypatch.setattr(jobs, "VIDEOS", 2)
    monkeypatch.setattr(jobs, "FEATURES", ("f",))


def test_a_video_that_is_lost_and_one_that_is_torn_are_faults(two_videos, tmp_path):
    _, reference = store_of(tmp_path / "whole.mmf", "a", "b")
    lost, _ = store_of(tmp_path / "lost.mmf", "a")
    assert jobs.faults_of(lost, reference, "x") == ["x: 1 videos lost of f"]
    other, _ = store_of(tmp_path / "other.mmf", "a", "b", value=1.0)
    assert jobs.faults_of(other, reference, "x") == ["x: other content than an undisturbed job's"]
    again, _ = store_of(tmp_path / "again.mmf", "b", "a")  # the order is not content
    assert jobs.faults_of(again, reference, "x") == []


# opens a file of the source, and ends when it is told to
ENDING = """
import signal, sys, time
if {code} != -15:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
open(sys.argv[1]).close()
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
@pytest.mark.parametrize(
    ("code", "fault"),
    [(STOPPED, ""), (-15, "1 videos were opened and not kept, code -15"), (1, "ended with 1: ")],
)
def test_what_a_stop_throws_away_is_counted_and_its_code_is_looked_at(tmp_path, code, fault):
    (tmp_path / "files").mkdir()
    (video := tmp_path / "files" / "0001.mp4").touch()
    line = [sys.executable, "-S", "-c", ENDING.format(code=code), str(video)]
    job, stops = _Job(command=line, store=tmp_path / "none.mmf", files=tmp_path), _Stops()
    faults = job.run(3.0, stops)
    assert (faults[0] if faults else "") == fault
    assert (stops.codes, stops.thrown, job.is_done) == ({code: 1}, [1], False)


def test_two_jobs_on_one_store_that_are_killed_lose_and_double_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(jobs, "VIDEOS", 24)
    monkeypatch.setattr(together_module, "SMALL", (2, 1))
    monkeypatch.setattr(together_module, "PAUSE", (0.05, 0.2))
    found = together(tmp_path, Setting(small=True))
    assert found.faults == []
    assert found.n >= 2
