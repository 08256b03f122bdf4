"""One step of a training: batches → gradients → weights."""

import math
import threading
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mmf.fuse import LOSSES
from mmf.fuse.data import Inputs, inputs, with_rows
from mmf.fuse.layers.self_attention import SelfAttention
from mmf.fuse.losses import smoothed
from mmf.fuse.network import Network
from mmf.fuse.policy.contract import Stage
from mmf.fuse.policy.noise import noise
from mmf.fuse.run import Run
from mmf.fuse.text.bert import Attention
from mmf.fuse.training.chance import seed_step
from mmf.fuse.training.distributed import World
from mmf.fuse.training.optimiser import Average, Optimiser, clip, learning, penalise, statistics
from mmf.fuse.training.resume import State
from mmf.fuse.training.sampling import sampled
from mmf.fuse.training.schedule import Course, Schedule, learning_rate
from mmf.matmul import fast_matmul
from mmf.store import Batch, Item

_WIDE = 512  # numbers of a step: from here on attention gains by oneDNN, too


@dataclass(frozen=True, kw_only=True, eq=False)
class Learning:
    """What a step changes, and by what rules."""

    run: Run
    world: World
    network: Network
    average: Average
    optimiser: Optimiser
    schedule: Schedule
    course: Course

    def stage(self, step: int) -> Stage | None:
        """What the step with this number learns, of a network that learns in stages."""
        policy, course = self.network.policy, self.course
        return None if policy is None else policy.stage(step, course.steps, course.epoch_steps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What came of a step."""

    loss: float  # mean over its items, without penalties
    items: int  # that counted, over all processes
    norm: float  # length of the whole gradient
    given: Sequence[Sequence[Item]]  # to this process
    stopping: bool  # some process was told to stop

    @property
    def finite(self) -> bool:
        """False: the weights and buffers are as they were before the step."""
        return math.isfinite(self.loss + self.norm)


def learn(what: Learning, batches: Iterable[Batch], state: State, stop: threading.Event) -> Learned:
    """Take the step after `state`, whose items are `batches`, and this process's part of them."""
    config, network, world = what.run.config, what.network, what.world
    stage = what.stage(state.step)
    if stage is not None:
        what.optimiser.learn(stage.learns)
    buffers = statistics(network)
    before = [b.clone() for b in buffers]
    parameters = learning(network)
    mine, number, given = _gradients(what, batches, state, stage)
    loss, items, stops = world.sum([mine, float(number), float(stop.is_set())])
    world.sum_gradients(parameters)
    world.average_buffers(buffers)
    if items and items != config.batch_size:
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, config.batch_size / items)
    penalise(network, config.l2)
    learned = Learned(
        loss=loss / max(items, 1),
        items=int(items),
        norm=float(clip(parameters, config)),
        given=given,
        stopping=stops > 0,
    )
    if not learned.finite:
        for now, then in zip(buffers, before, strict=True):
            now.copy_(then)
        return learned
    for group in what.optimiser.param_groups:
        rate = learning_rate(config, what.schedule, state.step, what.course)
        group["lr"] = rate * group["scale"] * (1.0 if stage is None else stage.rate)
    what.optimiser.step()
    what.average.update(state.step + 1)
    return learned


def _gradients(
    what: Learning, batches: Iterable[Batch], state: State, stage: Stage | None
) -> tuple[float, int, list[Sequence[Item]]]:
    """Sum of the items' losses, their number, the items; gradients of that sum ÷ batch_size."""
    run, config, network = what.run, what.run.config, what.network
    device = next(network.parameters()).device
    network.train(stage is None or "main" in stage.learns)
    what.optimiser.zero_grad()
    total, number, given = torch.zeros((), dtype=torch.float64, device=device), 0, []
    for part, batch in enumerate(batches):
        given.append(batch.items)
        counted = batch.rated.any(1) & with_rows(batch)
        n = int(counted.sum())
        if not n:
            continue
        seed_step(config.seed, state.step, part * what.world.size + what.world.rank, device)
        one = sampled(inputs(batch, run.specs, device), batch, config, state.epoch)
        which = slice(None) if n == len(batch) else torch.from_numpy(counted).to(device)
        loss = _loss_of(what, one, batch, which, state)
        (loss * (n / config.batch_size)).backward()
        total += loss.detach() * n
        number += n
    return total.item(), number, given


def _loss_of(
    what: Learning, one: Inputs, batch: Batch, which: Tensor | slice, state: State
) -> Tensor:
    """The mean of the losses of some items; of a policy, what its stage makes small."""
    run, network, policy = what.run, what.network, what.network.policy
    labels, rated, device = one.labels[which], one.rated[which], one.labels.device
    bf16 = torch.autocast(device.type, torch.bfloat16, enabled=run.config.precision == "bf16")
    if policy is None:
        with bf16:
            logits = network(one.features, one.masks, one.videos)
        return _answers_loss(run, logits[which], labels, rated)
    stage = policy.stage(state.step, what.course.steps, what.course.epoch_steps)
    drawn = noise(policy, batch.items, seed=run.config.seed, epoch=state.epoch, device=device)
    with bf16:
        decided = network.decide(one.features, one.masks, drawn, stage.temperature)
    own = partial(_answers_loss, run)
    return policy.loss(decided.take(which), labels, rated, own, stage)


def _answers_loss(run: Run, logits: Tensor, labels: Tensor, rated: Tensor) -> Tensor:
    if run.config.label_smoothing:
        labels = smoothed(labels, rated, run.loss, run.config.label_smoothing)
    loss: Tensor = LOSSES.load(run.loss)(logits, labels, rated)
    return loss


def products(network: Network) -> AbstractContextManager[None]:
    """On a CPU float32 products by the faster library, where that pays for this network.

    oneDNN is twice as fast in linear layers, and up to eight times slower in the many tiny products
    of attention with narrow heads, which then are most of what a narrow network computes.
    """
    kinds = (SelfAttention, Attention)
    widths = [m.width for m in network.modules() if isinstance(m, kinds)]
    return fast_matmul() if max(widths, default=_WIDE) >= _WIDE else nullcontext()
