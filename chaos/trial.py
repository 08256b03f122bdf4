"""What a trial is: so many faults made from a seed, and what was found to be wrong after them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a trial is to be run."""

    small: bool = False  # the form that takes seconds
    seed: int = 0  # what the trial draws comes from here alone


@dataclass(kw_only=True)
class Found:
    """What a trial found: the number of tries, and a sentence for each fault."""

    n: int = 0
    faults: list[str] = field(default_factory=list)
    said: str = ""  # what came of the tries, beside faults

    @property
    def bound(self) -> float | None:
        """The rate of faults that 0 faults in n tries leave possible at 95 %: the rule of three."""
        return 3 / self.n if self.n and not self.faults else None


# given an empty folder of its own
Trial = Callable[[Path, Setting], Found]
