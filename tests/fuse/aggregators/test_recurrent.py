"""LSTM and GRU against their equations, step by step in float64."""

import pytest
import torch

from mmf import MmfError
from mmf.fuse.aggregators.recurrent import GRU, LSTM, RecurrentOptions


@pytest.mark.parametrize("options", [{"hidden": 0}, {"layers": 0}])
def test_bad_options_of_a_recurrent_network_are_refused(options):
    with pytest.raises(MmfError, match="expected at least 1 of each"):
        RecurrentOptions(**options)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.rand(5, 7) < 0.6
    mask[3] = False
    return torch.randn(5, 7, 4).double(), mask


def lstm_layer(steps: list, W, U, b, c) -> list:
    h = cell = torch.zeros(3).double()
    out = []
    for x in steps:
        i, f, g, o = (W[k] @ x + U[k] @ h + b[k] + c[k] for k in range(4))
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        h = o.sigmoid() * cell.tanh()
        out.append(h)
    return out


def gru_layer(steps: list, W, U, b, c) -> list:
    h = torch.zeros(3).double()
    out = []
    for x in steps:
        reset = (W[0] @ x + U[0] @ h + b[0] + c[0]).sigmoid()
        update = (W[1] @ x + U[1] @ h + b[1] + c[1]).sigmoid()
        new = (W[2] @ x + b[2] + reset * (U[2] @ h + c[2])).tanh()
        h = (1 - update) * new + update * h
        out.append(h)
    return out


@pytest.mark.parametrize(("kind", "layer", "gates"), [(LSTM, lstm_layer, 4), (GRU, gru_layer, 3)])
def test_the_state_after_the_last_step_that_is_there_comes_out(kind, layer, gates):
    torch.manual_seed(0)
    aggregator = kind(4, RecurrentOptions(hidden=3)).double()
    (x, mask), names = batch(), ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    found = aggregator(x, mask)
    for i in range(5):
        steps = [x[i, t] for t in range(7) if mask[i, t]]
        for number in range(2):
            parts = [getattr(aggregator.network, f"{n}_l{number}").chunk(gates) for n in names]
            steps = layer(steps, *parts)
        wanted = steps[-1] if steps else torch.zeros(3).double()
        assert torch.allclose(found[i], wanted, atol=1e-12)


def test_the_order_of_the_steps_counts():
    aggregator, (x, _) = GRU(4, RecurrentOptions(hidden=3)).double(), batch()
    everything = torch.ones(5, 7, dtype=torch.bool)
    assert not torch.allclose(aggregator(x, everything), aggregator(x.flip(1), everything))


def test_gates_start_open_where_the_source_has_them_so():
    lstm, gru = LSTM(4, RecurrentOptions(hidden=3)), GRU(4, RecurrentOptions(hidden=3))
    for number in range(2):
        ih, hh = (getattr(lstm.network, f"bias_{n}_l{number}") for n in ("ih", "hh"))
        assert (ih + hh).tolist() == [0] * 3 + [1] * 3 + [0] * 6  # input, forget, cell, output
        ih, hh = (getattr(gru.network, f"bias_{n}_l{number}") for n in ("ih", "hh"))
        assert (ih + hh).tolist() == [1] * 6 + [0] * 3  # reset, update, new
