"""How alike rows are: cosines, and a half-life that is that of the rows."""

import numpy as np
import pytest
import torch

from mmf.fuse.explain.layers import Steps
from mmf.fuse.explain.map_pictures import similarity_alt
from mmf.fuse.explain.similarity import Similar, cosines, similarities
from mmf.fuse.explain.subject import open_subject
from mmf.store import Item


def of_rows(rows: np.ndarray) -> Similar:
    steps = Steps(features=("rgb",) * len(rows), times=2.0 * np.arange(len(rows)))
    cosine = cosines(torch.from_numpy(rows)).numpy()
    return Similar(item=Item(video_id="v"), feature="rgb", steps=steps, cosine=cosine, begins=0.0)


def test_an_item_of_one_row_has_no_neighbour():
    one = of_rows(np.ones((1, 3)))
    assert np.isnan([one.neighbours, one.mean, one.half_life, one.half_life_seconds]).all()
    assert similarity_alt([one]) == "Cosine similarity of the rows of v: rgb has one row."


def test_shots_of_ten_steps_are_alike_for_five_of_them():
    """Of neighbours k apart, 1 - k / 10 are of the same shot; each shot is orthogonal to others."""
    one = of_rows(np.repeat(np.eye(30), 10, 0))
    assert one.neighbours == pytest.approx(1 - 29 / 299)  # 29 cuts
    assert one.mean == pytest.approx(30 * 90 / (300 * 299))
    assert one.by_distance[10] == pytest.approx(0)
    assert one.half_life == 5
    assert one.half_life_seconds == pytest.approx(10)
    assert "which halves in 5 steps, 10.0 s" in similarity_alt([one])


def test_shuffled_rows_are_alike_for_one_step_and_zeros_are_like_nothing():
    rng = np.random.default_rng(0)
    assert of_rows(rng.normal(size=(50, 8))).half_life == 1
    assert of_rows(np.zeros((3, 2))).cosine.tolist() == np.zeros((3, 3)).tolist()
    still = of_rows(np.ones((4, 2)))
    assert still.neighbours == still.mean == pytest.approx(1)


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
