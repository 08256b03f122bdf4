"""What the commands share: where they look when nothing is said, and how they print."""

from collections.abc import Sequence
from typing import Any

import click

from mmf import MmfError, unknown

STORE = "features.mmf"
EVERY_SECONDS = 10.0  # between lines of progress where there is no terminal


class Commands(click.Group):
    """A group that suggests the nearest command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command that is meant, or an error that lists what exists."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


def console(*, stderr: bool = False) -> Any:
    """Rich's console, which neither colours numbers nor folds lines."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; what videos and labels are called is shown, never obeyed."""
    console().print(table_of(columns, rows))


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Rich's table of these cells, the numbers to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    return table


def show_columns(columns: Sequence[str], parts: Sequence[Sequence[Sequence[str]]]) -> None:
    """Print what is mostly words in aligned columns, the last one as long as it is; no frames."""
    rows = [columns, *(row for part in parts for row in part)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns) - 1)] + [0]
    for part in ([columns], *parts):
        for row in part:
            cells = (plain(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
        click.echo()


def plain(text: str) -> str:
    """The text without control characters: what a file is called is shown, never obeyed."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def in_bytes(n: float) -> str:
    """A number of bytes with its unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.1f} {unit}" if unit != "B" else f"{n:.0f} B"
        n /= 1024
    return f"{n:.1f} TiB"


def numbers(option: str, text: str) -> list[float]:
    """The numbers that an option names; MmfError for what is none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise MmfError(f"{option} {text!r}: expected numbers between commas.") from error
