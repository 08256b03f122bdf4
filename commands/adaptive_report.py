"""What a prediction says that asked a policy: what was used and computed, and what that saved."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mmf.commands.adaptive import Adaptive
    from mmf.fuse.inference.scoring import Scored


class Report:
    """Counts what was decided while the scores go by."""

    def __init__(self, adaptive: "Adaptive"):
        from mmf.fuse.policy.usage import Usage

        self._adaptive, policy = adaptive, adaptive.policy
        self._modalities = policy.modalities
        self._used, self._all = (Usage(policy, adaptive.run.specs) for _ in range(2))

    def counting(self, scored: Iterable["Scored"]) -> Iterator["Scored"]:
        """The same scores."""
        for one in scored:
            if one.decisions is not None:
                self._used.add(one.decisions)
                self._all.add(replace(one.decisions, used=one.decisions.there))
            yield one

    def say(self, seconds: float) -> None:
        """Tell of all that went by, in so many seconds, on stderr."""
        used, every = self._used.result(), self._all.result()
        rates = ", ".join(f"{n} in {used[f'used_{n}']:.0%}" for n in self._modalities)
        gflops = ""
        if "gflops" in used:
            gflops = f"; {used['gflops']:.3g} of {every['gflops']:.3g} GFLOPs a video"
        click.echo(f"used: {rates} of the segments{gflops}", err=True)
        click.echo(_times(self._adaptive, seconds), err=True)


def _times(adaptive: "Adaptive", seconds: float) -> str:
    """What was computed, in what time, and what everything would have taken by the same measure."""
    saved, unknown, rows = {}, [], []
    for name in adaptive.others:
        every = sum(one.rows[name] for one in adaptive.counted.values())
        spent = [job.spent.forward[name] for job in adaptive.asked if name in job.spent.forward]
        there = sum(one.rows for one in spent)
        rows.append(f"{there} of {every} rows of {name}")
        if there:
            saved[name] = sum(one.seconds for one in spent) / there * (every - there)
        elif every:
            unknown.append(name)
    frames = sum(job.frames for job in adaptive.asked)
    if frames:
        each = sum(job.spent.decoder_cpu_seconds for job in adaptive.asked) / frames
        left = sum(one.frames for one in adaptive.counted.values()) - frames
        saved["decoding"] = max(0.0, each * left)
    lanes = max((job.spent.lanes for job in adaptive.asked), default=1)
    least = "at least" if unknown else "about"
    parts = ", ".join(f"{name} {of / lanes:.1f}" for name, of in saved.items())
    less = f", {least} {sum(saved.values()) / lanes:.1f} s less than everything takes"
    return (
        f"computed {', '.join(rows) or 'everything, which is needed to decide'}: {seconds:.1f} s, "
        f"{adaptive.deciding:.1f} of them to decide" + (f"{less} ({parts})" if saved else "")
    )
