"""Which modality the policy of a run used when: tables, and pictures beside the frames."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf.commands.explain.frames import say_lacking, segment_frames
from mmf.commands.explain.items import about_items, can_draw, check_some, check_videos, show

if TYPE_CHECKING:
    import pyarrow as pa

    from mmf.fuse.explain.selection import Selected
    from mmf.fuse.explain.selection_tables import Summary
    from mmf.fuse.explain.subject import Subject

_SHOWN = 20  # classes of the table, those with the most items


@click.command()
@about_items("selection")
@click.pass_obj
def selection(run: str, /, most: int, videos: str | None, out: str, **options: Any) -> None:
    """Which modality the policy of RUN used in which segment, with its seconds.

    \b
    mmf explain runs/policy-1 selection --out selection
    mmf explain runs/policy-1 selection --items clip.mp4 --videos clips

    All items are in OUT/selection.parquet, a row for each segment and modality; means by class in
    OUT/classes.csv, by modality in OUT/modalities.csv. The first --most are drawn, below frames of
    the video where its file is found.
    """
    from pyarrow.csv import write_csv

    from mmf.fuse.explain.selection import open_deciding, selections
    from mmf.fuse.explain.selection_tables import Summary, writing

    check_videos(videos)
    subject = open_deciding(run, **options)
    folder, summary, drawn = Path(out), Summary(), list["Selected"]()
    with writing(folder / "selection.parquet") as writer:
        for selected in selections(subject):
            writer.add(selected)
            summary.add(selected)
            drawn += [selected] if len(drawn) < most else []
        check_some(summary.items, subject)
    tables = {"classes": summary.by_class(), "modalities": summary.by_modality()}
    for name, table in tables.items():
        write_csv(table, folder / f"{name}.csv")
    _show(summary, tables, len(subject.items))
    pictures = _draw(subject, drawn, folder, videos)
    click.echo(f"{folder}: selection.parquet, classes.csv, modalities.csv, {pictures} pictures")


def _show(summary: "Summary", tables: Mapping[str, "pa.Table"], asked: int) -> None:
    by_class = tables["classes"].sort_by([("items", "descending"), ("class", "ascending")])
    for table in (by_class.slice(0, _SHOWN), tables["modalities"]):
        known = [name for name in table.column_names if table[name].null_count < len(table)]
        show(table.select(known))
    if len(by_class) > _SHOWN:
        click.echo(f"These are the {_SHOWN} of {len(by_class)} classes that have the most items.")
    said = [f"{summary.items} items"]
    if summary.items < asked:
        said.append(f"{asked - summary.items} more have no rows")
    if summary.nothing:
        said.append(f"{summary.nothing} of them use nothing")
    if summary.accuracy is not None:
        said.append(f"accuracy {summary.accuracy:.4f}")
    if summary.gflops is not None:
        spent, everything = summary.gflops
        said.append(f"{spent:.4g} GFLOPs of an item, {everything:.4g} if it used everything")
    click.echo("; ".join(said))


def _draw(subject: "Subject", drawn: Sequence["Selected"], folder: Path, videos: str | None) -> int:
    """The pictures of some items, below frames of those whose videos are found; how many."""
    from mmf.fuse.explain.selection_picture import draw
    from mmf.store.exchange.output import file_name

    if drawn and not can_draw():
        return 0
    frames = segment_frames(subject, drawn, videos)
    for selected in drawn:
        name = f"{file_name(selected.item.id)}.png"
        draw(selected, folder / name, frames.get(selected.item.id))
    say_lacking(len(drawn), len(frames), videos)
    return len(drawn)
