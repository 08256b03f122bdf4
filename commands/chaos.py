"""`mmf chaos`: faults made on purpose, and what is lost by them."""

from pathlib import Path

import click

from mmf import MmfError
from mmf.commands.shell import plain, show_table

SHOWN = 20  # faults of a trial


@click.command()
@click.option("--small", is_flag=True, help="The form that takes a few minutes, not hours.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this trial; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="What the trials draw comes from it.")
@click.option("--out", type=click.Path(), help="Keep what the trials make in this new folder.")
def chaos(small: bool, only: tuple[str, ...], seed: int, out: str | None) -> int:
    """Break inputs, processes, names and disks on purpose, and count what is lost: nothing should.

    A line for each trial: how often it was tried, the faults found, and, where there are none, the
    rate of faults that so many tries leave possible at 95 % (3/n). Exit code 1 where a fault is
    found; the same seed makes it again.

    \b
    mmf chaos --small
    mmf chaos --only mutated --seed 7 --out damaged
    """
    from mmf.chaos.trial import Setting
    from mmf.chaos.trials import run

    folder = Path(out) if out is not None else None
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise MmfError(f"--out {out!r} is there and not empty. Name another folder.")
    rows, faults = [], 0
    for tried in run(Setting(small=small, seed=seed), only, folder):
        found = tried.found
        bound = "" if found.bound is None else f"< {found.bound:.2%}"
        counts = (f"{found.n:,}", str(len(found.faults)), bound, f"{tried.seconds:.0f}")
        rows.append((tried.name, *counts))
        click.echo(plain(f"{tried.name}: {len(found.faults)} faults in {found.n}. {found.said}"))
        for fault in found.faults[:SHOWN]:
            click.echo(plain(f"  {tried.name}, seed {seed}: {fault}"))
        faults += len(found.faults)
    show_table(("trial", "n", "faults", "bound", "seconds"), rows)
    return int(faults > 0)
