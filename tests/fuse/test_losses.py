"""Losses against their formulas, and what is not rated."""

import pytest
import torch
from torch.nn import functional

from mmf.fuse.losses import binary_cross_entropy, cross_entropy, probabilities, smoothed

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
ALL = torch.ones(2, 3, dtype=torch.bool)


def test_bce_sums_over_classes_and_averages_over_items():
    p = LOGITS.double().sigmoid()
    wanted = -(LABELS * p.log() + (1 - LABELS) * (1 - p).log()).sum() / 2
    assert binary_cross_entropy(LOGITS, LABELS, ALL).item() == pytest.approx(wanted.item())


def test_ce_of_one_label_is_torchs():
    labels = torch.eye(3)[[2, 1]]
    wanted = functional.cross_entropy(LOGITS, torch.tensor([2, 1]))
    assert cross_entropy(LOGITS, labels, ALL).item() == pytest.approx(wanted.item())


def test_ce_gives_several_labels_equal_parts():
    log_p = LOGITS.log_softmax(1)
    wanted = -((log_p[0, 0] + log_p[0, 2]) / 2 + log_p[1, 1]) / 2
    assert cross_entropy(LOGITS, LABELS, ALL).item() == pytest.approx(wanted.item())


def test_ce_leaves_items_without_a_label_out():
    labels = torch.eye(3)[[2, 1]]
    labels[1] = 0
    alone = cross_entropy(LOGITS[:1], labels[:1], ALL[:1])
    assert cross_entropy(LOGITS, labels, ALL).item() == pytest.approx(alone.item())
    assert cross_entropy(LOGITS, torch.zeros(2, 3), ALL).item() == 0


@pytest.mark.parametrize("loss", [binary_cross_entropy, cross_entropy])
def test_an_unrated_label_gives_neither_loss_nor_gradient(loss):
    rated = ALL.clone()
    rated[:, 2] = False
    values = []
    for claimed in (0.0, 1.0):
        labels = LABELS.clone()
        labels[:, 2] = claimed
        logits = LOGITS.clone().requires_grad_()
        value = loss(logits, labels, rated)
        value.backward()
        assert torch.equal(logits.grad[:, 2], torch.zeros(2))
        assert logits.grad.isfinite().all()
        values.append(value.item())
    assert (
        values[0]
        == values[1]
        == pytest.approx(loss(LOGITS[:, :2], LABELS[:, :2], ALL[:, :2]).item())
    )


def test_losses_of_extreme_logits_are_finite():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    labels, rated = torch.tensor([[0.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool)
    for loss in (binary_cross_entropy, cross_entropy):
        value = loss(logits, labels, rated)
        value.backward()
        assert value.isfinite()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_smoothed_labels_give_a_part_of_each_to_all_rated_classes(share):
    labels = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    rated = torch.tensor([[True] * 4, [True, True, True, False], [True] * 4])
    logits = torch.randn(3, 4, dtype=torch.float64)
    found = cross_entropy(logits, smoothed(labels, rated, "ce", share).double(), rated)
    total = 0.0
    for i, classes in enumerate([[0, 1, 2, 3], [0, 1, 2]]):
        log_p = logits[i, classes].log_softmax(0)
        y = labels[i, classes].double() / labels[i, classes].sum()
        total -= sum(((1 - share) * y + share / len(classes)) * log_p).item()
    assert found.item() == pytest.approx(total / 2, rel=1e-6)  # two items have a label


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_smoothed_labels_of_several_classes_lean_to_a_half(share):
    found = binary_cross_entropy(LOGITS, smoothed(LABELS, ALL, "bce", share), ALL)
    p, y = LOGITS.double().sigmoid(), (1 - share) * LABELS.double() + share / 2
    wanted = -(y * p.log() + (1 - y) * (1 - p).log()).sum() / 2
    assert found.item() == pytest.approx(wanted.item())


def test_probabilities_are_softmax_for_ce_and_sigmoid_for_bce():
    assert torch.allclose(probabilities(LOGITS, "ce").sum(1), torch.ones(2))
    assert torch.equal(probabilities(LOGITS, "bce"), LOGITS.sigmoid())
