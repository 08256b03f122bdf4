"""NetVLAD, NetRVLAD and NeXtVLAD against their equations, step by step in float64."""

import pytest
import torch

from mmf import MmfError
from mmf.fuse.aggregators.netvlad import NetRVLAD, NetVLAD, NetVLADOptions
from mmf.fuse.aggregators.nextvlad import NeXtVLAD, NeXtVLADOptions


def batch(items: int = 4, steps: int = 6, size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.rand(items, steps) < 0.7
    mask[:, 0] = True
    mask[2] = False
    return torch.randn(items, steps, size).double(), mask


def normalised(rows: dict, norm) -> dict:
    """Batch norm of named rows by definition."""
    table = torch.stack(list(rows.values()))
    mean = table.sum(0) / len(table)
    var = ((table - mean) ** 2).sum(0) / len(table)
    y = (table - mean) / (var + 1e-3).sqrt() * norm.weight + norm.bias
    return dict(zip(rows, y, strict=True))


def softmax(row: torch.Tensor) -> torch.Tensor:
    return row.exp() / row.exp().sum()


@pytest.mark.parametrize("options", [{"clusters": 0}, {"hidden": -1}])
def test_bad_options_of_netvlad_are_refused(options):
    with pytest.raises(MmfError, match="expected at least 1 and 0"):
        NetVLADOptions(**options)


@pytest.mark.parametrize("options", [{"groups": 0}, {"expansion": 0}, {"dropout": 1.0}])
def test_bad_options_of_nextvlad_are_refused(options):
    with pytest.raises(MmfError, match="expected at least 1 of the first three"):
        NeXtVLADOptions(**options)


def test_groups_that_do_not_divide_the_width_are_refused_with_those_that_do():
    with pytest.raises(MmfError, match=r"505 × expansion 2 = 1010 .* 8 groups.* 1, 2, 5, 10\."):
        NeXtVLAD(505, NeXtVLADOptions())


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("hidden", [0, 5])
def test_netvlad_is_the_sum_of_the_assigned_residuals_normalised_twice(centred, batch_norm, hidden):
    torch.manual_seed(0)
    kind = NetVLAD if centred else NetRVLAD
    options = NetVLADOptions(clusters=3, hidden=hidden, batch_norm=batch_norm)
    vlad, (x, mask) = kind(4, options).double().train(), batch()
    places = [(i, t) for i in range(4) for t in range(6) if mask[i, t]]
    rows = {place: vlad.assign.weight @ x[place] for place in places}
    if batch_norm:
        rows = normalised(rows, vlad.norm)
    else:
        rows = {place: row + vlad.assign.bias for place, row in rows.items()}
    assigned = {place: softmax(row) for place, row in rows.items()}
    found = vlad(x, mask)
    for i in (0, 1, 3):
        V = torch.zeros(4, 3).double()
        for (j, t), a in assigned.items():
            for k in range(3):
                centre = vlad.centres[:, k] if centred else 0
                V[:, k] += a[k] * (x[i, t] - centre) * (j == i)
        V = V / V.norm(dim=0)
        flat = torch.stack([V[c, k] for c in range(4) for k in range(3)])  # index c K + k
        flat = flat / flat.norm()
        wanted = vlad.hidden.weight @ flat if hidden else flat
        assert torch.allclose(found[i], wanted, atol=1e-10)
    assert torch.equal(found[2], torch.zeros(vlad.out_size).double())


def test_padding_zeros_would_pull_residuals_towards_the_centres_and_must_not():
    vlad, (x, mask) = NetVLAD(4, NetVLADOptions(clusters=3)).double().eval(), batch()
    zeros = torch.where(mask.unsqueeze(2), x, 0.0)
    assert not torch.allclose(vlad(zeros, torch.ones_like(mask)), vlad(zeros, mask), atol=1e-3)


def test_netvlad_starts_as_the_source_has_it():
    torch.manual_seed(0)
    vlad = NetVLAD(1024, NetVLADOptions())
    assert vlad.out_size == 1024
    assert vlad.assign.bias is None
    assert vlad.assign.weight.std().item() == pytest.approx(1 / 32, rel=0.05)
    assert vlad.centres.std().item() == pytest.approx(1 / 32, rel=0.05)
    assert vlad.hidden.weight.std().item() == pytest.approx(8**-0.5, rel=0.01)  # not 1/sqrt(8192)
    assert vlad.hidden.bias is None
    assert sum(p.numel() for p in vlad.parameters()) == 2 * 8 * 1024 + 2 * 8 + 8 * 1024 * 1024


@pytest.mark.parametrize("hidden", [0, 5])
def test_nextvlad_is_gated_grouped_and_normalised_as_in_the_paper(hidden):
    torch.manual_seed(0)
    G, K = 2, 3
    options = NeXtVLADOptions(clusters=K, groups=G, expansion=2, hidden=hidden, dropout=0.0)
    vlad, (x, mask) = NeXtVLAD(4, options).double().train(), batch()
    places = [(i, t) for i in range(4) for t in range(6) if mask[i, t]]
    wide = {p: vlad.expand.weight @ x[p] + vlad.expand.bias for p in places}
    scores = normalised({p: vlad.assign.weight @ row for p, row in wide.items()}, vlad.norm)
    V = {i: torch.zeros(4, K).double() for i in (0, 1, 3)}
    for (i, t), row in wide.items():
        gates = 1 / (1 + (-(vlad.gate.weight @ row + vlad.gate.bias)).exp())
        for g in range(G):
            a = gates[g] * softmax(scores[i, t][g * K : g * K + K])
            for k in range(K):
                V[i][:, k] += a[k] * (row[g * 4 : g * 4 + 4] - vlad.centres[:, k])
    flat = {i: (v / v.norm(dim=0)).flatten() for i, v in V.items()}
    norms = [m for m in vlad.after.modules() if type(m).__name__ == "BatchNorm"]
    wanted = normalised(flat, norms[0])
    if hidden:
        weight = next(m for m in vlad.after if isinstance(m, torch.nn.Linear)).weight
        wanted = normalised({i: weight @ row for i, row in wanted.items()}, norms[1])
    found = vlad(x, mask)
    for i, row in wanted.items():
        assert torch.allclose(found[i], row, atol=1e-9)
    assert torch.equal(found[2], torch.zeros(vlad.out_size).double())


def test_nextvlad_is_smaller_than_netvlad_by_about_the_groups_over_the_expansion():
    """The table of the paper's section 3: λ D (D + G + G K) + F K (1 + hidden), without norms."""
    vlad = NeXtVLAD(1024, NeXtVLADOptions())
    wide, part = 2048, 256
    weights = wide * (1024 + 8 + 8 * 128) + part * 128 * (1 + 2048)
    small = wide + 8 + 2 * 8 * 128 + 2 * part * 128 + 2 * 2048  # biases and norms
    assert sum(p.numel() for p in vlad.parameters()) == weights + small
