"""The options by which features are asked for, the same for every command that asks for some."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

C = TypeVar("C", bound=Callable[..., Any])

_MODALITY = click.option(
    "--modality", multiple=True, help="rgb, clip, flow, audio or text; repeatable."
)
_NETWORKS = (
    click.option(
        "--backbone",
        multiple=True,
        metavar="MODALITY=NAME[:VARIANT]",
        help="Which network; all: `mmf list backbones`.",
    ),
    click.option("--preset", help="The backbones where --backbone names none: `mmf list presets`."),
    click.option(
        "--weights",
        multiple=True,
        metavar="MODALITY=pretrained|PATH|hf://…|random:SEED",
    ),
    click.option(
        "--feature",
        multiple=True,
        metavar="NAME=MODALITY:BACKBONE[,key=value…]",
        help="The general form, for several of one modality from one decode.",
    ),
)
_ROWS = (
    click.option("--fps", type=float, help="Rows per second.  [default: 1]"),
    click.option("--window", type=float, help="Seconds of sound under a row.  [default: 0.96]"),
    click.option("--hop", type=float, help="Seconds from row to row, instead of --fps."),
    click.option("--audio-track", "track", metavar="lang=LANG|N|all", help="Which sound."),
    click.option("--segments", type=int, help="Rows at the middles of N equal parts."),
    click.option("--views", metavar="NTxNS", help="NT clips, NS (1 or 3) crops of each."),
    click.option("--decode", type=click.Choice(["exact", "fast"]), help="fast skips frames."),
)


def network_options(command: C) -> C:
    """Which networks, with which weights."""
    return _all(command, _NETWORKS)


def row_options(command: C) -> C:
    """Which networks of which modalities, and when their rows are taken."""
    return _all(command, (_MODALITY, *_NETWORKS, *_ROWS))


def _all(command: C, options: tuple[Callable[[C], C], ...]) -> C:
    for option in reversed(options):  # click lists them in the order in which they are written
        command = option(command)
    return command
