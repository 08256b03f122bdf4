"""Batch norm over the rows that are there."""

import pytest
import torch

from mmf.fuse.layers.batch_norm import BatchNorm, pack, unpack


def test_rows_are_packed_in_order_and_unpacked_with_zeros_between():
    x = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    rows = pack(x, mask)
    assert rows.tolist() == [[0, 1], [4, 5], [8, 9]]
    assert torch.equal(unpack(rows, mask), x * mask.unsqueeze(2))
    everything, nothing = torch.ones_like(mask), torch.zeros_like(mask)
    assert torch.equal(unpack(pack(x, everything), everything), x)
    assert torch.equal(unpack(pack(x, nothing), nothing), torch.zeros(2, 3, 2))


def test_in_training_the_rows_have_their_own_mean_and_variance():
    torch.manual_seed(0)
    norm, rows = BatchNorm(3).train(), 5 * torch.randn(200, 3) + 2
    found = norm(rows)
    wanted = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-3).sqrt()
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_short_training_is_evaluated_with_its_last_statistics_and_a_long_one_with_the_sources():
    norm = BatchNorm(1).train()
    norm(torch.tensor([[1.0], [3.0]]))
    assert norm.mean.item() == pytest.approx(2)  # and not 0.002
    for _ in range(200):
        norm(torch.tensor([[4.0], [6.0]]))
    assert norm.mean.item() == pytest.approx(5, abs=1e-3)
    norm.steps.fill_(50_000)
    norm(torch.tensor([[104.0], [106.0]]))
    assert norm.mean.item() == pytest.approx(5 + 0.001 * 100, abs=2e-3)


def test_its_running_statistics_are_what_it_evaluates_with():
    norm = BatchNorm(1).train()
    norm(torch.tensor([[1.0], [3.0]]))
    assert norm.eval()(torch.tensor([[2.0]])).item() == pytest.approx(0, abs=1e-6)


def test_one_row_alone_takes_the_running_statistics_and_leaves_them():
    norm = BatchNorm(1).train()
    norm(torch.tensor([[1.0], [3.0]]))
    state = {k: v.clone() for k, v in norm.state_dict().items()}
    assert norm(torch.tensor([[2.0]])).item() == pytest.approx(0, abs=1e-6)
    assert all(torch.equal(v, state[k]) for k, v in norm.state_dict().items())
    assert norm(torch.zeros(0, 1)).shape == (0, 1)


def test_bfloat16_rows_are_normalised_in_float32():
    assert BatchNorm(3).train()(torch.randn(4, 3).bfloat16()).dtype == torch.float32
