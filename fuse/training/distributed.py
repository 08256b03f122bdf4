"""Several processes that train one network: each has a part of every batch.

Started by torchrun, which says by RANK and WORLD_SIZE who is who; alone otherwise. Gradients are
summed over the processes, so that a step is that of one process with the whole batch.
"""

import atexit
import importlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from mmf import MmfError
from mmf.fuse.data import choose_device

T = TypeVar("T")
_PATIENCE = timedelta(days=1)  # the others wait while the first process evaluates


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a training, seen from one of them."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that evaluates, writes and speaks."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device called `name`; among several processes each has its own GPU."""
        if self.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
            name = f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}"
        found = choose_device(name)
        if self.size > 1 and found.type == "cuda":
            torch.cuda.set_device(found)  # where NCCL works
        return found

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes, in float64."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        return total.tolist()

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sum the gradients over the processes; one that has none counts as 0."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._sum([p.grad for p in parameters if p.grad is not None])

    def average_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Give all processes the mean of their buffers of numbers, such as batch statistics."""
        if self.size == 1:
            return
        numbers = [b for b in buffers if b.is_floating_point()]
        self._sum(numbers)
        for buffer in numbers:
            buffer.div_(self.size)

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, in all of them."""
        if self.size == 1:
            return make()
        values = [make() if self.first else None]
        distributed.broadcast_object_list(values)
        return values[0]  # type: ignore[return-value]

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, in all of them."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def _sum(self, tensors: Sequence[Tensor]) -> None:
        waiting = [distributed.all_reduce(t, async_op=True) for t in tensors]
        for one in waiting:
            one.wait()


@contextmanager
def joined() -> Iterator[World]:
    """The world that torchrun has started this process in, or one of its own.

    Processes that have met stay together until they end, for any number of trainings.
    """
    if distributed.is_available() and distributed.is_initialized():
        yield World(rank=distributed.get_rank(), size=distributed.get_world_size())
        return
    if "WORLD_SIZE" not in os.environ:
        yield World()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # The functions in it have the world as their default. Imported later, by transformers, they
    # would keep it and its threads beyond `destroy_process_group`: an abort, sometimes, at the end.
    importlib.import_module("torch.distributed.nn")
    try:
        distributed.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise MmfError(
            f"this process cannot join the others: {error}. Start all of them with "
            "`torchrun --nproc-per-node N -m mmf.cli train …`."
        ) from error
    atexit.register(distributed.destroy_process_group)  # a second meeting would find the first's
    world = World(rank=distributed.get_rank(), size=distributed.get_world_size())
    if not world.first:
        logging.getLogger("mmf").setLevel(logging.ERROR)  # said once
    yield world
