"""What each class of a run looks for, and in which modality: stencils, shares, and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf.commands.explain.frames import Asked, frames_of, say_lacking
from mmf.commands.explain.items import about_items, can_draw, cell, check_videos, show
from mmf.commands.shell import show_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from mmf.fuse.explain.stencils.over_time import OverTime
    from mmf.fuse.explain.stencils.scores import Said
    from mmf.fuse.explain.subject import Subject

_FRAMES = 9  # beside an item


@click.command()
@about_items("stencils")
@click.option("--classes", default="", help="For example cat,dog.  [default: all, or of many some]")
@click.option("--restarts", default=32, show_default=True, help="Stencils of a class.")
@click.option("--clusters", default=3, show_default=True, help="Of them, at most.")
@click.option("--seed", default=0, show_default=True, help="Of the noise that they begin from.")
@click.pass_obj
def stencils(
    run: str, /, classes: str, most: int, videos: str | None, out: str, **given: Any
) -> None:
    """What each class of RUN looks for, and what it owes to each modality.

    \b
    mmf explain runs/mixer-1 stencils --out stencils
    mmf explain runs/mixer-1 stencils --classes cat,dog --items clip.mp4

    A stencil is an input that RUN answers most with its class, found from noise; of the many of a
    class, like ones are put together. OUT has stencils.safetensors, clusters.csv (and how well each
    ranks the items: a stencil is for looking at), shares.csv, steps.parquet, and pictures: of each
    class, of all shares, and of the first --most items below frames of the video.

    The share of a modality is by Shapley's value, of what the logit is with other items' rows in
    its place: it needs no stencil. Alone is what a modality adds where nothing else is the item's
    own, last what it adds where everything else is; where a class needs both, alone is near 0.
    """
    from mmf.fuse.explain.met import choose_classes, usual
    from mmf.fuse.explain.shares import shapley
    from mmf.fuse.explain.stencils.scores import what_they_say
    from mmf.fuse.explain.stencils.search import StencilOptions, find_stencils
    from mmf.fuse.explain.subject import open_subject

    check_videos(videos)
    options = StencilOptions(**{name: given.pop(name) for name in ("restarts", "clusters", "seed")})
    subject = open_subject(run, **given)
    chosen = choose_classes(subject, [name for name in classes.split(",") if name])
    if not classes and len(chosen) < len(subject.run.classes):
        click.echo(
            f"of {len(subject.run.classes)} classes the {len(chosen)} with the most positive items "
            "here; --classes names others"
        )
    rests = usual(subject)
    said = what_they_say(subject, find_stencils(subject, chosen, rests, options))
    owed = shapley(subject, chosen, rests)
    _write(subject, said, owed, Path(out), most, videos)


def _write(
    subject: "Subject",
    said: Sequence["Said"],
    owed: Any,
    folder: Path,
    most: int,
    videos: str | None,
) -> None:
    from pyarrow.csv import write_csv
    from pyarrow.parquet import write_table

    from mmf.fuse.explain.stencils import tables
    from mmf.fuse.explain.stencils.over_time import over_time

    folder.mkdir(parents=True, exist_ok=True)
    drawn = list(over_time(subject, said, most))
    shares, clusters = tables.shares(owed, said), tables.clusters(said)
    write_csv(shares, folder / "shares.csv")
    write_csv(clusters, folder / "clusters.csv")
    write_table(tables.steps(drawn), folder / "steps.parquet")
    tables.write_stencils(said, folder / "stencils.safetensors")
    _show(said, shares)
    pictures = _draw(subject, said, shares, drawn, folder, videos)
    files = "stencils.safetensors, clusters.csv, shares.csv, steps.parquet"
    click.echo(f"{folder}: {files}, {pictures} pictures")


def _show(said: Sequence["Said"], shares: "pa.Table") -> None:
    from mmf.fuse.explain.stencils.scores import fidelity

    columns = ["class", "modality", "positives", "share", "alone", "last", "stencil_share"]
    show(shares.select(columns))
    ranked = [[one.stencils.name, cell(one.fidelity)] for one in said]
    show_columns(["class", "spearman of its stencil's scores and its logit"], [ranked])
    mean = fidelity(said)
    if mean is not None:
        click.echo(f"the stencils rank the items with Spearman {mean:.3f} in the mean of classes")
    if bare := [one.stencils.name for one in said if not one.positives]:
        click.echo(f"without a positive item here, so without shares: {', '.join(bare)}")


def _draw(
    subject: "Subject",
    said: Sequence["Said"],
    shares: "pa.Table",
    drawn: Sequence["OverTime"],
    folder: Path,
    videos: str | None,
) -> int:
    """The pictures of the classes, the shares and some items; how many."""
    from mmf.fuse.explain.stencils import picture as stencil_picture
    from mmf.store.exchange.output import file_name

    if not can_draw():
        return 0
    figures = {"shares": stencil_picture.draw_shares(shares)}
    figures |= {f"class {one.stencils.name}": stencil_picture.draw_stencils(one) for one in said}
    asked = {
        one.item.id: Asked(video_id=one.item.video_id, times=one.times(_FRAMES), begins=one.begins)
        for one in drawn
    }
    found = frames_of(subject.store, asked, videos)
    for one in drawn:
        key = one.item.id
        frames = dict(zip(asked[key].times, found.get(key, ()), strict=False))
        figures[f"item {one.item.id}"] = stencil_picture.draw_over_time(one, frames)
    for name, figure in figures.items():
        figure.savefig(folder / f"{file_name(name)}.png", dpi=120)
    say_lacking(len(drawn), len(found), videos)
    return len(figures)
