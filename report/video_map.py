"""A map of the videos of a store: near each other is what its features take for alike.

Of each video, the mean of every numeric feature, over at most 32 evenly spaced rows and over the
cells of a grid, is one vector. Each number is standardised over the videos; a feature that a video
lacks is 0, its mean; features weigh alike whatever their size, divided by sqrt(D). Principal
components of all of them together, at most 50, become two by t-SNE (van der Maaten and Hinton, JMLR
2008) where there are enough videos. Of a large store some videos are drawn. Distances between far
groups mean nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mmf import from_extra
from mmf.report.page import Part, Picture, Plot, Text
from mmf.report.plots import axes, label, rounded
from mmf.store import FeatureSpec, FeatureStore
from mmf.store.items import Items
from mmf.store.order import epoch_order

MOST = 2000  # videos of a map
_ROWS = 32  # of a video
_COMPONENTS = 50
_FEWEST = 10  # videos for t-SNE
_PERPLEXITY = 30.0
_COLOURS = 7  # classes that have a colour of their own
_BYTES = 64 << 20  # that are read at once


def mapped(store: FeatureStore) -> list[str]:
    """The videos of the map: all that have numbers, or `MOST` of them in no order at all."""
    names = _numeric(store)
    ids = store.with_rows(names).to_pylist() if names else []
    order = epoch_order(len(ids), seed=0, epoch=0)[:MOST] if len(ids) > MOST else range(len(ids))
    return [ids[int(i)] for i in order]


def video_map(
    store: FeatureStore, videos: Sequence[str], thumbnails: Mapping[str, bytes]
) -> list[Part]:
    """The map of these videos (`mapped`)."""
    if len(videos) < 3:
        return [Text(text=f"{len(videos)} videos with numeric rows are too few for a map.")]
    total = len(store.with_rows(_numeric(store)))
    places, how = flat(vectors(store, videos))
    drawn = "" if total == len(videos) else f", drawn from {total:,}"
    text = f"{len(videos):,} videos{drawn}; {how}."
    if thumbnails:
        text += f" {len(thumbnails):,} have a picture: point at one to see it."
    kinds = _kinds(store, videos)
    named = enumerate(dict.fromkeys(kinds))
    layout = axes("", "")
    for name in ("xaxis", "yaxis"):
        layout[name] |= {"showticklabels": False, "zeroline": False}
    return [
        Plot(
            figure={
                "data": [_points(*one, places, kinds, videos) for one in named],
                "layout": layout,
            },
            alt=f"Map of {text} Colours are the most frequent labels.",
            caption=text,
            height=560,
            pictures={v: Picture(data=data, alt="") for v, data in thumbnails.items()},
        )
    ]


def vectors(store: FeatureStore, videos: Sequence[str]) -> Float[np.ndarray, "B D"]:
    """The vector of each video."""
    items, parts = Items.of_videos(pa.array(videos, pa.string())), []
    for name in _numeric(store):
        spec = store.features[name]
        size = max(1, _BYTES // (_ROWS * spec.row_bytes * 2))
        means = []
        for first in range(0, len(items), size):
            some = items.take(np.arange(first, min(first + size, len(items))))
            batch = store.batch(some, (name,), label_set=None, max_steps=_ROWS)
            means.append(_means(batch.values[name], batch.lengths[name], spec))
        found = np.concatenate(means)
        there = ~np.isnan(found[:, :1])
        with_rows = found[there[:, 0]]
        deviation = with_rows.std(0)
        deviation[deviation == 0] = 1
        found = (found - with_rows.mean(0)) / deviation / np.sqrt(found.shape[1])
        parts.append(np.where(there, found, 0.0))
    return np.concatenate(parts, axis=1)


def flat(found: Float[np.ndarray, "B D"]) -> tuple[Float[np.ndarray, "B 2"], str]:
    """Two numbers for each video, and how they were found."""
    decomposition, manifold = (
        from_extra("report", f"sklearn.{module}", "a map of the videos")
        for module in ("decomposition", "manifold")
    )
    size = min(_COMPONENTS, *found.shape)
    pca = decomposition.PCA(size, random_state=0)
    components = pca.fit_transform(found)
    distinct = len(np.unique(components.round(6), axis=0))
    if len(found) < _FEWEST or distinct < _FEWEST:
        share = float(np.nan_to_num(pca.explained_variance_ratio_[:2]).sum())
        two = np.pad(components[:, :2], ((0, 0), (0, max(0, 2 - components.shape[1]))))
        return two, f"two principal components with {share:.0%} of the variance"
    perplexity = min(_PERPLEXITY, (len(found) - 1) / 3)
    tsne = manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=0)
    return tsne.fit_transform(components), f"t-SNE of {size} principal components"


def _numeric(store: FeatureStore) -> list[str]:
    return [n for n, s in sorted(store.features.items()) if s.dtype != "int32" and s.shape]


def _means(codes: np.ndarray, lengths: np.ndarray, spec: FeatureSpec) -> Float[np.ndarray, "B D"]:
    """The mean row of each video; NaN where it has none."""
    found = np.full((len(codes), spec.shape[-1]), np.nan)
    for i, number in enumerate(lengths.tolist()):
        if number:
            rows = spec.decode(codes[i, :number])
            found[i] = rows.reshape(-1, spec.shape[-1]).mean(0, dtype=np.float64)
    return found


def _kinds(store: FeatureStore, videos: Sequence[str]) -> list[str]:
    """The first label of each video, if it is frequent; 'other', or 'no label'."""
    if not store.label_sets:
        return ["videos"] * len(videos)
    name = "default" if "default" in store.label_sets else store.label_sets[0]
    items, classes = store.items(label_set=name), store.classes(name)
    at, of = items.label_pairs()
    ids = items.video_ids.to_pylist()
    first: dict[str, int] = {}
    for place, c in zip(at.tolist(), of.tolist(), strict=True):
        if c >= 0:
            first.setdefault(ids[place], c)
    shown = [first[v] for v in videos if v in first]
    often = set(np.argsort(-np.bincount(shown, minlength=1), kind="stable")[:_COLOURS].tolist())
    return [
        "no label" if v not in first else classes[first[v]] if first[v] in often else "other"
        for v in videos
    ]


def _points(
    number: int, kind: str, places: np.ndarray, kinds: Sequence[str], videos: Sequence[str]
) -> dict[str, Any]:
    at = [i for i, one in enumerate(kinds) if one == kind]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": label(kind, 30),
        "x": rounded(places[at, 0]),
        "y": rounded(places[at, 1]),
        "customdata": [videos[i] for i in at],
        "text": [label(videos[i]) for i in at],
        "hovertemplate": "%{text}<br>" + label(kind, 30).replace("%", "&#37;") + "<extra></extra>",
        "marker": {"size": 6, "opacity": 0.75},
        "meta": {"series": number},
    }
