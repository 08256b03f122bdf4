"""The stages of AdaMML's training: what each epoch learns is a function of its number alone.

single     each modality's network by itself, all at once: they share no weight
warm_up    the networks together, with the decisions of a policy that has learned nothing yet
alternate  an epoch the networks, without a cost, then an epoch the policy, in turn: n of them are
           2 n epochs of the loop. The temperature falls after each pair
tune       the networks with the policy as it is, from the best weights so far

At the first step of a stage the optimisers begin anew. In the authors' code the schedulers still
held the old ones then, so that their learning rates never fell after the first stage; here they do.
A training of another length has these stages in proportion, milestones and temperatures with them.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmf import MmfError, unknown
from mmf.fuse.policy.contract import Stage

NAMES = ("single", "warm_up", "alternate", "tune")
EPOCHS: Mapping[str, int] = {"single": 60, "warm_up": 5, "alternate": 20, "tune": 10}
MILESTONES: Mapping[str, tuple[int, ...]] = {"single": (20, 40, 50), "alternate": (10, 15)}
_MAIN, _POLICY = frozenset({"main"}), frozenset({"policy"})


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The stages by their published lengths; without a policy that learns, its epochs are left out.

    `milestones` are the epochs of a stage after which its learning rates fall to a tenth.
    """

    epochs: Mapping[str, int] = field(default_factory=lambda: EPOCHS)
    milestones: Mapping[str, Sequence[int]] = field(default_factory=lambda: MILESTONES)
    temperature: float = 5.0  # at first
    decay: float = 0.965  # of the temperature, after each pair of epochs
    learned: bool = True

    def __post_init__(self) -> None:
        for what, given in (("epochs", self.epochs), ("milestones", self.milestones)):
            for name in given:
                if name not in NAMES:
                    raise unknown(f"stage of {what}", name, NAMES)
        if not all(type(n) is int and n >= 0 for n in self.epochs.values()) or not self.total:
            raise MmfError(
                f"epochs = {dict(self.epochs)}: expected whole numbers of 0 or more, not all 0."
            )
        if self.temperature <= 0 or not 0 < self.decay <= 1:
            raise MmfError(
                f"temperature {self.temperature} and decay {self.decay}: expected more than 0, and "
                "a decay of at most 1."
            )

    @property
    def total(self) -> int:
        """Epochs of the loop."""
        return sum(self._length(name) for name in NAMES)

    def at(self, step: int, steps: int, epoch_steps: int) -> Stage:
        """What the step with this number learns, in a training of so many steps."""
        epoch, epochs = step // epoch_steps, -(-steps // epoch_steps)
        starts = self._starts(epochs)
        number = bisect_right(starts, epoch) - 1
        name, first = NAMES[number], starts[number]
        length = (starts[number + 1] if number + 1 < len(NAMES) else epochs) - first
        pair = 2 if self._in_turn(name) else 1
        of = self.epochs.get(name, 0)
        done = (epoch - first) // pair * of / max(1, length // pair)  # published epochs of it
        policy = pair == 2 and (epoch - first) % 2 == 1
        done_pairs = {"alternate": done, "tune": self.epochs.get("alternate", 0)}.get(name, 0)
        counting = next((n for n in ("alternate", "tune") if self._has(n, starts, epochs)), name)
        begins = step == first * epoch_steps
        return Stage(
            name=name,
            learns=_POLICY if policy else _MAIN,
            temperature=self.temperature * self.decay**done_pairs,
            rate=0.1 ** bisect_right(self.milestones.get(name, ()), done),
            weight=float(policy),
            begins=begins,
            takes_best=begins and name == "tune",
            first_to_count=begins and name == counting,
        )

    def _length(self, name: str) -> int:
        return self.epochs.get(name, 0) * (2 if self._in_turn(name) else 1)

    def _in_turn(self, name: str) -> bool:
        return name == "alternate" and self.learned

    def _starts(self, epochs: int) -> list[int]:
        """The first epoch of each stage in a training of so many; a pair is never cut in two.

        A stage that there is has an epoch, or a pair, as long as there are enough for all.
        """
        shares = [self._length(name) for name in NAMES]
        each = zip(NAMES, shares, strict=True)
        fewest = [min(n, 2 if self._in_turn(name) else 1) for name, n in each]
        if epochs < sum(fewest):
            raise MmfError(
                f"a training of {epochs} epochs has no room for the policy's stages; expected at "
                f"least {sum(fewest)}: one each of {', '.join(n for n in NAMES if self._length(n))}"
                ", two where policy and networks learn in turn."
            )
        starts, left, rest = [0], epochs, sum(shares)
        for number, name in enumerate(NAMES[:-1]):
            most = left - sum(fewest[number + 1 :])
            pair = 2 if self._in_turn(name) else 1
            wanted = round(left * shares[number] / max(rest, 1) / pair) * pair
            length = min(max(wanted, fewest[number]), most // pair * pair)
            starts.append(starts[-1] + length)
            left, rest = left - length, rest - shares[number]
        return starts

    def _has(self, name: str, starts: list[int], epochs: int) -> bool:
        number = NAMES.index(name)
        end = starts[number + 1] if number + 1 < len(starts) else epochs
        return end > starts[number]
