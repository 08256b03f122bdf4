"""Learning rates against the formulas, written out."""

import itertools
import math

import pytest

from mmf import MmfError, UnknownName
from mmf.fuse.config import TrainConfig
from mmf.fuse.training import SCHEDULES
from mmf.fuse.training.schedule import Course, learning_rate, make_schedule

COURSE = Course(batch_size=128, epoch_steps=10, steps=600)


def rates(steps, course=COURSE, **options) -> list[float]:
    config = TrainConfig(lr=2.0, warmup=course.warmup, **options)
    return [learning_rate(config, make_schedule(config), step, course) for step in steps]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("staircase", {"rate": 0.0}, "rate 0.0 every 4000000"),
        ("staircase", {"rates": 1}, "Did you mean 'rate'"),
        ("milestones", {"epochs": [3, 2]}, "expected rising"),
        ("cosine", {"floor": 2.0}, "expected 0 to 1"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(name, options, sentence):
    with pytest.raises(MmfError, match=sentence):
        make_schedule(TrainConfig(schedule=name, schedule_options=options))


def test_an_unknown_schedule_suggests_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'cosine'"):
        TrainConfig(schedule="cosin")


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_begins_at_the_rate_and_never_exceeds_it(name):
    found = rates(range(601), schedule=name)
    assert found[0] == 2.0
    assert all(0 <= b <= a for a, b in itertools.pairwise(found))


def test_a_staircase_goes_down_after_four_million_examples():
    below = 4_000_000 // 128
    found = rates([below - 1, below, 2 * below + 1], schedule="staircase")
    assert found == pytest.approx([2.0, 2.0 * 0.95, 2.0 * 0.95**2])


def test_milestones_count_epochs():
    options = {"epochs": [2, 4], "rate": 0.1}
    found = rates([19, 20, 39, 40], schedule="milestones", schedule_options=options)
    assert found == pytest.approx([2.0, 0.2, 0.2, 0.02])


def test_a_warm_up_rises_to_the_rate_and_a_cosine_takes_what_is_left():
    course = Course(batch_size=8, epoch_steps=10, steps=110, warmup=10)
    found = rates(range(111), course, schedule="cosine", schedule_options={"floor": 0.1})
    assert found[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    wanted = [0.2 + 1.8 * (1 + math.cos(math.pi * n / 100)) / 2 for n in range(101)]
    assert found[10:] == pytest.approx(wanted)
    assert rates(range(10), course, schedule="constant") == pytest.approx(found[:10])
