"""Learning rates over a training: pure functions of the step, so nothing of them is ever saved.

A schedule is its options: a frozen dataclass whose `factor` is what multiplies the learning rate.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass

from mmf import MmfError
from mmf.fuse.config import TrainConfig, build_options
from mmf.fuse.training import SCHEDULES


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a training will be, as far as a learning rate may depend on it."""

    batch_size: int  # items of a step
    epoch_steps: int
    steps: int  # in all, if nothing stops it before
    warmup: int = 0  # of them, in which the rate rises linearly from 0


class Schedule(ABC):
    """What multiplies the learning rate."""

    @abstractmethod
    def factor(self, step: int, course: Course) -> float:
        """The factor of the step with this number, from 0."""


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same throughout."""

    def factor(self, step: int, course: Course) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Staircase(Schedule):
    """``rate ** floor(examples seen / examples)``: google/youtube-8m's ``train.py``."""

    rate: float = 0.95
    examples: int = 4_000_000

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1 and self.examples >= 1):
            raise MmfError(
                f"a staircase of rate {self.rate} every {self.examples} examples: expected a rate "
                "above 0 and at most 1, and 1 example or more."
            )

    def factor(self, step: int, course: Course) -> float:
        """A step lower every so many examples."""
        return self.rate ** (step * course.batch_size // self.examples)


@dataclass(frozen=True, kw_only=True)
class Milestones(Schedule):
    """Times `rate` after each of these epochs, as AdaMML's unimodal pretraining (20, 40, 50)."""

    epochs: tuple[int, ...] = (20, 40, 50)
    rate: float = 0.1

    def __post_init__(self) -> None:
        if list(self.epochs) != sorted(set(self.epochs)) or not 0 < self.rate <= 1:
            raise MmfError(
                f"milestones at epochs {list(self.epochs)} of rate {self.rate}: expected rising "
                "numbers of epochs, and a rate above 0 and at most 1."
            )

    def factor(self, step: int, course: Course) -> float:
        """As many times the rate as milestones are passed."""
        return self.rate ** bisect_right(self.epochs, step // course.epoch_steps)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from the warm-up's end down to `floor` (Loshchilov and Hutter, ICLR 2017)."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise MmfError(f"a cosine down to {self.floor}: expected 0 to 1.")

    def factor(self, step: int, course: Course) -> float:
        """1 after the warm-up, `floor` after the last step."""
        done = (step - course.warmup) / max(course.steps - course.warmup, 1)
        done = min(max(done, 0.0), 1.0)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


def make_schedule(config: TrainConfig) -> Schedule:
    """The schedule that a config names; a list in its options (JSON has no other) is a tuple."""
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in config.schedule_options.items()}
    kind = SCHEDULES.load(config.schedule)
    return build_options(kind, given, f"the options of {config.schedule!r}")


def learning_rate(config: TrainConfig, made: Schedule, step: int, course: Course) -> float:
    """The rate of the step with this number, from 0."""
    warm = min(1.0, (step + 1) / course.warmup) if course.warmup else 1.0
    return config.lr * warm * made.factor(step, course)
