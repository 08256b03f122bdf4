"""How well a run does."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mmf import MmfError
from mmf.commands.shell import numbers, show_columns, show_table


@click.command()
@click.argument("run", type=click.Path())
@click.option("--store", help="Another store.  [default: the one the run was trained on]")
@click.option("--split", default="test", show_default=True)
@click.option("--label-set", help="Other labels of the store.  [default: those it learned]")
@click.option("--level", default="item", show_default=True, help="item, row, view or video; above.")
@click.option("--views", default="", help="Numbers from 0, e.g. 0,3,5.  [default: all]")
@click.option("--by", type=click.Choice(["class", "frequency"]), help="A table; above.")
@click.option("--out", type=click.Path(), help="FILE.csv for the table of --by.")
@click.option(
    "--choose-thresholds",
    is_flag=True,
    help="First choose each class's threshold by F1 on validation, and keep them with RUN.",
)
@click.option("--with", "others", multiple=True, metavar="RUN", help="Average with it; repeatable.")
@click.option("--weights", help="For example 2,1: of RUN and of those --with.  [default: alike]")
@click.option("--zero", default="", help="Features whose rows are made zeros, e.g. rgb,audio.")
@click.option("--without", default="", help="Features that are taken for missing, e.g. audio.")
@click.option("--sampled", is_flag=True, help="Draw a policy's decisions, as published.")
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def evaluate(run: str, **options: Any) -> None:
    """Measure RUN on a split of its store.

    \b
    mmf evaluate runs/mfb-1 --split test
    mmf evaluate runs/views-1 --level view --views 0,3,5
    mmf evaluate runs/mfb-1 --choose-thresholds --by class --out classes.csv
    mmf evaluate runs/mfb-1 --with runs/early-1 --weights 2,1

    Levels: an item is what is labelled. row: every stored row by itself, as an item of one row.
    view: the mean of the scores of a video's views, each by itself; row t * N_s + s of a feature
    extracted with --views N_txN_s is crop s of clip t. video: the mean of the scores of a video's
    items, against the union of their labels.

    By class: average precision and positives, and with thresholds precision, recall and F1. By
    frequency: their means over the classes with 1-9, 10-99, ... training items.
    """
    from mmf.fuse import Ensemble
    from mmf.fuse import evaluate as measure

    by, out, as_json = (options.pop(name) for name in ("by", "out", "as_json"))
    several, weights = options.pop("others"), options.pop("weights")
    for name in ("zero", "without", "views"):
        options[name] = tuple(part for part in options[name].split(",") if part)
    options["views"] = _numbers(options["views"])
    if out and not by:
        raise MmfError("--out is for a table: add --by class or --by frequency.")
    if (sampled := options.pop("sampled")) and by:
        raise MmfError("--sampled is not for a table by class: leave --by out.")
    if options.pop("choose_thresholds"):
        _choose_thresholds(run, several, options)
    what: Any = run
    if several or weights:
        shares = numbers("--weights", weights) if weights else None
        what = Ensemble([run, *several], weights=shares, device=options["device"])
    if by:
        _show_classes(what, by, out, as_json=as_json, **options)
        return
    measured = measure(what, sampled=sampled, **options)
    if as_json:
        click.echo(json.dumps(measured))
        return
    rows = [[name, _number(value)] for name, value in measured.items()]
    show_table(["metric", f"{options['split']} of {', '.join([run, *several])}"], rows)


def _choose_thresholds(run: str, several: Sequence[str], options: Mapping[str, Any]) -> None:
    from mmf.fuse import choose_thresholds

    if several:
        raise MmfError(
            "thresholds are chosen for the scores of one run and kept with it; --with measures the "
            "mean of several. Leave out --with or --choose-thresholds."
        )
    found = choose_thresholds(run, options["store"], device=options["device"])
    none = sum(value is None for value in found.values())
    rest = f"; {none} have no positive there" if none else ""
    click.echo(f"{run}: thresholds of {len(found)} classes, on validation{rest}", err=True)


def _show_classes(run: Any, by: str, out: str | None, *, as_json: bool, **options: Any) -> None:
    from pyarrow.csv import write_csv

    from mmf.fuse import by_frequency, evaluate_classes

    table = evaluate_classes(run, **options)
    table = by_frequency(table) if by == "frequency" else table
    if out:
        if Path(out).suffix != ".csv":
            raise MmfError(f"cannot write the table to {out!r}: expected a name in .csv.")
        write_csv(table, out)
        click.echo(f"{out}: {len(table)} rows", err=as_json)
    if as_json:
        click.echo(json.dumps({by: table.to_pylist()}))
    elif not out:
        rows = [[_number(value) for value in row.values()] for row in table.to_pylist()]
        show_columns(table.column_names, [rows])


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _numbers(texts: tuple[str, ...]) -> tuple[int, ...]:
    if not all(text.isdecimal() for text in texts):
        raise MmfError(f"--views {','.join(texts)}: expected numbers from 0, as in 0,3,5.")
    return tuple(map(int, texts))
