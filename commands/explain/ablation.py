"""What a run loses without each modality: a table, and a picture of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf.commands.explain.items import can_draw, cell, show
from mmf.commands.shell import show_columns

if TYPE_CHECKING:
    from mmf.fuse.explain.ablation import Ablation

_SHOWN = 20  # classes, those that lose most


@click.command()
@click.option("--store", help="Another store.  [default: the one the run was trained on]")
@click.option("--split", help="[default: test]")
@click.option("--by-class", is_flag=True, help="Show the classes that lose most, too.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Of the orders of rows.")
@click.option("--out", default="ablation", show_default=True, help="The folder of all of it.")
@click.option("--device", default="auto", show_default=True)
@click.pass_obj
def ablation(run: str, /, by_class: bool, out: str, **options: Any) -> None:
    """What RUN loses without each modality.

    \b
    mmf explain runs/mixer-1 ablation --out ablation

    Each modality is zeroed (its rows are zeros behind the normalisation), missing (masked), and
    shuffled (its rows in another order; "all": those of every modality). What is lost is told with
    a 95 % interval over videos. OUT has ablation.csv, classes.csv, and ablation.png.
    """
    from pyarrow.csv import write_csv

    from mmf.fuse.explain.ablation import ablate

    found, folder = ablate(run, **options), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(found.table(), folder / "ablation.csv")
    classes = found.by_class()
    write_csv(classes, folder / "classes.csv")
    _show(found)
    if by_class:
        show(classes.slice(0, _SHOWN))
    files = ["ablation.csv", "classes.csv"]
    if can_draw():
        from mmf.fuse.explain.ablation_picture import draw

        draw(found).savefig(folder / "ablation.png", dpi=120)
        files.append("ablation.png")
    click.echo(f"{folder}: {', '.join(files)}")


def _show(found: "Ablation") -> None:
    names = list(found.rows[0].metrics)
    rows = []
    for one in found.rows:
        low, high = one.interval or (None, None)
        interval = "" if low is None else f"{low:+.4f} … {high:+.4f}"
        lost = f"{one.lost[found.main]:+.4f}" if one.how else ""
        cells = [cell(one.metrics.get(name)) for name in names]
        rows.append([f"{one.modality} {one.how}".strip() or "whole", *cells, lost, interval])
    show_columns(["", *names, f"{found.main} lost", "95 %"], [rows])
