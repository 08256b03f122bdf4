"""How alike the rows of an item are that a run is given: tables, and pictures beside the frames."""

from pathlib import Path
from typing import Any

import click

from mmf.commands.explain.items import about_items, check_some, check_videos, show
from mmf.commands.explain.maps import draw_all


@click.command()
@about_items("similarity")
@click.pass_obj
def similarity(run: str, /, most: int, videos: str | None, out: str, **options: Any) -> None:
    """The cosine between the rows of each feature, as RUN's fusion meets them.

    \b
    mmf explain runs/gmsa-1 similarity --out similarity

    OUT/similarity.parquet has a row for each item and feature: the mean cosine of neighbours and of
    all pairs, and the half-life, the distance at which half of what neighbours have above that mean
    is gone; OUT/features.csv means over items. The first --most are drawn.
    """
    from pyarrow.csv import write_csv

    from mmf.fuse.explain.maps.pictures import similarity_picture
    from mmf.fuse.explain.maps.similarity import similarities
    from mmf.fuse.explain.maps.tables import SIMILARITY, Means, writing
    from mmf.fuse.explain.maps.tables import similarity as row_of
    from mmf.fuse.explain.subject import open_subject

    check_videos(videos)
    subject = open_subject(run, **options)
    folder, pictures, items = Path(out), dict[str, Any](), 0
    means = Means(by=("feature",), of=("neighbours", "mean", "half_life", "half_life_s"))
    with writing(folder / "similarity.parquet", SIMILARITY) as file:
        for found in similarities(subject):
            items += 1
            rows = [row_of(one) for one in found]
            file.add(rows)
            means.add(rows)
            if found and len(pictures) < most:
                first = found[0]
                its = similarity_picture(found), first.item.video_id, first.begins
                pictures[first.item.id] = its
        check_some(items, subject)
    write_csv(means.table(), folder / "features.csv")
    show(means.table())
    click.echo(f"{items} items")
    number = draw_all(subject, pictures, folder, videos)
    click.echo(f"{folder}: similarity.parquet, features.csv, {number} pictures")
