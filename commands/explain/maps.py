"""What `attention`, `sensitivity` and `similarity` share: which items, and how they are drawn."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.explain.frames import Asked, frames_of
from mmf.commands.shell import show_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from mmf.fuse.explain.map_figure import MapPicture
    from mmf.fuse.explain.subject import Subject

_FRAMES = 10  # of a picture


def about_items(out: str, most: int = 12) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a command about the items of a run, with the default of its folder."""
    options = [
        click.option("--store", help="Another store.  [default: the one the run was trained on]"),
        click.option("--split", help="[default: test, where no --items are named]"),
        click.option(
            "--items", multiple=True, metavar="ID",
            help="A video or an item, VIDEO@START-END; repeatable.",
        ),
        click.option(
            "--most", default=most, type=click.IntRange(min=0), show_default=True,
            help="Items to draw.",
        ),
        click.option(
            "--videos", type=click.Path(), help="The folder of the videos.  [default: as they were]"
        ),
        click.option("--out", default=out, show_default=True, help="The folder of all of it."),
        click.option("--device", default="auto", show_default=True),
    ]  # fmt: skip

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return give


def check_videos(videos: str | None) -> None:
    """Raise MmfError where what is named is no folder."""
    if videos is not None and not Path(videos).is_dir():
        raise MmfError(f"--videos {videos!r} is no folder. Name the one that was extracted.")


def check_some(items: int, subject: "Subject") -> None:
    """Raise MmfError where no item has a row."""
    if not items:
        raise MmfError(
            f"none of {len(subject.items)} items has a row of {', '.join(subject.run.specs)}, "
            "so there is nothing to look at."
        )


def show(table: "pa.Table") -> None:
    """Print a table of a few rows."""
    rows = [[_cell(value) for value in row.values()] for row in table.to_pylist()]
    if rows:
        show_columns(table.column_names, [rows])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def draw_all(
    subject: "Subject",
    pictures: Mapping[str, tuple["MapPicture", str, float]],
    folder: Path,
    videos: str | None,
) -> int:
    """Write the picture of each item, (it, its video, the video's first second); how many."""
    if pictures and find_spec("matplotlib") is None:
        click.echo("For pictures: pip install 'mmf-video[plots]', and the same command again.")
        return 0
    from mmf.fuse.explain.map_figure import draw
    from mmf.store.exchange.output import file_name

    asked = {}
    for item, (picture, video_id, begins) in pictures.items():
        start, end = picture.span
        each = (end - start) / _FRAMES
        times = [start + each * (i + 0.5) for i in range(_FRAMES)] if each else [start]
        asked[item] = Asked(video_id=video_id, times=times, begins=begins)
    frames = frames_of(subject.store, asked, videos)
    for item, (picture, _, _) in pictures.items():
        beside = dict(zip(asked[item].times, frames.get(item, ()), strict=False))
        draw(picture, folder / f"{file_name(item)}.png", beside)
    if lacking := len(pictures) - len(frames):
        where = f"in {videos!r}" if videos else "where they were extracted; --videos names a folder"
        click.echo(
            f"without frames: {lacking} of {len(pictures)} pictures, whose videos are not {where}"
        )
    return len(pictures)
