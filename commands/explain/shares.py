"""What a run, or the runs of a comparison, owe to each modality: shares, with their spread."""

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.explain.items import can_draw, show

if TYPE_CHECKING:
    import pyarrow as pa


@click.command()
@click.option("--store", help="Another store.  [default: the one the run was trained on]")
@click.option("--split", help="[default: test]")
@click.option("--classes", default="", help="For example cat,dog.  [default: all, or of many some]")
@click.option("--out", default="shares", show_default=True, help="The folder of all of it.")
@click.option("--device", default="auto", show_default=True)
@click.pass_obj
def shares(run: str, /, classes: str, out: str, **options: Any) -> None:
    """What RUN, or each row of a comparison, owes to each modality, by Shapley's value.

    \b
    mmf explain runs/mixer-1 shares
    mmf explain comparison shares              # mean and deviation over the seeds of each row

    The share is of what a class's logit is with other items' rows in a modality's place. OUT has
    shares.csv; of a run, with what a modality adds alone and last, and a picture.
    """
    from pyarrow.csv import write_csv

    from mmf.fuse.explain.maps.compared import is_comparison

    named, folder = [name for name in classes.split(",") if name], Path(out)
    table = _of_rows(run, named, options) if is_comparison(run) else _of_run(run, named, options)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(table, folder / "shares.csv")
    show(table)
    written = ["shares.csv"]
    if "alone" in table.column_names and can_draw():
        from mmf.fuse.explain.stencils.picture import draw_shares

        draw_shares(table).savefig(folder / "shares.png", dpi=120)
        written.append("shares.png")
    click.echo(f"{folder}: {', '.join(written)}")


def _of_run(run: str, named: list[str], options: dict[str, Any]) -> "pa.Table":
    from mmf.fuse.explain.met import choose_classes, usual
    from mmf.fuse.explain.shares import shapley
    from mmf.fuse.explain.subject import open_subject

    subject = open_subject(run, **options)
    return shapley(subject, choose_classes(subject, named), usual(subject)).table()


def _of_rows(folder: str, named: list[str], options: dict[str, Any]) -> "pa.Table":
    """The rows of a comparison, of those whose logits rest on all modalities at once."""
    import pyarrow as pa

    from mmf.fuse.explain.maps.compared import tested
    from mmf.fuse.explain.seeds import spread

    runs, tables = defaultdict[str, list[Path]](list), []
    for row, path in tested(Path(folder)):
        runs[row].append(path)
    for row, paths in runs.items():
        try:
            found = spread(paths, classes=named, **options)
        except MmfError as error:
            click.echo(f"{row}: {error}", err=True)
            continue
        tables.append(found.add_column(0, "row", pa.array([row] * len(found))))
    if not tables:
        raise MmfError(f"comparison {folder!r} has no tested run whose shares can be told.")
    return pa.concat_tables(tables)
