"""Scores of items, the same for an item whatever other items it is asked for with.

Matrix products and sums over padded steps round differently in batches of another shape, and even
in another row of one. So logits are computed in float64, and what is made of them is rounded to
float32 at the end, where such differences no longer show: a clip alone has the scores that it has
among a million.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmf.fuse.config import TrainConfig
from mmf.fuse.data import inputs, with_rows
from mmf.fuse.network import Network
from mmf.store import FeatureSpec, FeatureStore, Item

_ITEMS = 32  # of one forward pass


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Logits of some items, beside what is known of them."""

    items: Sequence[Item]
    logits: np.ndarray  # float64 (B, C)
    labels: np.ndarray  # float32 (B, C)
    rated: np.ndarray  # bool (B, C)
    there: np.ndarray  # bool (B,): False where the item has no row, so its logits mean nothing


def score(
    network: Network,
    store: FeatureStore,
    items: Sequence[Item],
    specs: dict[str, FeatureSpec],
    config: TrainConfig,
    *,
    label_set: str | None,
) -> Iterator[Scored]:
    """Logits of the items, on the network's device; the network itself stays as it is.

    They come in order, or video by video for a network that reads them so.
    """
    device = next(network.parameters()).device
    network = copy.deepcopy(network).double().eval()
    for part in _parts(items, by_video=network.by_video):
        batch = store.batch(part, tuple(specs), label_set=label_set, max_steps=config.max_steps)
        one = inputs(batch, specs, device)
        with torch.inference_mode():
            features = {n: x.double() for n, x in one.features.items()}
            logits = network(features, one.masks, one.videos)
        yield Scored(
            items=batch.items,
            logits=logits.cpu().numpy(),
            labels=batch.labels,
            rated=batch.rated,
            there=with_rows(batch),
        )


def _parts(items: Sequence[Item], *, by_video: bool) -> Iterator[Sequence[Item]]:
    """The items of each forward pass; with `by_video`, of whole videos, ordered by their start."""
    if not by_video:
        yield from (items[start : start + _ITEMS] for start in range(0, len(items), _ITEMS))
        return
    videos: dict[str, list[Item]] = {}
    for item in items:
        videos.setdefault(item.video_id, []).append(item)
    part: list[Item] = []
    for video in videos.values():
        part += sorted(video, key=lambda item: item.start or 0.0)
        if len(part) >= _ITEMS:
            yield part
            part = []
    if part:
        yield part
