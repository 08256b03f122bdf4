"""How alike rows are: cosines, and a half-life that is that of the rows."""

import numpy as np
import pytest
import torch

from mmf.fuse.explain.maps.layers import Steps
from mmf.fuse.explain.maps.pictures import similarity_alt
from mmf.fuse.explain.maps.similarity import Similar, cosines, similarities
from mmf.fuse.explain.subject import open_subject
from mmf.fuse.planted import background
from mmf.store import Item


def of_rows(rows: np.ndarray) -> Similar:
    steps = Steps(features=("rgb",) * len(rows), times=2.0 * np.arange(len(rows)))
    cosine = cosines(torch.from_numpy(rows)).numpy()
    return Similar(item=Item(video_id="v"), feature="rgb", steps=steps, cosine=cosine, begins=0.0)


def test_an_item_of_one_row_has_no_neighbour():
    one = of_rows(np.ones((1, 3)))
    assert np.isnan([one.neighbours, one.mean, one.half_life, one.half_life_seconds]).all()
    assert similarity_alt([one]) == "Cosine similarity of the rows of v: rgb has one row."


def test_shots_of_ten_steps_are_alike_for_six_of_them():
    """Of rows k apart, 30 (10 - k) of 300 - k pairs are of one shot; others are orthogonal."""
    one = of_rows(np.repeat(np.eye(30), 10, 0))
    shares = [30 * max(10 - k, 0) / (300 - k) for k in range(300)]
    assert one.by_distance == pytest.approx(shares)
    assert one.neighbours == pytest.approx(1 - 29 / 299)  # 29 cuts
    assert one.mean == pytest.approx(30 * 90 / (300 * 299))
    assert one.half_life == 6  # 0.408 of pairs, and 0.508 of those 5 apart
    assert one.half_life_seconds == pytest.approx(12)
    assert "half of the difference gone in 6 steps (12.0 s)" in similarity_alt([one])


def test_noise_of_each_row_does_not_shorten_how_far_likeness_goes():
    rng = np.random.default_rng(0)
    slow = background(rng, 400, 300)  # a memory of 0.9: half is gone after 6.6 steps
    noisy = slow + 2 * rng.normal(size=slow.shape)
    assert of_rows(slow).neighbours > 0.8 > 0.3 > of_rows(noisy).neighbours
    assert 7 <= of_rows(slow).half_life <= 8
    assert 6 <= of_rows(noisy).half_life <= 9


def test_a_still_has_no_distance_and_rows_of_zeros_are_like_nothing():
    still = of_rows(np.ones((4, 2)))
    assert still.neighbours == still.mean == pytest.approx(1)
    assert np.isnan(still.half_life)
    assert of_rows(np.zeros((3, 2))).cosine.tolist() == np.zeros((3, 3)).tolist()


def test_rows_are_those_that_the_fusion_meets(runs, odd):
    subject = open_subject(runs / "mean", odd.path, device="cpu")
    found = {of[0].item.id: {one.feature: one for one in of} for of in similarities(subject)}
    assert found["silent"].keys() == {"rgb"}
    assert found["short"]["rgb"].cosine.shape == (1, 1)
    rows = torch.from_numpy(odd.read("rgb", "whole").values).float()
    norm = subject.network.normalise[subject.network.features.index("rgb")]
    wanted = norm(rows[None], torch.ones(1, len(rows), dtype=torch.bool))[0].detach().double()
    wanted = torch.nn.functional.normalize(wanted, dim=1)
    np.testing.assert_allclose(found["whole"]["rgb"].cosine, (wanted @ wanted.T), atol=1e-5)
    np.testing.assert_array_equal(found["whole"]["rgb"].steps.times, odd.read("rgb", "whole").times)
