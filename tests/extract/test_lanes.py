"""How many videos a lane is given ahead, by their size; and lanes that serve several jobs."""

from collections import deque

import numpy as np
import pytest

from mmf.extract import FeatureRequest, JobOptions, extract, lanes_kept
from mmf.extract.lanes import BYTES_AHEAD, LaneProcess, Lanes, Work
from mmf.extract.manifest import Input
from mmf.extract.pipeline import AHEAD, Task
from mmf.extract.stopping import Stop
from mmf.store import FeatureStore


class Sent(list):
    send = list.append


def lane() -> LaneProcess:
    made = object.__new__(LaneProcess)  # without the process
    made.pipe, made.held, made.open = Sent(), deque(), {}
    return made


def tasks(*sizes: int):
    return (Task(source=Input(video_id=str(i), path="", size=n)) for i, n in enumerate(sizes))


@pytest.mark.parametrize(
    ("size", "given"),
    [(1, AHEAD), (BYTES_AHEAD // 4, 4), (BYTES_AHEAD * 9, 2)],
    ids=["clips fill batches", "some", "films wait for whichever lane is free"],
)
def test_a_lane_holds_few_long_videos_and_many_short_ones(size, given):
    one = lane()
    left = tasks(*[size] * 20)
    one.feed(left)
    assert [task.source.video_id for task in one.pipe] == [str(i) for i in range(given)]
    one.held.popleft()
    one.feed(left)
    assert len(one.pipe) == given + 1


def test_a_lane_is_told_when_there_are_no_more():
    one = lane()
    one.feed(tasks(1))
    assert one.pipe[1:] == [None]


def test_a_file_that_is_not_there_is_left_to_the_decoder():
    one = lane()
    one.feed(iter([Task(source=Input(video_id="a", path="no/such.mp4"))]))
    assert list(one.held) == [0]


def test_media_at_a_url_of_which_nothing_is_said_counts_as_long():
    one, url = lane(), "https://example.org/film.mp4"
    one.feed(Task(source=Input(video_id=str(i), path=url)) for i in range(9))
    assert len(one.pipe) == 2


def test_the_next_job_takes_the_lanes_that_rest_and_none_outlives_them(
    clips, tmp_path, monkeypatch
):
    rgb = FeatureRequest(name="rgb", modality="rgb", backbone="hog")
    audio = FeatureRequest(name="audio", modality="audio", backbone="logmel")
    started, start = [], LaneProcess.__init__

    def counted(self):
        started.append(self)
        start(self)

    monkeypatch.setattr(LaneProcess, "__init__", counted)
    with lanes_kept():
        for name, request in (("one", rgb), ("other", audio)):
            extract(clips, tmp_path / name, [request], JobOptions(workers=2))
        assert [one.process.poll() for one in started] == [None, None]
    assert [one.process.poll() for one in started] == [0, 0]
    extract(clips, tmp_path / "both", [rgb, audio], JobOptions(workers=2))
    assert [one.process.poll() for one in started] == [0] * 4
    both = FeatureStore(tmp_path / "both")
    for name, feature in (("one", "rgb"), ("other", "audio")):
        alone = FeatureStore(tmp_path / name)
        assert alone.state(feature) == both.state(feature)
        done = [video for video, state in alone.state(feature).items() if state == "done"]
        assert len(done) == 8
        for video in done:
            wanted = both.read(feature, video).values
            assert np.array_equal(alone.read(feature, video).values, wanted)


def test_a_lane_that_is_killed_when_it_has_nothing_to_do_ends_no_job(monkeypatch):
    begin = LaneProcess.begin

    def killed(self, work):
        begin(self, work)
        self.process.kill()

    monkeypatch.setattr(LaneProcess, "begin", killed)
    work = Work(store="s.mmf", requests=())
    assert Lanes([]).run(2, work, iter([]), lambda _: None, Stop()) == []
