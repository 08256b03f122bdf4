"""The command line: it parses, connects the two stages, and prints.

The body of a command is a function of its stage. The stages meet here and nowhere else; each is
imported inside the command that needs it, so that `mmf --help` answers at once.
"""

import json
import logging
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError, __version__, unknown

if TYPE_CHECKING:
    from mmf.extract import FeatureRequest, JobResult, Manifest
    from mmf.store import FeatureStore

STORE = "features.mmf"
MANY_VIDEOS = 1000  # from here on, features without weights must be asked for by name
EVERY_SECONDS = 10.0  # between lines of progress where there is no terminal


class Commands(click.Group):
    """A group that suggests the nearest command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command that is meant, or an error that lists what exists."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command has --help with an example. --debug shows a traceback.",
)
@click.version_option(__version__, prog_name="mmf")
def cli() -> None:
    """Extract features of videos once, then train small fusion models on them many times.

    \b
    mmf extract --modality audio      # the videos of this folder, into features.mmf
    mmf extract --modality rgb
    mmf train --fusion mfb            # into runs/mfb-1
    mmf evaluate runs/mfb-1
    """


def main() -> None:
    """Run the command line; an error is one sentence on stderr, never a traceback."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    logging.basicConfig(
        format="mmf: %(message)s", level=logging.DEBUG if debug else logging.WARNING
    )
    if not debug:
        logging.getLogger().handlers[0].addFilter(lambda r: r.name.startswith("mmf"))
    try:
        code = cli.main(arguments, prog_name="mmf", standalone_mode=False)
    except (MmfError, click.ClickException, click.Abort, OSError) as error:
        if debug:
            raise
        code, sentence = _said(error)
        click.echo(f"mmf: error: {sentence}" if sentence else "", err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _said(error: Exception) -> tuple[int, str]:
    """Exit code and sentence of an error."""
    if isinstance(error, click.Abort):
        return 130, "interrupted; the same command goes on from here."
    if isinstance(error, click.ClickException):
        text = error.format_message()
        context = getattr(error, "ctx", None)
        where = f" See `{context.command_path} --help`." if context else ""
        return 2, text + ("" if text.endswith((".", "?")) else ".") + where
    if isinstance(error, OSError) and not isinstance(error, MmfError):
        text = f"{error}{_free_space(error)}."
        return 74, f"{text} What was committed is safe; the same command goes on from there."
    return getattr(error, "exit_code", 2), str(error)


def _free_space(error: OSError) -> str:
    """The bytes that are free where an error of the system befell a file."""
    for folder in Path(str(error.filename)).absolute().parents if error.filename else ():
        try:
            return f" ({shutil.disk_usage(folder).free} bytes free in {str(folder)!r})"
        except OSError:
            continue
    return ""


# stage one


def _pairs(option: str, values: Sequence[str], modalities: Sequence[str]) -> dict[str, str]:
    """MODALITY=VALUE options as a mapping."""
    found: dict[str, str] = {}
    for value in values:
        modality, equals, rest = value.partition("=")
        if not equals or not rest:
            raise MmfError(f"{option} {value!r}: expected MODALITY=VALUE, for example rgb=….")
        if modality not in modalities:
            raise MmfError(
                f"{option} {value!r}: {modality!r} is not among the modalities asked for "
                f"({', '.join(modalities) or 'none'}). Add --modality {modality}."
            )
        found[modality] = rest
    return found


def _requests(options: Mapping[str, Any]) -> list["FeatureRequest"]:
    """The features that the options of `mmf extract` ask for."""
    from mmf.extract import FeatureRequest, parse_feature, preset

    modalities = options["modality"]
    backbones = _pairs("--backbone", options["backbone"], modalities)
    weights = _pairs("--weights", options["weights"], modalities)
    names = _pairs("--name", options["name"], modalities)
    common = {k: options[k] for k in ("fps", "window", "hop") if options[k] is not None}
    batch = None if options["batch_size"] == "auto" else int(options["batch_size"])
    chosen = preset(options["preset"] or "embedded")
    requests = []
    for modality in modalities:
        if modality not in backbones and modality not in chosen:
            raise unknown("modality", modality, chosen)
        fits = {k: v for k, v in common.items() if _has_option(modality, k, len(modalities))}
        requests.append(
            FeatureRequest(
                name=names.get(modality, modality),
                modality=modality,
                backbone=backbones.get(modality, chosen.get(modality, "")),
                weights=weights.get(modality, "pretrained"),
                batch=batch,
                precision=options["precision"],
                dtype=options["dtype"],
                **fits,
            )
        )
    requests += [parse_feature(text) for text in options["feature"]]
    if not requests:
        raise MmfError("name what to extract: --modality rgb (or audio, text, flow), or --feature.")
    return requests


def _has_option(modality: str, option: str, modalities: int) -> bool:
    """Among several modalities, an option counts for those that know it."""
    if modalities == 1:
        return True
    return not (modality == "text" or (option == "window" and modality != "audio"))


def _say_embedded(
    requests: Sequence["FeatureRequest"], manifest: "Manifest", options: Mapping[str, Any]
) -> None:
    """Say once that features need no weights; over many videos that must be meant."""
    from mmf.extract import preset

    embedded = preset("embedded")
    backbones = [v.partition("=")[0] for v in options["backbone"]]
    fallen = [m for m in options["modality"] if m not in backbones]
    if not fallen or options["preset"]:
        return
    names = ", ".join(f"{m}={embedded[m]}" for m in fallen)
    if len(manifest) > MANY_VIDEOS:
        raise MmfError(
            f"{len(manifest)} videos, and the backbones are the small embedded ones ({names}). "
            "Say that you mean it (--preset embedded), or name others: "
            "`mmf list backbones` (--backbone rgb=resnet34)."
        )
    click.echo(
        f"mmf: using the small embedded backbones, which need no weights ({names}). Stronger ones "
        "with pretrained weights: --backbone rgb=resnet34; all: `mmf list backbones`.",
        err=True,
    )


def _keep_manifest(store: "FeatureStore", manifest: "Manifest") -> None:
    """What the source says of labels, splits and groups goes to the store's catalog."""
    rows = [
        {k: v for k, v in row.items() if k not in _OWN_COLUMNS and not isinstance(v, (list, bytes))}
        for row in manifest.table.to_pylist()
    ]
    if any(len(row) > 1 for row in rows):
        store.catalog.add_videos(rows)
    if manifest.labels:
        there = store.items() if "default" in store.label_sets else []
        known = {i.video_id if i.start is None else (i.video_id, i.start, i.end) for i in there}
        fresh = {k: v for k, v in manifest.labels.items() if k not in known}
        if fresh:  # labels that `mmf label` has set stand
            store.label(fresh)
    if manifest.split:
        by_video: dict[str, str] = {}
        for key, split in manifest.split.items():
            video = key if isinstance(key, str) else key[0]
            if by_video.setdefault(video, split) != split:
                raise MmfError(
                    f"video {video!r} is in {by_video[video]!r} and in {split!r}; a video stays on "
                    "one side. Mend the manifest's column 'split'."
                )
        store.catalog.add_splits("default", by_video)


_OWN_COLUMNS = ("path", "start", "end", "captions", "labels", "split", "size", "sha256")


@cli.command()
@click.argument("source", default=".")
@click.option("--store", default=STORE, show_default=True, help="The feature store to fill.")
@click.option("--modality", multiple=True, help="rgb, audio, text or flow; repeatable.")
@click.option("--backbone", multiple=True, metavar="MODALITY=NAME[:VARIANT]")
@click.option("--preset", help="The backbones where --backbone names none.  [default: embedded]")
@click.option("--weights", multiple=True, metavar="MODALITY=pretrained|PATH|random:SEED")
@click.option("--name", multiple=True, metavar="MODALITY=FEATURE", help="The feature's name.")
@click.option(
    "--feature",
    multiple=True,
    metavar="NAME=MODALITY:BACKBONE[,key=value…]",
    help="The general form, for several of one modality from one decode.",
)
@click.option("--fps", type=float, help="Rows per second.  [default: 1]")
@click.option("--window", type=float, help="Seconds of sound under a row.  [default: 0.96]")
@click.option("--hop", type=float, help="Seconds from row to row, instead of --fps.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", default="fp32", type=click.Choice(["fp32", "bf16", "fp16"]))
@click.option("--batch-size", default="auto", metavar="auto|N", help="Rows per forward pass.")
@click.option("--dtype", default="float16", type=click.Choice(["float16", "float32", "uint8"]))
@click.option("--workers", type=int, help="Lanes.  [default: one per core, one on a GPU]")
@click.option("--shard", metavar="i/n", help="Only the i-th of n parts (from 0) of the videos.")
@click.option("--retry", type=click.Choice(["failed"]), help="Try the failed videos again.")
@click.option("--allow-partial", is_flag=True, help="Take files that end too early.")
@click.option("--max-failure-rate", default=0.05, show_default=True, type=float)
@click.option("--replace", is_flag=True, help="Begin features of another recipe anew.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
def extract(source: str, store: str, **options: Any) -> int:
    """Extract features of the videos in SOURCE: a folder, a file, or a manifest.

    A manifest is a .csv, .jsonl or .parquet with video_id,path and optionally
    start,end,captions,labels,split,size,sha256 and columns of your own.

    \b
    mmf extract clips --modality rgb --modality audio
    mmf extract clips --modality rgb --backbone rgb=resnet34 --weights rgb=resnet34.safetensors
    """
    from mmf.extract import JobOptions, read_manifest
    from mmf.extract import extract as run_job
    from mmf.store import FeatureStore

    if options["batch_size"] != "auto" and not options["batch_size"].isdigit():
        raise MmfError(f"--batch-size {options['batch_size']!r}: expected auto or a number.")
    requests, manifest = _requests(options), read_manifest(source)
    _say_embedded(requests, manifest, options)
    job = JobOptions(
        workers=options["workers"],
        device=options["device"],
        retry_failed=options["retry"] == "failed",
        allow_partial=options["allow_partial"],
        max_failure_rate=options["max_failure_rate"],
        replace=options["replace"],
        dry_run=options["dry_run"],
        shard=_shard(options["shard"]),
    )
    if options["dry_run"]:
        result = run_job(manifest, store, requests, job)
        click.echo(f"{result.inputs} videos; {result.todo} have something to do. Nothing was done.")
        return 0
    with _Progress() as progress:
        result = run_job(manifest, FeatureStore.create(store), requests, job, progress)
    _keep_manifest(FeatureStore(store), manifest)
    _report_job(result, store)
    return result.exit_code


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    i, slash, n = text.partition("/")
    if not (slash and i.isdigit() and n.isdigit()):
        raise MmfError(f"--shard {text!r}: expected i/n, for example 0/4 for the first of four.")
    return int(i), int(n)


class _Progress:
    """What `mmf extract` shows while it runs: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f} videos"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=_console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._total = self._ended = self._failed = self._frames = 0
        self._media_seconds = 0.0
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> "_Progress":
        self._bar.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._bar.__exit__(*exc)

    def __call__(self, event: Any) -> None:
        if hasattr(event, "todo"):
            self._total = event.todo
            self._begun = self._said = time.monotonic()
            self._task = self._bar.add_task("", total=event.todo, detail="")
            return
        self._ended += 1
        self._failed += "failed" in event.status.values()
        self._frames += event.media.frames
        self._media_seconds += event.media.duration or 0.0
        self._bar.update(self._task, completed=self._ended, detail=self._detail())
        if "failed" in event.status.values():
            self._bar.console.print(f"failed: {event.video_id!r}: {event.reason}", highlight=False)
        now = time.monotonic()
        if self._bar.disable and now - self._said > EVERY_SECONDS:
            self._said = now
            left = (now - self._begun) / self._ended * (self._total - self._ended)
            line = f"{self._ended}/{self._total} videos · {self._detail()} · {left:.0f} s left"
            click.echo(line, err=True)

    def _detail(self) -> str:
        seconds = max(time.monotonic() - self._begun, 1e-3)
        return (
            f"{self._frames} frames · {self._media_seconds / seconds:.1f} media s/s · "
            f"{self._failed} failed"
        )


def _report_job(result: "JobResult", store: str) -> None:
    for feature, n in result.counts.items():
        missing = f" + {n.missing} left" if n.missing else ""
        click.echo(
            f"{feature}: {result.inputs} videos = {n.done} done + {n.failed} failed + "
            f"{n.skipped} skipped{missing}"
        )
    rate = (
        f", {result.frames} frames, {result.media_seconds:.0f} s of media" if result.tried else ""
    )
    click.echo(f"{store}: {result.tried} videos tried in {result.seconds:.1f} s{rate}")
    if any(n.failed for n in result.counts.values()):
        click.echo(f"why videos failed: mmf status {shlex.quote(store)} --failures")
    if result.stopped:
        click.echo(f"stopped by {result.stopped}; the same command goes on from here", err=True)


# the store


@cli.command()
@click.argument("store", default=STORE)
@click.option("--failures", is_flag=True, help="A row for each video that could not be used.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def status(store: str, failures: bool, as_json: bool) -> None:
    """Say what is in STORE: features, recipes, videos done, skipped and failed, bytes.

    \b
    mmf status features.mmf --failures
    """
    from mmf.store import FeatureStore
    from mmf.store.status import describe

    opened = FeatureStore(store)
    found = describe(opened)
    if failures or as_json:
        found["failures"] = opened.failures().to_pylist()
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(
        f"{store}: {found['videos']} videos, {_bytes(found['bytes'])}, content {found['content']}"
    )
    _table(
        ["feature", "from", "row", "dtype", "done", "skipped", "failed", "missing", "rows"],
        [
            [f, x["backbone"], "×".join(map(str, x["shape"])), x["dtype"]]
            + [str(x[k]) for k in ("done", "skipped", "failed", "missing", "rows")]
            for f, x in found["features"].items()
        ],
    )
    for name, labels in found["label_sets"].items():
        splits = ", ".join(f"{k} {v}" for k, v in labels["splits"].items())
        click.echo(
            f"labels {name!r}: {labels['items']} items, {labels['classes']} classes; {splits}"
        )
    for (video, reason, stage, message), features in _by_failure(found.get("failures", ())):
        click.echo(_plain(f"{video}: {reason} in {stage} of {', '.join(features)}: {message}"))


def _by_failure(rows: Iterable[Mapping[str, Any]]) -> Iterable[tuple[tuple[str, ...], list[str]]]:
    """The features that each video failed in, for the same reason."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        key = tuple(str(row[c]) for c in ("video_id", "reason", "stage", "message"))
        found.setdefault(key, []).append(row["feature"])
    return sorted(found.items())


@cli.command()
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


@cli.command()
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
            click.echo(_plain(f"  to extract again: {feature} of {video}"))
        again += len(one.lost)
    problems = check(store)
    for problem in problems:
        click.echo(f"{problem.path}: {problem.what}; restore it from a copy")
    click.echo(f"{store}: {again} to extract again, {len(problems)} problems left")
    return 74 if problems else 0


@cli.command()
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


@cli.command()
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
        click.echo(f"{one.path}: {_bytes(one.size_bytes)}, {one.why}")
    what = "would be removed" if dry_run else "removed"
    click.echo(f"{store}: {_bytes(sum(one.size_bytes for one in found))} {what}")


@cli.command()
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
            _plain(
                f"mmf: {len(strange)} ids had nothing to show, for example {strange[0]!r}; they "
                "are on the denylist all the same."
            ),
            err=True,
        )


@cli.command()
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


@cli.command()
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


@cli.group("import", cls=Commands)
def import_() -> None:
    """Bring features that others computed into a store.

    \b
    mmf import youtube8m yt8m/frame --store yt8m.mmf
    """


@import_.command("youtube8m")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--store", default=STORE, show_default=True, help="The feature store to fill.")
@click.option("--set", "label_set", default="default", show_default=True, help="The label set.")
@click.option("--vocabulary", type=click.Path(), help="A CSV with Index and Name: classes by name.")
@click.option("--workers", type=int, help="Processes.  [default: one per core]")
@click.option("--max-failure-rate", default=0.05, show_default=True, type=float)
def import_youtube8m(files: tuple[str, ...], store: str, **options: Any) -> int:
    """Import YouTube-8M's TFRecord FILES, or folders of them; after a kill, run it again.

    Frame-level codes become the features rgb and audio, video-level means mean_rgb and mean_audio,
    ratings of segments the label set 'segments'. train, validate and test in a file's name are the
    split; `mmf split --shards` makes the one of the papers.

    \b
    mmf import youtube8m yt8m/frame --store yt8m.mmf
    mmf import youtube8m trainAb.tfrecord --vocabulary vocabulary.csv
    """
    from mmf.store import FeatureStore
    from mmf.store.exchange.youtube8m_import import find_files
    from mmf.store.exchange.youtube8m_import import import_youtube8m as run_import

    limit, paths = options.pop("max_failure_rate"), find_files(files)
    result = run_import(FeatureStore.create(store), paths, progress=_show_files(), **options)
    click.echo(
        f"{store}: {result.files} files; {result.imported} videos imported, {result.there} were "
        f"there, {result.damaged} records damaged"
    )
    if result.clashes:
        click.echo(
            f"mmf: {len(result.clashes)} videos have other rows in another file, for example "
            f"{_plain(result.clashes[0])!r}; each is in the store once.",
            err=True,
        )
    if result.damaged:
        click.echo(f"which records were damaged: mmf status {shlex.quote(store)} --failures")
    records = result.imported + result.there + result.damaged
    return 3 if result.damaged > limit * records else 0


def _show_files() -> Callable[[Any], None]:
    """What `mmf import` shows after a file: a line now and then."""
    files = videos = damaged = 0
    said = time.monotonic()

    def show(result: Any) -> None:
        nonlocal files, videos, damaged, said
        files, videos = files + 1, videos + result.imported
        damaged += len(result.damage)
        if time.monotonic() - said > EVERY_SECONDS:
            said = time.monotonic()
            click.echo(f"{files} files · {videos} videos · {damaged} damaged", err=True)

    return show


@import_.command("hdf5")
@click.argument("file", type=click.Path())
@click.option("--store", default=STORE, show_default=True, help="The feature store to fill.")
@click.option("--rate", default=1.0, show_default=True, help="Rows per second where no times are.")
def import_hdf5(file: str, store: str, rate: float) -> None:
    """Import an HDF5 FILE with datasets /<feature>/<video>, or one that `mmf export hdf5` wrote.

    Links, external storage and virtual datasets are refused before anything is read.

    \b
    mmf import hdf5 features.h5 --store features.mmf
    """
    from mmf.store.exchange.hdf5_import import import_hdf5 as run_import

    found = run_import(store, file, rate=rate)
    for feature, n in found.items():
        click.echo(_plain(f"{feature}: {n} videos imported"))


@cli.group("export", cls=Commands)
def export() -> None:
    """Write the features of a store in the formats of others.

    \b
    mmf export parquet --store features.mmf --out parquet
    """


_OUT = click.option("--out", required=True, type=click.Path(), help="The folder to write to.")
_FROM = click.option("--store", default=STORE, show_default=True, help="The feature store.")
_SOME = click.option(
    "--feature", "features", multiple=True, help="Only this one; repeatable.  [default: all]"
)


@export.command("youtube8m")
@_FROM
@_OUT
@click.option("--feature", "features", multiple=True, metavar="rgb=NAME", help="Repeatable.")
@click.option("--level", default="frame", type=click.Choice(["frame", "video"]), show_default=True)
@click.option("--set", "label_set", default="default", show_default=True, help="The label set.")
def export_youtube8m(
    store: str, out: str, features: tuple[str, ...], level: Any, label_set: str
) -> None:
    """Write TFRecords as YouTube-8M's: SequenceExamples of codes, or Examples of means.

    \b
    mmf export youtube8m --store yt8m.mmf --out tfrecords
    mmf export youtube8m --feature rgb=resnet34 --feature audio=vggish --out tfrecords
    """
    from mmf.store import FeatureStore
    from mmf.store.exchange.youtube8m_export import export_youtube8m as run_export

    named = dict(f.partition("=")[::2] for f in features)
    if not all(named.values()):
        raise MmfError(f"--feature {features[0]!r}: expected rgb=NAME or audio=NAME.")
    opened = FeatureStore(store)
    result = run_export(opened, out, features=named, level=level, label_set=label_set)
    click.echo(f"{out}: {result.videos} videos in {result.files} files")


@export.command("parquet")
@_FROM
@_OUT
@_SOME
@click.option("--codes", is_flag=True, help="uint8 codes as they are stored, not as numbers.")
def export_parquet(store: str, out: str, features: tuple[str, ...], codes: bool) -> None:
    """Write video_id, time and embedding as Parquet, for pandas, DuckDB and Hugging Face datasets.

    \b
    mmf export parquet --store features.mmf --out parquet --feature rgb
    """
    from mmf.store import FeatureStore
    from mmf.store.exchange.parquet import export_parquet as run_export

    files = run_export(FeatureStore(store), out, features=features, codes=codes)
    click.echo(f"{out}: {len(files)} files")


@export.command("hdf5")
@_FROM
@_OUT
@_SOME
@click.option(
    "--layout",
    default="videos",
    type=click.Choice(["videos", "concatenated"]),
    show_default=True,
    help="A dataset per video, or one for all with an index.",
)
def export_hdf5(store: str, out: str, features: tuple[str, ...], layout: Any) -> None:
    """Write OUT/features.h5.

    \b
    mmf export hdf5 --store features.mmf --out hdf5 --layout concatenated
    """
    from mmf.store import FeatureStore
    from mmf.store.exchange.hdf5 import export_hdf5 as run_export

    click.echo(run_export(FeatureStore(store), out, features=features, layout=layout))


# stage two


@cli.command()
@click.argument("config", required=False, type=click.Path())
@click.option("--store", help=f"The feature store.  [default: {STORE}]")
@click.option("--out", help="The run's folder.  [default: runs/FUSION-N]")
@click.option("--fusion", help="`mmf list fusions`.  [default: concat]")
@click.option("--features", help="For example rgb,audio.  [default: all of the store]")
@click.option("--aggregate", help="`mmf list aggregators`.  [default: mean]")
@click.option("--head", help="logistic or moe.  [default: logistic]")
@click.option("--loss", help="auto, bce or ce.")
@click.option("--task", help="auto, single or multi.")
@click.option("--label-set", help="The labels to learn.  [default: default]")
@click.option("--split-set", help="The split.  [default: the one called as the label set]")
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--lr", type=float)
@click.option("--weight-decay", type=float)
@click.option("--dropout", type=float)
@click.option("--patience", type=int, help="Epochs without a better validation before it stops.")
@click.option("--normalise", help="standardise, l2 or none; of each row.")
@click.option("--fusion-option", multiple=True, metavar="KEY=VALUE", help="e.g. match=total")
@click.option("--head-option", multiple=True, metavar="KEY=VALUE", help="e.g. mixtures=4")
@click.option("--seed", type=int)
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--precision", help="fp32 or bf16.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
def train(config: str | None, resume: bool, **options: Any) -> None:
    """Train a fusion model on the features of a store; CONFIG is a run's config.json to repeat.

    \b
    mmf train --fusion mfb
    mmf train --features rgb,audio --fusion concat --head moe --out runs/both
    """
    from dataclasses import replace

    from mmf.fuse import TrainConfig
    from mmf.fuse import train as run_training

    given = {k: v for k, v in options.items() if v not in (None, ())}
    if "features" in given:
        given["features"] = tuple(f for f in given["features"].split(",") if f)
    for part in ("fusion", "head"):
        if pairs := given.pop(f"{part}_option", ()):
            given[f"{part}_options"] = _values(f"--{part}-option", pairs)
    if resume and not config and "out" in given:
        config = str(Path(given["out"]) / "config.json")
    base = TrainConfig.read(config) if config else TrainConfig()
    run = run_training(replace(base, **given), _show_epoch(), resume=resume)
    click.echo(f"{run}: {_best_epoch(run)}; next: mmf evaluate {shlex.quote(str(run))}")


def _values(option: str, pairs: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE options; a value that is JSON (a number, true) is that, any other is text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise MmfError(f"{option} {pair!r}: expected KEY=VALUE.")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def _show_epoch() -> Callable[[Mapping[str, Any]], None]:
    """What `mmf train` shows after an epoch: a line that is written over on a terminal."""
    terminal, said = sys.stderr.isatty(), time.monotonic()

    def show(row: Mapping[str, Any]) -> None:
        nonlocal said
        line = " · ".join(f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float))
        if terminal:
            click.echo(f"\r\x1b[Kepoch {row['epoch']} · {line}", err=True, nl=False)
        elif time.monotonic() - said > EVERY_SECONDS:
            click.echo(f"epoch {row['epoch']} · {line}", err=True)
            said = time.monotonic()

    return show


def _best_epoch(run: Path) -> str:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metric = next(k for k in rows[0] if k.startswith("val_") and k != "val_loss")
    best = max(rows, key=lambda row: (row[metric], -row["val_loss"]))
    name = metric.removeprefix("val_")
    return f"{len(rows)} epochs, best validation {name} {best[metric]:.4f} in epoch {best['epoch']}"


@cli.command()
@click.argument("run", type=click.Path())
@click.option("--store", help="Another store.  [default: the one the run was trained on]")
@click.option("--split", default="test", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def evaluate(run: str, store: str | None, split: str, device: str, as_json: bool) -> None:
    """Measure RUN on a split of its store.

    \b
    mmf evaluate runs/mfb-1 --split test
    """
    from mmf.fuse import evaluate as measure

    found = measure(run, store, split, device=device)
    if as_json:
        click.echo(json.dumps(found))
        return
    numbers = [(k, f"{v:.4f}" if isinstance(v, float) else str(v)) for k, v in found.items()]
    _table(["metric", f"{split} of {run}"], [list(row) for row in numbers])


@cli.command()
@click.argument("run", type=click.Path())
@click.argument("videos", nargs=-1, type=click.Path())
@click.option(
    "--store", help="A store with the run's features.  [default, without VIDEOS: its own]"
)
@click.option("--split", help="Only the items of this split.")
@click.option("--out", type=click.Path(), help="FILE.csv or FILE.parquet.  [default: a table here]")
@click.option("--top", default=20, show_default=True, help="Classes for each item.")
@click.option("--kaggle", is_flag=True, help="YouTube-8M's VideoId,LabelConfidencePairs.")
@click.option("--device", default="auto", show_default=True)
def predict(run: str, videos: tuple[str, ...], **options: Any) -> None:
    """Predict with RUN the items of a store, or media files, with the recipe it was trained on.

    \b
    mmf predict runs/mfb-1 --store features.mmf --split test --out predictions.csv
    mmf predict runs/mfb-1 clip.mp4
    """
    from mmf.fuse import predict as score
    from mmf.fuse import write_predictions
    from mmf.fuse.run import Run

    chosen = {"top": options["top"], "device": options["device"]}
    if videos:
        if options["store"] or options["split"]:
            raise MmfError("give videos, or a store and a split; not both.")
        with tempfile.TemporaryDirectory(prefix="mmf-predict-") as folder:
            store = _extract_as_trained(run, videos, Path(folder) / STORE)
            found = score(run, store, **chosen)
    else:
        place = options["store"] or Run.open(run).config.store
        found = score(run, place, options["split"], **chosen)
    if options["out"]:
        write_predictions(found, options["out"], kaggle=options["kaggle"])
        click.echo(f"{options['out']}: {len(found)} items")
        return
    for row in found.to_pylist():
        pairs = zip(row["classes"] or (), row["scores"] or (), strict=True)
        best = ", ".join(f"{c} {s:.4f}" for c, s in pairs)
        click.echo(_plain(f"{row['item']}: {best or row['reason']}"))


def _extract_as_trained(run: str, videos: Sequence[str], store: Path) -> Path:
    """Extract media files into a store with the very recipes of a run's features."""
    import pyarrow as pa

    from mmf.extract import JobOptions, Manifest, request_from_spec
    from mmf.extract import extract as run_job
    from mmf.fuse.run import Run
    from mmf.store import FeatureStore

    requests = [request_from_spec(spec) for spec in Run.open(run).specs.values()]
    table = pa.table(
        {"video_id": list(videos), "path": pa.array([str(v).encode() for v in videos], pa.binary())}
    )
    manifest = Manifest(source="the command line", table=table, first=tuple(range(len(videos))))
    result = run_job(manifest, store, requests, JobOptions(max_failure_rate=1.0))
    for row in FeatureStore(store).failures().to_pylist():
        click.echo(f"mmf: {row['video_id']!r} failed: {row['reason']} ({row['message']})", err=True)
    if result.failed == len(videos):
        raise MmfError("none of the videos could be used.")
    return store


# what there is


@cli.command("list")
@click.argument("kind")
def list_(kind: str) -> None:
    """List what there is: backbones, fusions, aggregators, heads, losses or metrics.

    \b
    mmf list backbones
    """
    from mmf.extract.backbones import BACKBONES
    from mmf.fuse import HEADS, LOSSES, METRICS
    from mmf.fuse.aggregators import AGGREGATORS
    from mmf.fuse.fusions import FUSIONS

    tables = {"fusions": FUSIONS, "aggregators": AGGREGATORS, "heads": HEADS}
    tables |= {"losses": LOSSES, "metrics": METRICS}
    if kind == "backbones":
        for modality, registry in BACKBONES.items():
            for name in registry:
                click.echo(f"{modality}={name}")
    elif kind in tables:
        for name in tables[kind]:
            click.echo(name)
    else:
        raise unknown("kind", kind, ["backbones", *tables])


@cli.command()
def doctor() -> None:
    """Check this installation: decode a clip, run a backbone, write and read a store.

    \b
    mmf doctor
    """
    from importlib.metadata import version

    from mmf.extract import FeatureRequest
    from mmf.extract import extract as run_job
    from mmf.extract.sample_set import make_sample_set
    from mmf.store import FeatureStore
    from mmf.store.verify import verify as check

    click.echo(f"mmf {__version__}, Python {sys.version.split()[0]}")
    for name in ("av", "torch", "torchvision", "torchaudio", "zarr", "pyarrow", "numpy"):
        click.echo(f"  {name} {version(name)}")
    with tempfile.TemporaryDirectory(prefix="mmf-doctor-") as folder:
        clips = make_sample_set(Path(folder) / "clips", clips=1)
        asked = [("rgb", "resnet18", "random:0"), ("audio", "logmel", "pretrained")]
        requests = [FeatureRequest(name=m, modality=m, backbone=b, weights=w) for m, b, w in asked]
        store = FeatureStore.create(Path(folder) / STORE)
        result = run_job(clips, store, requests)
        store.refresh()
        (video,) = store.state("rgb")
        rows = {m: store.read(m, video).values.shape for m, _, _ in asked}
        problems = check(store.path)
    click.echo(f"decoded {result.frames} frames; rows {rows}; store {problems or 'whole'}")
    _say_devices()
    click.echo("all is well")


def _say_devices() -> None:
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    click.echo(f"cores {torch.get_num_threads()}, GPU {gpu}")


@cli.command()
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
    _table(columns, rows)
    _write_report(folder / "report.md", columns, rows)
    click.echo(
        f"test split; {folder / 'report.md'} and {predictions} are written; "
        f"{time.monotonic() - begun:.0f} s in all"
    )


def _do(*arguments: str) -> None:
    """Run a command as a user would, and show it."""
    click.echo(f"$ mmf {shlex.join(arguments)}")
    code = cli.main(list(arguments), prog_name="mmf", standalone_mode=False)
    if code:
        raise MmfError(f"`mmf {shlex.join(arguments)}` ended with {code}.")


def _write_report(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    lines = ["# mmf demo", "", "Accuracy on held-out clips; the class is colour and pitch.", ""]
    for cells in (columns, ["---"] * len(columns), *rows):
        lines.append(f"| {' | '.join(cells)} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


# printing


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; what videos and labels are called is shown, never obeyed."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(Text(_plain(cell)) for cell in row))
    _console().print(table)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.1f} {unit}" if unit != "B" else f"{n:.0f} B"
        n /= 1024
    return f"{n:.1f} TiB"


if __name__ == "__main__":
    main()
