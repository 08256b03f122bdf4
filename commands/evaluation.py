"""How well a run does."""

import json
from typing import Any

import click

from mmf.commands.shell import show_table


@click.command()
@click.argument("run", type=click.Path())
@click.option("--store", help="Another store.  [default: the one the run was trained on]")
@click.option("--split", default="test", show_default=True)
@click.option("--label-set", help="Other labels of the store.  [default: those it learned]")
@click.option("--zero", default="", help="Features whose rows are made zeros, e.g. rgb,audio.")
@click.option("--without", default="", help="Features that are taken for missing, e.g. audio.")
@click.option(
    "--choose-thresholds",
    is_flag=True,
    help="First choose each class's threshold by F1 on validation, and keep them with RUN.",
)
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def evaluate(
    run: str, as_json: bool, zero: str, without: str, choose_thresholds: bool, **options: Any
) -> None:
    """Measure RUN on a split of its store.

    \b
    mmf evaluate runs/mfb-1 --split test
    mmf evaluate runs/mfb-1 --label-set segments --choose-thresholds
    """
    from mmf.fuse import choose_thresholds as choose
    from mmf.fuse import evaluate as measure

    if choose_thresholds:
        found = choose(run, options["store"], device=options["device"])
        none = sum(value is None for value in found.values())
        rest = f"; {none} have no positive there" if none else ""
        click.echo(f"{run}: thresholds of {len(found)} classes, on validation{rest}", err=True)
    measured = measure(run, zero=_names(zero), without=_names(without), **options)
    if as_json:
        click.echo(json.dumps(measured))
        return
    numbers = [(k, f"{v:.4f}" if isinstance(v, float) else str(v)) for k, v in measured.items()]
    show_table(["metric", f"{options['split']} of {run}"], [list(row) for row in numbers])


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)
