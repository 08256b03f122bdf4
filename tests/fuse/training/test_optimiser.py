"""Penalties, clipping and the average of weights, against torch's own and against brute force."""

import copy

import numpy as np
import pytest
import torch

from mmf.fuse.config import TrainConfig
from mmf.fuse.network import Network
from mmf.fuse.training.optimiser import Average, clip, learning, make_optimiser, penalise


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    config = TrainConfig(fusion="fc_concat", fusion_options={"outputs": 4}, normalise="l2")
    return Network(config, {"a": (3,), "b": (4,)}, ("x", "y"), "ce")


def backward(network: Network) -> torch.Tensor:
    torch.manual_seed(1)
    logits = network({"a": torch.randn(5, 2, 3), "b": torch.randn(5, 3, 4)})
    loss = 10 * logits.square().sum()
    loss.backward()
    return loss


def gradients(network: Network) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def test_a_penalty_is_the_gradient_of_half_the_squares_of_a_parts_weights(network):
    backward(network)
    before = gradients(network)
    penalise(network, {"head": 0.3})
    found = gradients(network)
    other = copy.deepcopy(network)
    other.zero_grad()
    (0.3 * sum(p.square().sum() / 2 for p in other.head.parameters() if p.ndim > 1)).backward()
    for name, parameter in other.named_parameters():
        extra = 0 if parameter.grad is None else parameter.grad
        assert torch.allclose(found[name], before[name] + extra)
    assert any(not torch.equal(found[n], before[n]) for n in found)


def test_the_whole_gradient_is_clipped_as_torch_does(network):
    backward(network)
    other = copy.deepcopy(network)
    for mine, its in zip(network.parameters(), other.parameters(), strict=True):
        its.grad = mine.grad.clone()
    wanted = torch.nn.utils.clip_grad_norm_(other.parameters(), 1.5)
    assert clip(learning(network), TrainConfig(clip_norm=1.5)) == pytest.approx(wanted.item())
    for name, gradient in gradients(network).items():
        assert torch.allclose(gradient, gradients(other)[name], rtol=1e-5)


def test_each_tensor_is_clipped_by_its_own_length(network):
    backward(network)
    before = gradients(network)
    clip(learning(network), TrainConfig(clip="tensor", clip_norm=1.5))
    for name, gradient in gradients(network).items():
        length = before[name].norm()
        assert torch.allclose(gradient, before[name] * 1.5 / max(length, torch.tensor(1.5)))
    lengths = [g.norm() for g in before.values()]
    assert min(lengths) < 1.5 < max(lengths)


def test_a_short_gradient_stays_to_the_bit(network):
    backward(network)
    before = gradients(network)
    clip(learning(network), TrainConfig(clip_norm=1e6))
    assert all(torch.equal(g, before[n]) for n, g in gradients(network).items())


def test_frozen_parameters_are_not_learned(network):
    for parameter in network.fusion.parameters():
        parameter.requires_grad_(False)
    backward(network)
    made = make_optimiser(network, TrainConfig(lr=0.1))
    before = [p.detach().clone() for p in network.fusion.parameters()]
    made.step()
    assert all(map(torch.equal, network.fusion.parameters(), before))
    assert sum(len(g["params"]) for g in made.param_groups) == len(list(network.head.parameters()))


@pytest.mark.parametrize(
    ("options", "decay"),
    [({}, 1e-2), ({"optimiser": "sgd"}, 0), ({"optimiser": "adam", "weight_decay": 0.5}, 0.5)],
)
def test_weights_decay_and_biases_do_not(network, options, decay):
    made = make_optimiser(network, TrainConfig(**options))
    for group in made.param_groups:
        matrices = {p.ndim > 1 for p in group["params"]}
        assert group["weight_decay"] == (decay if matrices == {True} else 0)


def test_sgd_has_momentum(network):
    made = make_optimiser(network, TrainConfig(optimiser="sgd", lr=0.1, momentum=0.5))
    weight, wanted, speed = network.head[0].linear.weight, None, 0.0
    wanted = weight.detach().clone()
    for _ in range(3):
        network.zero_grad()
        backward(network)
        speed = 0.5 * speed + weight.grad
        wanted = wanted - 0.1 * speed
        made.step()
        assert torch.allclose(weight, wanted, rtol=1e-5)


def test_the_average_is_that_of_its_formula(network):
    average = Average(network, 0.9)
    made = make_optimiser(network, TrainConfig(lr=0.1))
    wanted = {n: p.detach().double().numpy() for n, p in network.named_parameters()}
    wanted = {n: p.copy() for n, p in wanted.items()}
    for step in range(1, 200):
        made.zero_grad()
        backward(network)
        made.step()
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        for n, p in network.named_parameters():
            wanted[n] = decay * wanted[n] + (1 - decay) * p.detach().double().numpy()
    for n, p in average.network.named_parameters():
        assert np.allclose(p.detach().numpy(), wanted[n], atol=1e-5)


def test_without_a_decay_the_average_is_the_network(network):
    assert Average(network, 0.0).network is network
