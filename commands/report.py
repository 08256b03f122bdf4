"""`mmf report`: a run, a comparison or a store as one page."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.report_media import Videos
from mmf.commands.shell import STORE, in_bytes, plain

if TYPE_CHECKING:
    from mmf.report import Page


@click.command()
@click.argument("path", default=STORE, type=click.Path())
@click.option("--out", default="report.html", show_default=True, help="The page.")
@click.option("--store", help="Of a run: another store.  [default: the one it was trained on]")
@click.option("--split", default="test", show_default=True, help="Of a run: what is measured.")
@click.option("--videos", type=click.Path(), help="The folder of the videos.  [default: as were]")
@click.option(
    "--examples",
    default=12,
    type=click.IntRange(min=0),
    show_default=True,
    help="Of a run: mistakes that are shown.",
)
@click.option(
    "--thumbnails",
    default=200,
    type=click.IntRange(min=0),
    show_default=True,
    help="Of a store: videos whose picture is shown; each takes a moment to decode.",
)
@click.option("--watch", is_flag=True, help="Write it again and again until the run is finished.")
@click.option(
    "--every",
    default=10.0,
    type=click.FloatRange(min=1),
    show_default=True,
    help="Seconds between two pages of --watch.",
)
@click.option("--device", default="auto", show_default=True)
def report(path: str, out: str, watch: bool, every: float, **options: Any) -> None:
    """Write PATH, a run, the folder of `mmf compare` or a store, as one page by itself.

    \b
    mmf report runs/mfb-1 --out report.html
    mmf report comparison
    mmf report features.mmf
    mmf report runs/mfb-1 --watch              # while it is trained
    """
    from mmf.report.rendering import libraries

    libraries()  # before anything is measured
    if options["videos"] is not None and not Path(options["videos"]).is_dir():
        raise MmfError(f"--videos {options['videos']!r} is no folder. Name the one extracted.")
    if not watch:
        _write(path, out, options, 0.0)
        return
    try:
        while not _is_over(path):
            _write(path, out, options, every)
            time.sleep(every)
    except KeyboardInterrupt:
        click.echo("", err=True)
    _write(path, out, options, 0.0)


def _write(path: str, out: str, options: dict[str, Any], reload_seconds: float) -> None:
    from mmf.report import write_page

    started = time.monotonic()
    page = _page(path, options, reload_seconds)
    size = write_page(page, out)
    for section in page.sections:
        if section.failed and section.id != "missing":
            click.echo(plain(f"mmf: {section.title}: {section.failed}"), err=True)
    click.echo(f"{out}: {in_bytes(size)}, {time.monotonic() - started:.1f} s")


def _page(path: str, options: dict[str, Any], reload_seconds: float) -> "Page":
    """The page of what lies at the path."""
    media = Videos(folder=options["videos"])
    if _is_comparison(path):
        from mmf.report.comparison_page import comparison_page

        return comparison_page(path, reload_seconds=reload_seconds)
    if _is_run(path):
        from mmf.report.run_page import RunPage

        names = ("store", "split", "device")
        of_run = {name: options[name] for name in names}
        found = RunPage(path, media=media, most=options["examples"], **of_run)
        return found.page(reload_seconds=reload_seconds)
    from mmf.report.store_page import store_page

    return store_page(
        _opened(path), media=media, most=options["thumbnails"], reload_seconds=reload_seconds
    )


def _opened(path: str) -> Any:
    from mmf.store import FeatureStore

    try:
        return FeatureStore(path)
    except MmfError as error:
        if "://" not in path and not (Path(path) / "mmf.json").exists():
            raise MmfError(
                f"{path!r} is nothing to report: expected a run (with config.json), the folder of "
                "a comparison (with compare.json) or a store (with mmf.json)."
            ) from error
        raise


def _is_over(path: str) -> bool:
    """Whether nothing more will come; of a store nobody knows."""
    if _is_comparison(path):
        from mmf.report.comparison_page import is_finished

        return is_finished(path)
    if _is_run(path):
        from mmf.report.run_page import RunPage

        return RunPage(path).finished
    _opened(path)
    return False


def _is_comparison(path: str) -> bool:
    return (Path(path) / "compare.json").is_file()


def _is_run(path: str) -> bool:
    return (Path(path) / "config.json").is_file()
