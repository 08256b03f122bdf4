"""`mmf weights`: which files of weights features need, where they are looked for, what is there."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from mmf.commands.feature_options import network_options
from mmf.commands.shell import STORE, in_bytes, show_columns

if TYPE_CHECKING:
    from mmf.extract.weights import Needed


@click.command()
@network_options
@click.option("--store", default=STORE, show_default=True, help="Whose features, if none is named.")
@click.option("--fetch", is_flag=True, help="Bring what is missing; this needs a network.")
def weights(store: str, fetch: bool, **options: Any) -> int:
    """List the weights that features need, where they are looked for, and what is there.

    Extraction never fetches. Run this with --fetch on a node that has a network.

    \b
    mmf weights --backbone rgb=resnet34 --backbone text=minilm
    mmf weights --feature t=text:minilm,speech=whisper:base
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
    show_columns(
        ("feature", "backbone", "state", "size", "weights, and where they are looked for"),
        [[row for one in found for row in _rows(one)]],
    )
    return 0 if all(one.state == "there" for one in found) else 3


def _rows(one: "Needed") -> Iterator[Sequence[str]]:
    size = in_bytes(one.size_bytes) if one.sha256 else ""
    yield one.feature, one.backbone, one.state, size, one.location
    if str(one.path) != one.location:
        yield "", "", "", "", str(one.path)
