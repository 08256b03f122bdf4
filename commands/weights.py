"""`mmf weights`: which files of weights features need, where they are looked for, what is there."""

from typing import Any

import click

from mmf.commands.shell import STORE, in_bytes, show_table


@click.command()
@click.option("--backbone", multiple=True, metavar="MODALITY=NAME[:VARIANT]")
@click.option("--weights", multiple=True, metavar="MODALITY=pretrained|PATH|hf://…|https://…")
@click.option("--feature", multiple=True, metavar="NAME=MODALITY:BACKBONE[,key=value…]")
@click.option("--preset", help="All the backbones of a preset.")
@click.option("--store", default=STORE, show_default=True, help="Whose features, if none is named.")
@click.option("--fetch", is_flag=True, help="Bring what is missing; this needs a network.")
def weights(store: str, fetch: bool, **options: Any) -> int:
    """List the weights that features need, where they are looked for, and what is there.

    Extraction never fetches. Run this with --fetch on a node that has a network.

    \b
    mmf weights --backbone rgb=resnet34 --backbone text=minilm
    mmf weights --backbone rgb=timm:vit_base_patch16_clip_224.openai --fetch
    """
    from mmf.extract import weights as need
    from mmf.extract.shorthand import weights_requests
    from mmf.store import FeatureStore

    requests = weights_requests(options)
    found = need.needed_weights(requests) if requests else need.stored_weights(FeatureStore(store))
    for one in found:
        if fetch and one.sha256 is None:
            click.echo(f"{one.backbone}: fetching {one.location}", err=True)
            need.fetch(one)
    if fetch and requests:
        found = need.needed_weights(requests)
    rows = [
        [
            one.feature,
            one.backbone,
            one.location,
            str(one.path),
            one.state,
            in_bytes(one.size_bytes),
        ]
        for one in found
    ]
    show_table(("feature", "backbone", "weights", "looked for at", "state", "size"), rows)
    return 0 if all(one.state == "there" for one in found) else 3
