"""Videos that were lost with their lane: tried in ever smaller groups, and blamed alone."""

import pytest

from mmf.extract.manifest import Input
from mmf.extract.pipeline import Task
from mmf.extract.suspects import LaneDied, settle


def tasks(number: int) -> list[Task]:
    return [Task(source=Input(video_id=str(i), path="")) for i in range(number)]


class Lanes:
    """Die of poisoned videos, `deadly` times of each, at the end of a group: all of it is lost."""

    def __init__(self, *poisoned: int, times: int = 10**6):
        self.left = {str(i): times for i in poisoned}
        self.done: list[str] = []
        self.runs: list[int] = []

    def run(self, some):
        ids = [task.source.video_id for task in some]
        self.runs.append(len(ids))
        deadly = [i for i in ids if self.left.get(i)]
        for i in deadly:
            self.left[i] -= 1
        if not deadly:
            self.done += ids
        return list(some) if deadly else []


@pytest.mark.parametrize("poisoned", [(), (0,), (36,), (5, 6), (0, 17, 36)])
def test_exactly_the_videos_that_kill_are_blamed_and_every_other_is_done(poisoned):
    lanes, blamed = Lanes(*poisoned), []
    settle(tasks(37), lanes.run, lambda task: blamed.append(task.source.video_id))
    assert sorted(blamed) == sorted(map(str, poisoned))
    assert sorted(lanes.done + blamed, key=int) == [str(i) for i in range(37)]


def test_a_video_that_kills_once_by_itself_is_not_blamed():
    lanes, blamed = Lanes(3, times=4), []
    settle(tasks(8), lanes.run, blamed.append)  # among 8, 4, 2 and alone; then it does not
    assert not blamed
    assert sorted(lanes.done) == [str(i) for i in range(8)]


def test_one_poison_costs_few_groups():
    lanes = Lanes(100)
    settle(tasks(256), lanes.run, lambda _: None)
    assert len(lanes.runs) <= 2 * 8 + 2


@pytest.mark.parametrize(("code", "how"), [(-11, "SIGSEGV"), (-9, "SIGKILL"), (7, "exit code 7")])
def test_how_a_lane_died_is_said(code, how):
    assert f"an extraction lane died ({how})" in str(LaneDied(code))
