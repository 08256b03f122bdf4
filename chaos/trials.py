"""The trials of `mmf chaos` by name, in their order."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmf import unknown
from mmf.chaos.flips import flips
from mmf.chaos.killed import killed
from mmf.chaos.mutated import mutated
from mmf.chaos.names import names
from mmf.chaos.points import errnos, points
from mmf.chaos.poison import poison
from mmf.chaos.racing import racing
from mmf.chaos.reading import reading
from mmf.chaos.stopped import stopped
from mmf.chaos.together import together
from mmf.chaos.trial import Found, Setting, Trial
from mmf.chaos.tricks import tricks

# those that fork come first, while no library with threads of its own is loaded
TRIALS: dict[str, Trial] = {
    "points": points,
    "errno": errnos,
    "racing": racing,
    "reading": reading,
    "flips": flips,
    "tricks": tricks,
    "names": names,
    "mutated": mutated,
    "poison": poison,
    "killed": killed,
    "together": together,
    "stopped": stopped,
}


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A trial that was run."""

    name: str
    found: Found
    seconds: float


def run(setting: Setting, only: Sequence[str] = (), out: Path | None = None) -> Iterator[Tried]:
    """Run the trials, or `only` these; what they make stays in `out`, if any.

    Raises MmfError for a name that is none.
    """
    for name in only:
        if name not in TRIALS:
            raise unknown("trial", name, TRIALS)
    for name, trial in TRIALS.items():
        if only and name not in only:
            continue
        begun = time.monotonic()
        if out is None:
            with tempfile.TemporaryDirectory(prefix="mmf-chaos-") as folder:
                found = trial(Path(folder), setting)
        else:
            (out / name).mkdir(parents=True)
            found = trial(out / name, setting)
        yield Tried(name=name, found=found, seconds=time.monotonic() - begun)
