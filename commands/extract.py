"""`mmf extract`: media in, features in a store."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.cluster_options import cluster_options, profile_of
from mmf.commands.extract_report import Progress, report_job, report_plan
from mmf.commands.feature_options import row_options
from mmf.commands.shell import STORE

if TYPE_CHECKING:
    from mmf.extract import FeatureRequest, Manifest
    from mmf.store import FeatureStore

MANY_VIDEOS = 1000  # from here on, features without weights must be asked for by name


def _say_embedded(
    requests: Sequence["FeatureRequest"], manifest: "Manifest", options: Mapping[str, Any]
) -> None:
    """Say once that features need no weights; over many videos that must be meant."""
    from mmf.extract import preset

    embedded, strong = preset("embedded"), preset("standard")
    backbones = [v.partition("=")[0] for v in options["backbone"]]
    fallen = [m for m in options["modality"] if m not in backbones]
    if not fallen or options["preset"]:
        return
    names = ", ".join(f"{m}={embedded[m]}" for m in fallen)
    other = f"--backbone {fallen[0]}={strong[fallen[0]]}"
    if len(manifest) > MANY_VIDEOS:
        raise MmfError(
            f"{len(manifest)} videos, and the backbones are the small embedded ones ({names}). "
            f"Say that you mean it (--preset embedded), or name others: {other}, or --preset "
            "standard; `mmf list backbones` shows all."
        )
    click.echo(
        f"mmf: using the small embedded backbones, which need no weights ({names}). Stronger ones "
        f"with pretrained weights: {other}, or --preset standard; all: `mmf list backbones`.",
        err=True,
    )


def _keep_manifest(store: "FeatureStore", manifest: "Manifest") -> None:
    """What the source says of labels, splits and groups goes to the store's catalog."""
    rows = manifest.described
    if len(rows.column_names) > 1:
        store.catalog.add_video_rows(rows)
    labels = manifest.labels
    if labels:
        there = store.items() if "default" in store.label_sets else []
        known = {i.video_id if i.start is None else (i.video_id, i.start, i.end) for i in there}
        fresh = {k: v for k, v in labels.items() if k not in known}
        if fresh:  # labels that `mmf label` has set stand
            store.label(fresh)
    _keep_split(store, manifest)
    for name, splits in manifest.named_splits.items():
        store.catalog.add_splits(name, splits)


def _keep_split(store: "FeatureStore", manifest: "Manifest") -> None:
    if "split" not in manifest.table.column_names:
        return
    if len(manifest) == len(manifest.table):  # every video stands once: on one side
        rows = manifest.table.select(["video_id", "split"]).drop_null()
        if len(rows):
            store.catalog.add_split_rows("default", rows)
        return
    by_video: dict[str, str] = {}
    for key, split in manifest.split.items():
        video = key if isinstance(key, str) else key[0]
        if by_video.setdefault(video, split) != split:
            raise MmfError(
                f"video {video!r} is in {by_video[video]!r} and in {split!r}; a video stays on "
                "one side. Mend the manifest's column 'split'."
            )
    if by_video:
        store.catalog.add_splits("default", by_video)


@click.command()
@click.argument("source", default=".")
@click.option("--store", default=STORE, show_default=True, help="The feature store to fill.")
@row_options
@click.option(
    "--sample",
    multiple=True,
    metavar="grid|keyframes|N",
    help="When pictures are taken; with --dry-run, a number of videos to measure.",
)
@click.option("--name", multiple=True, metavar="MODALITY=FEATURE", help="The feature's name.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--precision", default="fp32", type=click.Choice(["fp32", "bf16", "fp16"]))
@click.option("--batch-size", default="auto", metavar="auto|N", help="Rows per forward pass.")
@click.option("--dtype", default="float16", type=click.Choice(["float16", "float32", "uint8"]))
@click.option("--workers", type=int, help="Lanes.  [default: one per core, one on a GPU]")
@cluster_options
@click.option("--shard", metavar="i/n", help="Only the i-th of n parts (from 0) of the videos.")
@click.option("--retry", type=click.Choice(["failed"]), help="Only the failed videos, again.")
@click.option("--allow-partial", is_flag=True, help="Take files that end too early.")
@click.option("--max-failure-rate", default=0.05, show_default=True, type=float)
@click.option("--replace", is_flag=True, help="Begin features of another recipe anew.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; nothing is written.")
def extract(source: str, store: str, **options: Any) -> int:
    """Extract features of the videos in SOURCE: a folder, a file or its URL, or a manifest.

    A manifest is a .csv, .jsonl or .parquet with video_id,path and optionally
    start,end,captions,labels,split,size,sha256 and columns of your own. Where no --backbone
    and no --preset says otherwise, the networks are small ones without weights (embedded).

    \b
    mmf extract clips --modality rgb --modality audio
    mmf extract clips --modality rgb --backbone rgb=resnet34 --weights rgb=resnet34.safetensors
    mmf extract clips --feature t=text:minilm,speech=whisper:base  # heard where no captions are
    mmf extract clips --modality rgb --dry-run --sample 20      # what it would take
    """
    from mmf.extract import JobOptions, read_manifest
    from mmf.extract import extract as run_job
    from mmf.extract.shorthand import requests_of
    from mmf.store import FeatureStore

    if options["batch_size"] != "auto" and not options["batch_size"].isdigit():
        raise MmfError(f"--batch-size {options['batch_size']!r}: expected auto or a number.")
    options["sample"], measured = _sample(options["sample"], dry_run=options["dry_run"])
    requests, manifest = requests_of(options), read_manifest(source)
    _say_embedded(requests, manifest, options)
    job = JobOptions(
        workers=options["workers"],
        device=options["device"],
        retry_failed=options["retry"] == "failed",
        allow_partial=options["allow_partial"],
        max_failure_rate=options["max_failure_rate"],
        replace=options["replace"],
        cluster=profile_of(options),
        shard=_shard(options["shard"]),
    )
    if options["dry_run"]:
        report_plan(manifest, store, requests, job, measured)
        return 0
    with Progress() as progress:
        result = run_job(manifest, store, requests, job, progress)
    _keep_manifest(FeatureStore(store), manifest)
    report_job(result, store)
    if options["retry"] and not result.todo:
        click.echo("none of these videos has failed, so there was nothing to try again")
    return result.exit_code


def _sample(given: Sequence[str], *, dry_run: bool) -> tuple[str | None, int]:
    """When pictures are taken, and how many videos are to be measured: names and numbers."""
    numbers = [text for text in given if text.isdecimal()]
    names = [text for text in given if text not in numbers]
    if len(numbers) > 1 or len(names) > 1:
        raise MmfError(f"--sample {' '.join(given)}: expected one name and one number at most.")
    if numbers and not dry_run:
        raise MmfError(
            f"--sample {numbers[0]} measures so many videos for --dry-run. Add --dry-run, or say "
            "when pictures are taken: --sample grid or keyframes."
        )
    if numbers == ["0"] or (names and names[0] not in ("grid", "keyframes")):
        raise MmfError(f"--sample {given[0]!r}: expected grid, keyframes or a number of videos.")
    return (names[0] if names else None), int(numbers[0]) if numbers else 0


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    i, slash, n = text.partition("/")
    if not (slash and i.isdigit() and n.isdigit()):
        raise MmfError(f"--shard {text!r}: expected i/n, for example 0/4 for the first of four.")
    return int(i), int(n)
