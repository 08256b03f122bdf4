"""`mmf look`: what each network will really receive of one video."""

from typing import Any

import click

from mmf.commands.feature_options import row_options

ALL = ("rgb", "flow", "audio", "text")  # where nothing is asked for


@click.command()
@click.argument("video")
@click.option("--out", default="look.png", show_default=True, help="The picture: .png, .svg, .pdf.")
@row_options
@click.option("--sample", type=click.Choice(["grid", "keyframes"]), help="When pictures are taken.")
def look(video: str, out: str, **options: Any) -> None:
    """Draw what each network will really receive of VIDEO, on one axis of seconds.

    VIDEO is a file or its URL. No weights are needed but those of a network that computes flow.
    The options are those of `mmf extract`; without any, its default networks are shown.

    \b
    mmf look clip.mp4
    mmf look clip.mp4 --feature r=rgb:resnet34 --feature a=audio:vggish --out page.png
    """
    from mmf.extract.look import look as draw
    from mmf.extract.shorthand import requests_of

    named = [text.partition("=")[0] for text in options["backbone"]]
    if not options["modality"] and not options["feature"]:
        options["modality"] = tuple(dict.fromkeys(named)) or ALL
    bands = draw(video, requests_of(options), out)
    for band in bands:
        rows = band.missing or f"{band.rows} rows"
        click.echo(f"{band.request.name}: {rows} by {band.request.modality}={band.backbone.name}")
    click.echo(out)
