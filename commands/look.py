"""`mmf look`: what each network will really receive of one video."""

from typing import Any

import click

ALL = ("rgb", "flow", "audio", "text")  # where nothing is asked for


@click.command()
@click.argument("video")
@click.option("--out", default="look.png", show_default=True, help="The picture: .png, .svg, .pdf.")
@click.option("--modality", multiple=True, help="rgb, clip, flow, audio or text; repeatable.")
@click.option("--backbone", multiple=True, metavar="MODALITY=NAME[:VARIANT]")
@click.option("--preset", help="The backbones where --backbone names none.  [default: embedded]")
@click.option(
    "--feature",
    multiple=True,
    metavar="NAME=MODALITY:BACKBONE[,key=value…]",
    help="The general form, for several of one modality.",
)
@click.option("--fps", type=float, help="Rows per second.  [default: 1]")
@click.option("--window", type=float, help="Seconds of sound under a row.  [default: 0.96]")
@click.option("--hop", type=float, help="Seconds from row to row, instead of --fps.")
@click.option("--audio-track", "track", metavar="lang=LANG|N|all", help="Which sound.")
@click.option("--segments", type=int, help="Rows at the middles of N equal parts.")
@click.option("--views", metavar="NTxNS", help="NT clips, NS (1 or 3) crops of each.")
@click.option("--sample", type=click.Choice(["grid", "keyframes"]), help="When pictures are taken.")
@click.option("--decode", type=click.Choice(["exact", "fast"]), help="fast skips frames.")
def look(video: str, out: str, **options: Any) -> None:
    """Draw what each network will really receive of VIDEO, on one axis of seconds.

    No weights are needed. The options are those of `mmf extract`.

    \b
    mmf look clip.mp4
    mmf look clip.mp4 --feature r=rgb:resnet34 --feature a=audio:vggish --out page.png
    """
    from mmf.extract.look import look as draw
    from mmf.extract.shorthand import requests_of

    named = [text.partition("=")[0] for text in options["backbone"]]
    if not options["modality"] and not options["feature"]:
        options["modality"] = tuple(dict.fromkeys(named)) or ALL
    same = {"weights": (), "name": (), "batch_size": "auto", "precision": "fp32"}
    bands = draw(video, requests_of({**options, **same, "dtype": "float32"}), out)
    for band in bands:
        rows = band.missing or f"{band.rows} rows"
        click.echo(f"{band.request.name}: {rows} by {band.request.modality}={band.backbone.name}")
    click.echo(out)
