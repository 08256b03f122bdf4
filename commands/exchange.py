"""Features in from other formats, and out to them."""

import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mmf import MmfError
from mmf.commands.shell import EVERY_SECONDS, STORE, Commands, plain

if TYPE_CHECKING:
    pass


@click.group("import", cls=Commands)
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
            f"{plain(result.clashes[0])!r}; each is in the store once.",
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
        click.echo(plain(f"{feature}: {n} videos imported"))


@click.group("export", cls=Commands)
def export() -> None:
    """Write the features of a store, or a run, in the formats of others.

    \b
    mmf export parquet --store features.mmf --out parquet
    """


_FROM = click.option("--store", default=STORE, show_default=True, help="The feature store.")


_OUT = click.option("--out", required=True, type=click.Path(), help="The folder to write to.")


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


@export.command("torch")
@click.argument("run", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="FILE.pt2 to write.")
def export_torch(run: str, out: str) -> None:
    """Write the network of RUN for torch.export.load: logits from features and masks, without mmf.

    \b
    mmf export torch runs/mfb-1 --out model.pt2
    """
    from mmf.fuse.inference.export import export_torch as run_export

    said = run_export(run, out)
    features = ", ".join(said["features"])
    click.echo(f"{out}: {features} to logits of {len(said['classes'])} classes")
