"""The page of a store: what is in it, how long it is, its labels, a map of it, and what failed."""

import json
from typing import Any

from mmf.report.data_sections import failures, in_bytes, lengths, splits_of
from mmf.report.media import Media, NoMedia
from mmf.report.page import Facts, Page, Part, Table, Text, attempt
from mmf.report.video_map import mapped, video_map
from mmf.store import FeatureStore
from mmf.store.overview import describe


def store_page(
    store: FeatureStore,
    *,
    media: Media | None = None,
    most: int = 200,
    reload_seconds: float = 0.0,
) -> Page:
    """The page of a store, with thumbnails of `most` videos."""
    found = describe(store)
    shows = media or NoMedia()

    def drawn() -> list[Part]:
        videos = mapped(store)
        return video_map(store, videos, shows.thumbnails(store, videos[:most]))

    sections = [
        attempt("What is in it", "features", lambda: _features(found)),
        attempt("Lengths", "lengths", lambda: lengths(store, sorted(store.features))),
        attempt("Labels and splits", "labels", lambda: _labels(store)),
        attempt("Map of the videos", "map", drawn),
        attempt("Missing and failed", "missing", lambda: failures(store, sorted(store.features))),
    ]
    what = f"{found['videos']:,} videos, {len(found['features'])} features, " + in_bytes(
        found["bytes"]
    )
    return Page(
        title=f"Store {store.path.name}",
        subtitle=what,
        sections=sections,
        reload_seconds=reload_seconds,
    )


def _features(found: dict[str, Any]) -> list[Part]:
    facts = {"store": found["store"], "content": found["content"]}
    columns = ["feature", "modality", "made by", "row", "dtype", "rows", "bytes"]
    columns += ["done", "skipped", "failed", "missing"]
    rows, recipes = [], {}
    for name, one in found["features"].items():
        row = " × ".join(map(str, one["shape"]))
        rate = f", {one['rate']:g} rows/s" if one["rate"] else ""
        about = [name, one["modality"], one["backbone"] + rate, row, one["dtype"]]
        counts = [one[k] for k in ("rows", "bytes", "done", "skipped", "failed", "missing")]
        rows.append([*about, *counts])
        recipes[name] = one["recipe"]
    if not rows:
        return [Facts(facts=facts), Text(text="There is no feature yet.", kind="missing")]
    text = json.dumps(recipes, indent=2, ensure_ascii=False)
    return [
        Facts(facts=facts),
        Table(columns=columns, rows=rows),
        Text(text=text, kind="code", folded="The recipes"),
    ]


def _labels(store: FeatureStore) -> list[Part]:
    if not store.label_sets:
        return [Text(text="Nothing is labelled; `mmf label` adds labels.", kind="note")]
    parts: list[Part] = []
    for name in store.label_sets:
        if len(store.label_sets) > 1:
            parts.append(Text(text=f"Label set {name}"))
        parts += splits_of(store.items(label_set=name), None, store.classes(name))
    return parts
