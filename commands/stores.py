"""What is done with a store: look, check, mend, tidy, delete, label, split."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from mmf import MmfError
from mmf.commands.shell import STORE, in_bytes, plain, show_table
from mmf.commands.watching import watch_store


@click.command()
@click.argument("store", default=STORE)
@click.option("--failures", is_flag=True, help="A row for each video that could not be used.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--watch", is_flag=True, help="Look again every few seconds, until Ctrl-C.")
def status(store: str, failures: bool, as_json: bool, watch: bool) -> int:
    """Say what is in STORE: features, recipes, videos done, skipped and failed, bytes.

    With --watch only what changes while others fill it; with --json, an object on each line.

    \b
    mmf status features.mmf --failures
    mmf status features.mmf --watch
    """
    from mmf.store import FeatureStore
    from mmf.store.overview import describe

    opened = FeatureStore(store)
    if watch:
        if failures:
            raise MmfError("--watch shows numbers alone: leave --failures out.")
        return watch_store(opened, as_json=as_json)
    found = describe(opened)
    if failures or as_json:
        found["failures"] = opened.failures().to_pylist()
    if as_json:
        click.echo(json.dumps(found))
        return 0
    click.echo(
        f"{store}: {found['videos']} videos, {in_bytes(found['bytes'])}, content {found['content']}"
    )
    show_table(
        ["feature", "from", "row", "dtype", "done", "skipped", "failed", "missing", "rows"],
        [
            [f, x["backbone"], "×".join(map(str, x["shape"])), x["dtype"]]
            + [str(x[k]) for k in ("done", "skipped", "failed", "missing", "rows")]
            for f, x in found["features"].items()
        ],
    )
    for f, x in found["features"].items():
        if x["reasons"]:
            click.echo(f"{f}: " + ", ".join(f"{n} {why}" for why, n in x["reasons"].items()))
    flops = {f: x["flops_per_row"] for f, x in found["features"].items() if x["flops_per_row"]}
    if flops:
        each = ", ".join(f"{f} {of / 1e9:.3g}" for f, of in flops.items())
        click.echo(f"GFLOPs of a row, a product and its sum as two: {each}")
    for line in _measured(found["features"]):
        click.echo(line)
    for name, labels in found["label_sets"].items():
        splits = ", ".join(f"{k} {v}" for k, v in labels["splits"].items())
        click.echo(
            f"labels {name!r}: {labels['items']} items, {labels['classes']} classes; {splits}"
        )
    for (video, reason, stage, message), features in _by_failure(found.get("failures", ())):
        click.echo(plain(f"{video}: {reason} in {stage} of {', '.join(features)}: {message}"))
    return 0


def _measured(features: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """What the rows took where they were made."""
    for name, what in (("compute", "to compute"), ("decode", "to decode")):
        of = {f: x["milliseconds_per_row"][name] for f, x in features.items()}
        if each := ", ".join(f"{f} {ms:.3g}" for f, ms in of.items() if ms is not None):
            yield f"measured ms of a row {what}: {each}"


def _by_failure(rows: Iterable[Mapping[str, Any]]) -> Iterable[tuple[tuple[str, ...], list[str]]]:
    """The features that each video failed in, for the same reason."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        key = tuple(str(row[c]) for c in ("video_id", "reason", "stage", "message"))
        found.setdefault(key, []).append(row["feature"])
    return sorted(found.items())


@click.command()
@click.argument("store", default=STORE)
def verify(store: str) -> int:
    """Check every committed byte of STORE against its digest.

    \b
    mmf verify features.mmf
    """
    from mmf.store.verify import verify as check

    problems = check(store)
    for problem in problems:
        click.echo(f"{problem.path}: {problem.what}")
    click.echo(f"{store}: {len(problems)} problems" if problems else f"{store}: whole")
    return 74 if problems else 0


@click.command()
@click.argument("store", default=STORE)
def repair(store: str) -> int:
    """Mend what `mmf verify` finds in STORE; what cannot be read is for `mmf extract` to do again.

    Damaged files are kept in its folder 'lost'.

    \b
    mmf repair features.mmf && mmf extract clips --store features.mmf --modality rgb
    """
    from mmf.store.repair import repair as mend
    from mmf.store.verify import verify as check

    again = 0
    for one in mend(store):
        click.echo(f"{one.path}: {one.what}")
        for feature, video in one.lost:
            click.echo(plain(f"  to extract again: {feature} of {video}"))
        again += len(one.lost)
    problems = check(store)
    for problem in problems:
        click.echo(f"{problem.path}: {problem.what}; restore it from a copy")
    click.echo(f"{store}: {again} to extract again, {len(problems)} problems left")
    return 74 if problems else 0


@click.command()
@click.argument("store", default=STORE)
@click.option("--features", help="Only these, separated by commas.  [default: all]")
@click.option("--seed", default=0, show_default=True, help="Of the order of the videos.")
def compact(store: str, features: str | None, seed: int) -> None:
    """Write the visible rows of STORE anew, in one random order.

    Worth it after many small commits or deletions. Others may read and write meanwhile. The old
    arrays stay until `mmf gc`; until then they take their space.

    \b
    mmf compact features.mmf
    """
    from mmf.store.compact import compact as rewrite

    names = features.split(",") if features else None
    for one in rewrite(store, names, seed=seed):
        click.echo(f"{one.feature}: {one.videos} videos, now in {one.array}")


