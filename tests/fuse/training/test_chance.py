"""Chance that follows from what it is for, and from nothing else."""

import numpy as np
import torch

from mmf.fuse.training.chance import seed_step, uniform
from mmf.store import Item

ITEMS = [Item(video_id=f"v{i}") for i in range(400)]


def draws(items=ITEMS, numbers=50, *, seed=0, epoch=0, purpose="rows") -> np.ndarray:
    return uniform(items, numbers, seed=seed, epoch=epoch, purpose=purpose)


def test_an_items_numbers_do_not_depend_on_its_batch():
    whole = draws()
    assert np.array_equal(draws(ITEMS[7:9]), whole[7:9])
    assert np.array_equal(draws(ITEMS[::-1]), whole[::-1])
    assert np.array_equal(draws(numbers=3), whole[:, :3])


def test_another_seed_epoch_purpose_or_interval_gives_others():
    whole = draws()
    for other in (draws(seed=1), draws(epoch=1), draws(purpose="features"), draws(seed=10)):
        assert abs(np.corrcoef(whole.ravel(), other.ravel())[0, 1]) < 0.03
    part = draws([Item(video_id="v0", start=0.0, end=5.0)])
    assert not np.array_equal(part[0], whole[0])


def test_the_numbers_are_even_from_0_to_1_and_unrelated():
    whole = draws()
    assert whole.min() >= 0
    assert whole.max() < 1
    counts, _ = np.histogram(whole, bins=20, range=(0, 1))
    assert abs(counts / 1000 - 1).max() < 0.15  # 1000 expected in each, with a deviation of 31
    columns = np.corrcoef(whole.T) - np.eye(50)
    assert abs(columns).max() < 0.25


def test_a_step_has_its_own_chance_whatever_came_before():
    def drawn(seed: int, step: int, part: int) -> list[float]:
        seed_step(seed, step, part, torch.device("cpu"))
        return torch.rand(3).tolist()

    first = drawn(0, 5, 0)
    others = [drawn(1, 5, 0), drawn(0, 6, 0), drawn(0, 5, 1)]
    assert drawn(0, 5, 0) == first
    assert first not in others
