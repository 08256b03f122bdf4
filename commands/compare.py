"""Runs side by side under equal budgets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.shell import STORE, plain, show_columns

if TYPE_CHECKING:
    from mmf.fuse.compare.question import Question


@click.command()
@click.option("--store", default=STORE, show_default=True)
@click.option("--out", default="comparison", show_default=True, help="The folder of all of it.")
@click.option("--fusions", default="concat", show_default=True, metavar="F1,F2")
@click.option("--aggregates", default="mean", show_default=True, metavar="A1,A2")
@click.option(
    "--feature-sets",
    default="",
    metavar="S1,S2",
    help="For example rgb,audio,rgb+audio.  [default: all of the store together]",
)
@click.option("--train-videos", default="", metavar="N1,N2", help="The learning curve: 500,5000.")
@click.option(
    "--grid",
    multiple=True,
    metavar="KEY=V1,V2",
    help="Chosen for each row on validation: lr=1e-3,1e-4, mfb.outputs=256,1000 (mfb's rows only).",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="The same everywhere.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--steps", type=int, help="Of every run.")
@click.option("--epochs", type=int, help="Of every run.  [default: 100]")
@click.option("--eval-every", type=int, metavar="STEPS", help="[default: an epoch]")
@click.option("--against", default="", metavar="ROW", help="What rows differ from.  [the first]")
@click.option("--resamples", default=2000, show_default=True, help="Of the bootstrap.")
@click.option("--device", help="auto, cpu or cuda.")
def compare(out: str, against: str, resamples: int, **options: Any) -> None:
    """Train what is named with several seeds under equal budgets, and print one table.

    Killed anywhere, the same command goes on. `--fusions single` is each feature alone.

    \b
    mmf compare --fusions single,concat,mfb --steps 200 --out comparison
    mmf compare --fusions concat,fc_concat,mfb --aggregates mean,netvlad,dbof --grid lr=1e-3,1e-4
    mmf compare --fusions concat,mfb --train-videos 500,5000
    """
    from mmf.fuse.compare import table
    from mmf.fuse.compare.comparison import compare as answer
    from mmf.fuse.compare.curves import draw

    question = _question(options)
    folder = Path(out)
    runs = question.seeds * sum(len(row.cells) for row in question.rows)
    click.echo(f"{runs} runs in {folder / 'runs'}", err=True)
    answers = answer(
        question,
        folder,
        against=against,
        resamples=resamples,
        tell=lambda sentence: click.echo(plain(sentence), err=True),
    )
    notes = table.notes(answers, against, resamples)
    table.write_csv(answers, folder / "table.csv")
    table.write_markdown(answers, folder / "table.md", notes)
    columns, cells = table.for_people(answers)
    show_columns(columns, [cells])
    for note in notes:
        click.echo(note)
    drawn = draw(answers, folder)
    click.echo(f"{folder}: {', '.join(['table.csv', 'table.md', *drawn])}")
    if not drawn:
        click.echo("For the curves: pip install 'mmf-video[plots]', and the same command again.")


def _question(options: dict[str, Any]) -> "Question":
    from mmf.fuse import TrainConfig
    from mmf.fuse.compare.grid import Axes, check_used, make_rows
    from mmf.fuse.compare.question import Question
    from mmf.store import FeatureStore

    store = FeatureStore(options["store"])
    sets = [tuple(f for f in one.split("+") if f) for one in _words(options["feature_sets"])]
    settings = {key: _one(text) for key, text in _pairs("--set", options["settings"])}
    for name in ("steps", "epochs", "eval_every", "device"):
        if options[name] is not None:
            settings[name] = options[name]
    grid = {key: _several(text) for key, text in _pairs("--grid", options["grid"])}
    axes = Axes(
        fusions=tuple(_words(options["fusions"])),
        aggregates=tuple(_words(options["aggregates"])),
        feature_sets=tuple(sets) or (tuple(sorted(store.features)),),
        train_videos=tuple(_number(n) for n in _words(options["train_videos"])) or (None,),
    )
    rows = make_rows(TrainConfig(store=options["store"]), axes, grid, settings)
    check_used([*settings, *grid], rows)
    return Question(rows=rows, seeds=options["seeds"])


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _pairs(option: str, given: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in given]
    for text, (key, equals, value) in zip(given, pairs, strict=True):
        if not (key and equals and value):
            raise MmfError(f"{option} {text!r}: expected KEY=VALUE.")
    return [(key, value) for key, _, value in pairs]


def _several(text: str) -> tuple[Any, ...]:
    """Values between commas: all JSON (numbers, lists, true), or each on its own."""
    try:
        return tuple(json.loads(f"[{text}]"))
    except json.JSONDecodeError:
        return tuple(_one(word) for word in _words(text))


def _one(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _number(text: str) -> int:
    if not text.isdigit():
        raise MmfError(f"--train-videos {text!r}: expected numbers of videos, e.g. 500,5000.")
    return int(text)