@click.command()
@click.argument("store", default=STORE)
@click.option("--grace", default=7.0, show_default=True, help="Days that garbage is kept.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@click.option("--forget", multiple=True, metavar="SNAPSHOT", help="Keep it no longer; repeatable.")
def gc(store: str, grace: float, dry_run: bool, forget: tuple[str, ...]) -> None:
    """Remove from STORE what nobody can see: old arrays and tables, what kills have left.

    What a snapshot names stays. --grace 0 is for a store that nobody writes or has open.

    \b
    mmf gc features.mmf --dry-run
    """
    from mmf.store.gc import collect
    from mmf.store.snapshot import forget as let_go

    if forget and not dry_run:
        let_go(Path(store), forget)
    found = collect(store, grace_seconds=grace * 86400, dry_run=dry_run)
    for one in found:
        click.echo(f"{one.path}: {in_bytes(one.size_bytes)}, {one.why}")
    what = "would be removed" if dry_run else "removed"
    click.echo(f"{store}: {in_bytes(sum(one.size_bytes for one in found))} {what}")


@click.command()
@click.argument("store")
@click.argument("ids", nargs=-1, required=True)
@click.option("--purge", is_flag=True, help="Leave nothing of them in the store.")
def delete(store: str, ids: tuple[str, ...], purge: bool) -> None:
    """Delete the videos IDS from STORE: they are hidden, and never extracted or labelled again.

    With --purge their rows, labels, splits and paths leave its files too, also those that
    snapshots name. Runs, predictions and exports lie elsewhere and keep what they have.

    \b
    mmf delete features.mmf cats/1.mp4 cats/2.mp4 --purge
    """
    from mmf.store.delete import delete as remove

    known = remove(store, ids, purge=purge)
    click.echo(f"{store}: {len(known)} videos {'purged' if purge else 'hidden'}")
    if strange := sorted({*ids} - {*known}):
        click.echo(
            plain(
                f"mmf: {len(strange)} ids had nothing to show, for example {strange[0]!r}; they "
                "are on the denylist all the same."
            ),
            err=True,
        )


@click.command()
@click.argument("store", default=STORE)
@click.argument("labels", type=click.Path())
@click.option("--set", "name", default="default", show_default=True, help="The label set's name.")
@click.option("--classes", type=click.Path(), help="A file with a class per line, in order.")
def label(store: str, labels: str, name: str, classes: str | None) -> None:
    """Label the videos of STORE from a CSV: video_id[,start,end],labels[,split] or 0/1 columns.

    Several labels are separated by ';'. Ids may be video ids, paths or stems. In a wide table an
    empty cell is unrated, not negative.

    \b
    mmf label features.mmf labels.csv
    """
    from mmf.store import FeatureStore
    from mmf.store.labels import label_from_file, read_classes

    opened = FeatureStore(store)
    listed = read_classes(classes) if classes else None
    missing = label_from_file(opened, labels, name=name, classes=listed)
    found = len(opened.items(label_set=name))
    click.echo(f"labels {name!r}: {found} items, {len(opened.classes(name))} classes")
    if missing:
        click.echo(
            f"mmf: {len(missing)} labelled ids have no video in {store!r}, for example "
            f"{missing[0]!r}; their labels are kept for when it comes.",
            err=True,
        )


@click.command()
@click.argument("store", default=STORE)
@click.option("--by", help="A column of the manifest; a group of videos stays on one side.")
@click.option("--fractions", default="0.8,0.1,0.1", show_default=True, help="train,val,test")
@click.option("--seed", default=0, show_default=True)
@click.option("--name", default="default", show_default=True, help="The split's name.")
@click.option(
    "--shards",
    metavar="TRAINING,EVALUATION",
    help="As papers on YouTube-8M: train and so many shards of validate, so many others to test.",
)
def split(
    store: str, by: str | None, fractions: str, seed: int, name: str, shards: str | None
) -> None:
    """Divide the videos of STORE into train, val and test.

    \b
    mmf split features.mmf --by series --fractions 0.8,0.1,0.1
    mmf split yt8m.mmf --shards 3000,200 --name papers
    """
    from mmf.store import FeatureStore
    from mmf.store.exchange.shards import papers_split
    from mmf.store.split import split as divide

    if shards is not None:
        training, comma, evaluation = shards.partition(",")
        if not (comma and training.isdigit() and evaluation.isdigit()):
            raise MmfError(f"--shards {shards!r}: expected two numbers, as in 3000,200.")
        numbers = {"training": int(training), "evaluation": int(evaluation)}
        found_shards = papers_split(FeatureStore(store), **numbers, seed=seed, name=name)
        click.echo(
            f"split {name!r}: " + ", ".join(f"{s} {n} shards" for s, n in found_shards.items())
        )
        return
    try:
        shares = [float(f) for f in fractions.split(",")]
    except ValueError:
        raise MmfError(f"--fractions {fractions!r}: expected numbers, as in 0.8,0.1,0.1.") from None
    found = list(divide(FeatureStore(store), shares, by=by, seed=seed, name=name).values())
    counts = ", ".join(f"{s} {found.count(s)}" for s in ("train", "val", "test") if s in found)
    click.echo(f"split {name!r}: {counts}")
