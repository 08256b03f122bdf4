"""`mmf demo`: the whole of mmf on clips that it makes itself."""

import shlex
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from mmf import MmfError
from mmf.commands.shell import STORE, show_table


@click.command()
@click.option("--out", default="mmf-demo", show_default=True, help="The folder to make.")
@click.option("--clips", default=200, show_default=True, help="How many clips to make.")
def demo(out: str, clips: int) -> None:
    """Make clips, extract them, train and compare: the whole of mmf in under two minutes, offline.

    \b
    mmf demo --out mmf-demo
    """
    from mmf.extract.sample_set import make_sample_set
    from mmf.fuse import evaluate as measure

    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise MmfError(f"{out!r} is there and not empty. Name another folder with --out.")
    begun = time.monotonic()
    click.echo(f"making {clips} clips in {folder / 'clips'} (class = colour of a shape + pitch)")
    make_sample_set(folder / "clips", clips=clips)
    store, runs = str(folder / STORE), folder / "runs"
    modalities = ("rgb", "audio", "flow", "text")
    wanted = [word for m in modalities for word in ("--modality", m)]
    _do("extract", str(folder / "clips"), "--store", store, "--preset", "embedded", *wanted)
    _do("split", store, "--fractions", "0.6,0.15,0.25")
    trained = {f"{m} alone": ("single", m) for m in modalities}
    trained |= {"concat, all": ("concat", ",".join(modalities))}
    trained |= {"mfb, rgb+audio": ("mfb", "rgb,audio")}
    scores: dict[str, Mapping[str, Any]] = {}
    for title, (fusion, features) in trained.items():
        run = str(runs / title.replace(" alone", "").replace(", ", "-"))
        _do("train", "--store", store, "--fusion", fusion, "--features", features, "--out", run)
        scores[title] = measure(run, split="test")
    predictions = str(folder / "predictions.csv")
    _do("predict", run, "--store", store, "--split", "test", "--out", predictions)
    rows = [
        [t, f"{s['accuracy']:.3f}", f"{s['mean_class_accuracy']:.3f}", f"{s['gap@20']:.3f}"]
        for t, s in scores.items()
    ]
    columns = ["model", "accuracy", "mean class accuracy", "gap@20"]
    show_table(columns, rows)
    _write_report(folder / "report.md", columns, rows)
    if all(find_spec(name) for name in ("jinja2", "matplotlib", "plotly", "sklearn")):
        _do("report", run, "--out", str(folder / "report.html"))
    else:
        click.echo("For a page of all of it: pip install 'mmf-video[report]', then mmf report.")
    click.echo(
        f"test split; {folder / 'report.md'} and {predictions} are written; "
        f"{time.monotonic() - begun:.0f} s in all"
    )


def _do(*arguments: str) -> None:
    """Run a command as a user would, and show it."""
    click.echo(f"$ mmf {shlex.join(arguments)}")
    mmf: Any = click.get_current_context().find_root().command
    code = mmf.main(list(arguments), prog_name="mmf", standalone_mode=False)
    if code:
        raise MmfError(f"`mmf {shlex.join(arguments)}` ended with {code}.")


def _write_report(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    lines = ["# mmf demo", "", "Accuracy on held-out clips; the class is colour and pitch.", ""]
    for cells in (columns, ["---"] * len(columns), *rows):
        lines.append(f"| {' | '.join(cells)} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
