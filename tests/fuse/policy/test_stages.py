"""The stages: lengths, rates and temperatures as published, and in proportion."""

import pytest

from mmf import MmfError
from mmf.fuse.policy.stages import Stages

STEPS = 3  # of an epoch


def course(stages: Stages, epochs: int) -> list[tuple]:
    """(name, what learns, temperature, rate) of each epoch, the same in all its steps."""
    found = []
    for epoch in range(epochs):
        each = [stages.at(epoch * STEPS + i, epochs * STEPS, STEPS) for i in range(STEPS)]
        said = {(s.name, *s.learns, s.temperature, s.rate, s.weight) for s in each}
        assert len(said) == 1
        assert not any(s.begins or s.takes_best or s.first_to_count for s in each[1:])
        found.append(said.pop())
    return found


def test_a_training_without_room_for_the_stages_is_refused():
    with pytest.raises(MmfError, match="of 4 epochs has no room .* at least 5: one each of single"):
        Stages().at(0, 4 * STEPS, STEPS)


def test_the_published_stages_are_the_published_ones():
    stages = Stages()
    assert stages.total == 60 + 5 + 2 * 20 + 10
    found = course(stages, stages.total)
    names = [name for name, *_ in found]
    assert names == ["single"] * 60 + ["warm_up"] * 5 + ["alternate"] * 40 + ["tune"] * 10
    rates = [rate for *_, rate, _ in found]
    assert rates[:60] == pytest.approx([1.0] * 20 + [0.1] * 20 + [0.01] * 10 + [0.001] * 10)
    assert rates[60:105] == pytest.approx([1.0] * 25 + [0.1] * 10 + [0.01] * 10)
    assert rates[105:] == [1.0] * 10
    temperatures = [t for _, _, t, *_ in found]
    assert set(temperatures[:67]) == {5.0}
    for pair in range(20):
        wanted = 5.0 * 0.965**pair
        assert temperatures[65 + 2 * pair : 67 + 2 * pair] == pytest.approx([wanted] * 2)
    assert temperatures[-1] == pytest.approx(2.45, abs=0.01)


def test_networks_and_policy_learn_in_turn_and_only_the_policy_pays():
    found = course(Stages(), 115)
    for epoch, (name, learns, *_, weight) in enumerate(found):
        policy = name == "alternate" and (epoch - 65) % 2 == 1
        assert learns == ("policy" if policy else "main")
        assert weight == policy


def test_stages_begin_once_and_the_best_counts_from_the_alternating_on():
    stages, total = Stages(), 115
    each = {e: stages.at(e * STEPS, total * STEPS, STEPS) for e in range(total)}
    assert [e for e, s in each.items() if s.begins] == [0, 60, 65, 105]
    assert [e for e, s in each.items() if s.first_to_count] == [65]
    assert [e for e, s in each.items() if s.takes_best] == [105]


@pytest.mark.parametrize("epochs", [5, 6, 9, 23, 40, 57, 230])
def test_a_training_of_another_length_has_them_in_proportion(epochs):
    found = course(Stages(), epochs)
    names = [name for name, *_ in found]
    published = {"single": 60, "warm_up": 5, "alternate": 40, "tune": 10}
    for name, share in published.items():
        assert names.count(name) >= 1
        if epochs >= 23:
            assert names.count(name) == pytest.approx(share / 115 * epochs, abs=1.5)
    assert names.count("alternate") % 2 == 0
    turns = [learns for name, learns, *_ in found if name == "alternate"]
    assert turns == ["main", "policy"] * (len(turns) // 2)
    if epochs >= 23:
        assert min(rate for name, *_, rate, _ in found if name == "single") == pytest.approx(1e-3)


def test_without_a_policy_that_learns_its_epochs_are_left_out():
    stages = Stages(learned=False)
    assert stages.total == 95
    assert {learns for _, learns, *_ in course(stages, 95)} == {"main"}


def test_stages_that_are_not_named_are_left_out():
    stages = Stages(epochs={"alternate": 2})
    assert [name for name, *_ in course(stages, 4)] == ["alternate"] * 4
    first = stages.at(0, 4 * STEPS, STEPS)
    assert first.begins
    assert first.first_to_count
    alone = Stages(epochs={"single": 3}).at(0, 3 * STEPS, STEPS)
    assert (alone.name, alone.first_to_count) == ("single", True)
