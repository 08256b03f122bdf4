"""How local the attention of a run is in what it does, or of all runs of a comparison."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf.commands.explain.items import about_items, check_some, check_videos, show
from mmf.commands.explain.maps import draw_all

if TYPE_CHECKING:
    from mmf.fuse.layers.neighbourhood import Neighbourhood


@click.command()
@about_items("sensitivity", most=4)
@click.option(
    "--extent", type=click.IntRange(min=1),
    help="Near is so many steps to each side.  [default: as the layer's neighbourhood]",
)  # fmt: skip
@click.option(
    "--probes", type=click.IntRange(min=0),
    help="Random probes of a Jacobian; 0: exact.  [default: exact up to 1024 numbers, then 8]",
)  # fmt: skip
@click.option(
    "--first", type=click.IntRange(min=1), default=8, show_default=True,
    help="Items to measure; each takes as many backward passes as it has steps times probes.",
)  # fmt: skip
@click.pass_obj
def sensitivity(
    run: str,
    /,
    most: int,
    videos: str | None,
    out: str,
    extent: int | None,
    probes: int | None,
    first: int,
    **options: Any,
) -> None:
    """How much more a step's output of RUN's attention moves with near steps than with far ones.

    \b
    mmf explain runs/gmsa-1 sensitivity --out sensitivity
    mmf explain comparison sensitivity --extent 6

    S is 0.5 where near and far count alike, 1 where far steps do not count (Sahu and Goyal 2021,
    equation 10). OUT/sensitivity.parquet has it for each step, OUT/layers.csv means over items. Of
    a folder of `mmf compare`, OUT/runs.csv has each run's mean S beside its test metric, with their
    rank correlation.
    """
    from mmf.fuse.explain.maps.compared import is_comparison
    from mmf.fuse.layers.neighbourhood import Neighbourhood

    near = None if extent is None else Neighbourhood(mask="toeplitz", extent=extent)
    if is_comparison(run):
        return _of_comparison(run, Path(out), near, probes, first, options)
    check_videos(videos)
    return _of_run(run, Path(out), near, probes, (first, most), videos, options)


def _of_run(
    run: str,
    folder: Path,
    near: "Neighbourhood | None",
    probes: int | None,
    numbers: tuple[int, int],
    videos: str | None,
    options: dict[str, Any],
) -> None:
    from itertools import islice

    from pyarrow.csv import write_csv

    from mmf.fuse.explain.maps.pictures import sensitivity_picture
    from mmf.fuse.explain.maps.sensitivity import sensitivities
    from mmf.fuse.explain.maps.tables import SENSITIVITY, Means, known, local_steps, writing
    from mmf.fuse.explain.subject import open_subject

    subject, pictures, items = open_subject(run, **options), dict[str, Any](), 0
    each, means = sensitivities(subject, near, probes), Means(by=("layer",), of=("S", "steps"))
    with writing(folder / "sensitivity.parquet", SENSITIVITY) as file:
        for found in islice(each, numbers[0]):
            items += 1
            for one in found:
                file.add(local_steps(one))
                its = {"layer": one.layer, "S": known(one.mean), "steps": len(one.steps)}
                means.add([its])
            if found and len(pictures) < numbers[1]:
                first = found[0]
                picture = sensitivity_picture(found), first.item.video_id, first.begins
                pictures[first.item.id] = picture
        check_some(items, subject)
    write_csv(means.table(), folder / "layers.csv")
    show(means.table())
    of = f" of {len(subject.items)}" if items < len(subject.items) else ""
    click.echo(f"{items}{of} items; S: 0.5 near as far, 1 near alone, - where near is everything")
    number = draw_all(subject, pictures, folder, videos)
    click.echo(f"{folder}: sensitivity.parquet, layers.csv, {number} pictures")


def _of_comparison(
    run: str,
    folder: Path,
    near: "Neighbourhood | None",
    probes: int | None,
    first: int,
    options: dict[str, Any],
) -> None:
    import pyarrow as pa
    from pyarrow.csv import write_csv

    from mmf import MmfError
    from mmf.fuse.explain.association import spearman
    from mmf.fuse.explain.maps.compared import sensitive_runs
    from mmf.fuse.explain.maps.tables import known
    from mmf.store.exchange.output import finished

    if options["split"] or options["items"]:
        raise MmfError("a comparison is asked on its test split; leave --split and --items out.")
    found = list(
        sensitive_runs(
            run, options["store"], neighbourhood=near, probes=probes, most=first,
            device=options["device"],
        )
    )  # fmt: skip
    metric = found[0].metric
    table = pa.table(
        {
            "row": [one.row for one in found],
            "run": [str(one.run) for one in found],
            metric: [one.value for one in found],
            "S": pa.array([known(one.local) for one in found], pa.float64()),
            "items": [one.items for one in found],
        }
    )
    with finished(folder / "runs.csv") as part:
        write_csv(table, part)
    show(table.drop_columns("run"))
    of = spearman([one.value for one in found], [one.local for one in found])
    if math.isnan(of.rho):
        click.echo(f"n = {of.n} runs: no rank correlation of fewer than 3, or of equal numbers")
    else:
        rows = len({one.row for one in found})
        click.echo(
            f"Spearman of {metric} and S: {of.rho:+.3f}, n = {of.n} runs of {rows} rows, "
            f"p = {of.p:.3f} by permutation; seeds of a row are no independent runs"
        )
    click.echo(f"{folder}: runs.csv")
