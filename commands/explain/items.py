"""What the parts of `mmf explain` share: which items are asked about, and how tables are shown."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.shell import show_columns

if TYPE_CHECKING:
    import pyarrow as pa

    from mmf.fuse.explain.subject import Subject


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
    rows = [[cell(value) for value in row.values()] for row in table.to_pylist()]
    if rows:
        show_columns(table.column_names, [rows])


def cell(value: Any) -> str:
    """A value as tables show it."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def can_draw() -> bool:
    """Whether there is matplotlib; where it is not, how it is had is said."""
    if find_spec("matplotlib") is None:
        click.echo("For pictures: pip install 'mmf-video[plots]', and the same command again.")
        return False
    return True
