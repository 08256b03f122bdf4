"""From gradients to weights: penalties, clipping, the optimiser, an average of the weights."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmf.fuse.config import TrainConfig
from mmf.fuse.network import Network


class Optimiser:
    """Torch's optimisers of the parts of a network, as one.

    Each of their `param_groups` says its `part`, and by its `scale` the learning rate in units of
    the config's.
    """

    def __init__(self, **parts: torch.optim.Optimizer):
        self._parts = parts.values()
        for name, one in parts.items():
            for group in one.param_groups:
                group["part"] = name
                group.setdefault("scale", 1.0)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all parts."""
        return [group for one in self._parts for group in one.param_groups]

    def learn(self, parts: Iterable[str]) -> None:
        """From here on the weights of these parts have gradients, and no others."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(group["part"] in parts)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for one in self._parts:
            one.zero_grad()

    def step(self) -> None:
        """Change the weights that have a gradient."""
        for one in self._parts:
            one.step()

    def forget(self) -> None:
        """Begin anew: moments and counts of steps are gone."""
        for one in self._parts:
            one.state.clear()

    def state(self) -> dict[str, Tensor]:
        """Moments and counts of steps: ``<number of the parameter>.<name>``."""
        return {
            f"{first + i}.{name}": value
            for first, one in self._numbered()
            for i, its in one.state_dict()["state"].items()
            for name, value in its.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            which, _, name = key.partition(".")
            states.setdefault(int(which), {})[name] = value
        for first, one in self._numbered():
            own = one.state_dict()
            number = sum(len(group["params"]) for group in own["param_groups"])
            its = {i: states[first + i] for i in range(number) if first + i in states}
            one.load_state_dict({**own, "state": its})

    def _numbered(self) -> Iterable[tuple[int, torch.optim.Optimizer]]:
        """Each with the number of its first parameter."""
        first = 0
        for one in self._parts:
            yield first, one
            first += sum(len(group["params"]) for group in one.param_groups)


def make_optimiser(network: Network, config: TrainConfig) -> Optimiser:
    """The optimiser of all weights that learn; biases and other vectors do not decay.

    Decay is AdamW's own (Loshchilov and Hutter, ICLR 2019); with adam and sgd it is that of torch,
    the gradient of ``decay / 2 · sum w²``. The agent of a policy has an Adam of its own.
    """
    agent = getattr(network.policy, "agent", None)
    if network.policy is None or agent is None:
        return Optimiser(main=_of_main(learning(network), config))
    deciding = set(map(id, agent.parameters()))
    main = _of_main([p for p in learning(network) if id(p) not in deciding], config)
    policy = torch.optim.Adam(agent.parameters(), lr=network.policy.policy_lr, fused=True)
    policy.param_groups[0]["scale"] = network.policy.policy_lr / config.lr
    return Optimiser(main=main, policy=policy)


def _of_main(parameters: Sequence[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    decay = config.weight_decay
    if decay is None:
        decay = 1e-2 if config.optimiser == "adamw" else 0.0
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, fused=True)  # one pass over the weights


def learning(network: nn.Module) -> list[Tensor]:
    """The parameters that are not frozen."""
    return [p for p in network.parameters() if p.requires_grad]


def statistics(network: nn.Module) -> list[Tensor]:
    """The buffers that a step may change: not those that stay as published (`fuse.text`)."""
    kept = network.state_dict()
    return [buffer for name, buffer in network.named_buffers() if name in kept]


def penalise(network: Network, l2: Mapping[str, float]) -> None:
    """Add the gradients of ``scale · sum w² / 2`` for the weights of parts of the network.

    As slim's l2_regularizer in google/youtube-8m; biases have none. Before clipping, as there. The
    penalty itself is never computed and does not stand in the loss that is shown.
    """
    for part, scale in l2.items():
        weights = [p for p in learning(network.get_submodule(part)) if p.ndim > 1]
        for weight in weights:
            if weight.grad is not None:
                weight.grad.add_(weight.detach(), alpha=scale)


def clip(parameters: Sequence[Tensor], config: TrainConfig) -> Float[Tensor, ""]:
    """Shorten the gradient to `clip_norm`: the whole, or each tensor's; its length before.

    Each tensor's is ``tf.clip_by_norm``, as google/youtube-8m trains.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch.stack(torch._foreach_norm(gradients))
    whole = torch.linalg.vector_norm(norms)
    lengths = norms if config.clip == "tensor" else whole.expand_as(norms)
    factors = config.clip_norm / lengths.clamp_min(config.clip_norm)
    if bool((factors < 1).any()):
        torch._foreach_mul_(gradients, list(factors.unbind()))
    return whole


class Average:
    """A moving average of the weights, which is what is evaluated and kept.

    ``a ← a + (1 - d) (w - a)`` with d = min(decay, (1 + n) / (10 + n)) after n steps, so that the
    first weights are soon forgotten (TensorFlow's ExponentialMovingAverage with num_updates).
    Buffers are taken as they are.
    """

    def __init__(self, network: Network, decay: float):
        self.network = copy.deepcopy(network).eval() if decay else network
        self._of, self.decay = network, decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after the step of this number, from 1."""
        if not self.decay:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        mine: list[Tensor] = list(self.network.parameters())
        new: list[Tensor] = list(self._of.parameters())
        torch._foreach_lerp_(mine, new, 1 - decay)
        for old, now in zip(statistics(self.network), statistics(self._of), strict=True):
            old.copy_(now)
