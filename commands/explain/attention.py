"""What the layers of attention of a run look at: tables, and pictures beside the frames."""

from pathlib import Path
from typing import Any

import click

from mmf.commands.explain.items import about_items, check_some, check_videos, show
from mmf.commands.explain.maps import draw_all


@click.command()
@about_items("attention")
@click.pass_obj
def attention(run: str, /, most: int, videos: str | None, out: str, **options: Any) -> None:
    """What each step of an item attends to, in every layer and head of RUN.

    \b
    mmf explain runs/gmsa-1 attention --out attention
    mmf explain runs/gmsa-1 attention --items clip.mp4 --videos clips

    OUT/heads.parquet has a row for each item, layer and head, with its sparsity (1 - normalised
    entropy: 0 even, 1 one step) and mean distance in steps; OUT/profiles.parquet how much each step
    is looked at, mean over heads; OUT/layers.csv means over items. Where a layer has tokens of
    several features, OUT/modalities.csv says which attends to which. The first --most are drawn.
    """
    from pyarrow.csv import write_csv

    from mmf.fuse.explain.maps.attention import attentions
    from mmf.fuse.explain.maps.pictures import attention_picture
    from mmf.fuse.explain.maps.tables import (
        HEADS,
        PROFILES,
        Means,
        between_features,
        heads,
        profiles,
        writing,
    )
    from mmf.fuse.explain.subject import open_subject

    check_videos(videos)
    subject = open_subject(run, **options)
    each, folder, pictures, items = attentions(subject), Path(out), dict[str, Any](), 0
    layers = Means(by=("layer", "level"), of=("sparsity", "distance"))
    between = Means(by=("layer", "from", "to"), of=("share", "even"))
    with (
        writing(folder / "heads.parquet", HEADS) as of_heads,
        writing(folder / "profiles.parquet", PROFILES) as of_steps,
    ):
        for found in each:
            items += 1
            for one in found:
                layers.add(rows := list(heads(one)))
                of_heads.add(rows)
                of_steps.add(profiles(one))
                between.add(between_features(one))
            if found and len(pictures) < most:
                first = found[0]
                its = attention_picture(found), first.item.video_id, first.begins
                pictures[first.item.id] = its
        check_some(items, subject)
    written = ["heads.parquet", "profiles.parquet"]
    for name, table in (("layers", layers.table()), ("modalities", between.table())):
        if len(table):
            write_csv(table, folder / f"{name}.csv")
            written.append(f"{name}.csv")
            show(table)
    click.echo(f"{items} items; sparsity: 0 even over all steps, 1 one step; distance in steps")
    number = draw_all(subject, pictures, folder, videos)
    click.echo(f"{folder}: {', '.join(written)}, {number} pictures")
