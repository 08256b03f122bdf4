"""Runs side by side under equal budgets."""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.cluster_options import cluster_options, profile_of
from mmf.commands.shell import STORE, plain, show_columns

if TYPE_CHECKING:
    from mmf.cluster.profile import Profile
    from mmf.fuse import TrainConfig
    from mmf.fuse.compare.elsewhere import Elsewhere
    from mmf.fuse.compare.question import Question, Row


@click.command()
@click.option("--store", default=STORE, show_default=True)
@click.option("--out", default="comparison", show_default=True, help="The folder of all of it.")
@click.option("--fusions", metavar="F1,F2", help="`mmf list fusions`.  [default: concat]")
@click.option("--aggregates", metavar="A1,A2", help="`mmf list aggregators`.  [default: mean]")
@click.option("--recipe", metavar="NAME", help="A paper's table: `mmf list recipes`.")
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
@cluster_options
@click.option("--workers", type=int, help="Of the cluster.  [default: as its cores allow]")
def compare(out: str, against: str, resamples: int, **options: Any) -> None:
    """Train what is named with several seeds under equal budgets, and print one table.

    Killed anywhere, the same command goes on. `--fusions single` is each feature alone.

    With --scheduler the trainings are spread over a cluster whose workers see the store and --out
    under the same paths. Each has as many threads as it would have here, so that the same numbers
    come of it; with OMP_NUM_THREADS=1 in the environment, one for each core of this machine.

    \b
    mmf compare --fusions single,concat,mfb --steps 200 --out comparison
    mmf compare --fusions concat,fc_concat,mfb --aggregates mean,netvlad,dbof --grid lr=1e-3,1e-4
    mmf compare --fusions concat,mfb --train-videos 500,5000
    OMP_NUM_THREADS=1 mmf compare --fusions concat,mfb --scheduler local
    mmf compare --recipe mfb_mean --feature-sets rgb+audio --steps 2000 --seeds 1
    """
    from mmf.fuse.compare import table
    from mmf.fuse.compare.comparison import compare as answer
    from mmf.fuse.compare.curves import draw

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise MmfError("`mmf compare` is one process; torchrun is for `mmf train`.")
    profile = profile_of(options)
    question, more = _question(options)
    folder = Path(out)
    runs = question.seeds * sum(len(row.cells) for row in question.rows)
    click.echo(f"{runs} runs in {folder / 'runs'}", err=True)
    with _said_once(), _trainer(profile, options["device"] == "cuda") as trainer:
        answers = answer(
            question,
            folder,
            against=against,
            resamples=resamples,
            tell=_tell,
            trainer=trainer,
        )
    notes = [*table.notes(answers, against, resamples), *more]
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


def _tell(sentence: str) -> None:
    click.echo(plain(sentence), err=True)


@contextmanager
def _trainer(profile: "Profile | None", gpu: bool) -> Iterator["Elsewhere | None"]:
    """What trains on the cluster, where there is one."""
    if profile is None:
        yield None
        return
    import torch

    from mmf.cluster.connect import connected
    from mmf.fuse.compare.elsewhere import Elsewhere

    if profile.scheduler == "local" and profile.workers is None:
        cores = len(os.sched_getaffinity(0))
        profile = replace(profile, workers=max(1, cores // torch.get_num_threads()))
    with connected(profile, gpu=gpu) as connection:
        if link := connection.dashboard:
            _tell(f"mmf: what the cluster does: {link}")
        yield Elsewhere(connection, profile, gpu=gpu, tell=_tell)


class _Once(logging.Filter):
    """Lets each sentence pass once."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        known = text in self._said
        self._said.add(text)
        return not known


@contextmanager
def _said_once() -> Iterator[None]:
    """Every run warns of the same items; once is enough."""
    filters = [(handler, _Once()) for handler in logging.getLogger().handlers]
    for handler, once in filters:
        handler.addFilter(once)
    try:
        yield
    finally:
        for handler, once in filters:
            handler.removeFilter(once)


def _question(options: dict[str, Any]) -> tuple["Question", tuple[str, ...]]:
    """What is asked, and what is to be said of it below the table."""
    from mmf.fuse import TrainConfig
    from mmf.fuse.compare.grid import Axes, check_used, make_rows
    from mmf.fuse.compare.question import Question
    from mmf.store import FeatureStore

    settings = {key: _one(text) for key, text in _pairs("--set", options["settings"])}
    for name in ("steps", "epochs", "eval_every", "device"):
        if options[name] is not None:
            settings[name] = options[name]
    grid = {key: _several(text) for key, text in _pairs("--grid", options["grid"])}
    sets = [tuple(f for f in one.split("+") if f) for one in _words(options["feature_sets"])]
    base = TrainConfig(store=options["store"])
    if options["recipe"]:
        rows, notes = _published(options, replace(base, features=_one_set(sets)), grid, settings)
    else:
        all_of_it = tuple(sorted(FeatureStore(options["store"]).features))
        axes = Axes(
            fusions=tuple(_words(options["fusions"] or "concat")),
            aggregates=tuple(_words(options["aggregates"] or "mean")),
            feature_sets=tuple(sets) or (all_of_it,),
            train_videos=tuple(_number(n) for n in _words(options["train_videos"])) or (None,),
        )
        rows, notes = make_rows(base, axes, grid, settings), ()
    check_used([*settings, *grid], rows)
    return Question(rows=rows, seeds=options["seeds"]), notes


def _published(
    options: dict[str, Any], base: "TrainConfig", grid: dict[str, Any], settings: dict[str, Any]
) -> tuple[tuple["Row", ...], tuple[str, ...]]:
    """The rows of a paper's table, with the settings and the grid; and what it leaves open."""
    from mmf.fuse.compare.grid import changed, make_row
    from mmf.fuse.recipes.contract import recipe

    for name in ("fusions", "aggregates", "train_videos"):
        if options[name]:
            raise MmfError(
                f"--recipe has rows of its own: leave --{name.replace('_', '-')} out, or set what "
                "all rows share with --set KEY=VALUE."
            )
    found = recipe(options["recipe"], base, options["steps"])
    rows = tuple(
        make_row(name, changed(row.config, settings), grid, row.published)
        for name, row in found.rows.items()
    )
    return rows, (f"Published: {found.source}.", *found.notes)


def _one_set(sets: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if len(sets) > 1:
        raise MmfError("--recipe takes one set of features, in its own order, e.g. rgb+audio.")
    return sets[0] if sets else ()


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
