"""Scores of items, the same for an item whatever other items it is asked for with.

Matrix products and sums over padded steps round differently in batches of another shape, and even
in another row of one. So logits are computed in float64, and what is made of them is rounded to
float32 at the end, where such differences no longer show: a clip alone has the scores that it has
among a million.

A text encoder stays in float32, at half of the memory and of the time: its rows do not depend on
each other, so it is enough that they come to it in batches of one shape (`TextEncoder.alike`).
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmf.fuse.config import TrainConfig
from mmf.fuse.data import inputs, with_rows
from mmf.fuse.losses import probabilities
from mmf.fuse.network import Network
from mmf.fuse.policy.decisions import Decisions
from mmf.fuse.policy.noise import noise
from mmf.store import Batch, FeatureSpec, FeatureStore, Item
from mmf.store.items import Items

ITEMS = 32  # of one forward pass


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Logits of some items, beside what is known of them."""

    items: Sequence[Item]
    logits: np.ndarray  # float64 (B, C)
    labels: np.ndarray  # float32 (B, C)
    rated: np.ndarray  # bool (B, C)
    there: np.ndarray  # bool (B,): False where the item has no row, so its logits mean nothing
    decisions: Decisions | None = None  # of a network that decides

    def scores(self, loss: str) -> np.ndarray:
        """Float32 (B, C): the probabilities that logits learned with `loss` say."""
        return probabilities(torch.from_numpy(self.logits), loss).float().numpy()


def score(
    network: Network,
    store: FeatureStore,
    items: Sequence[Item],
    specs: dict[str, FeatureSpec],
    config: TrainConfig,
    *,
    label_set: str | None,
    change: Callable[[Batch], Batch] = lambda batch: batch,
) -> Iterator[Scored]:
    """Logits of the items, on the network's device; the network itself stays as it is.

    They come in order, or video by video for a network that reads them so. `change` makes another
    batch of each, whose logits are then asked for.
    """
    network = exact(copy_of(network))
    for at in parts(items, by_video=network.by_video):
        part = Items.of(items).take(at)
        read = store.batch(part, tuple(specs), label_set=label_set, max_steps=config.max_steps)
        batch = change(read)
        found, decisions = with_decisions(network, batch, specs)
        yield Scored(
            items=batch.items,
            logits=found,
            labels=batch.labels,
            rated=batch.rated,
            there=with_rows(batch),
            decisions=decisions,
        )


def exact(network: Network) -> Network:
    """The network itself, made to score: in float64 but for its text encoder, in eval mode."""
    for part in network.children():
        if part is not network.text:
            part.double()
    if network.text is not None:
        network.text.alike = True
    return network.eval()


def logits(network: Network, batch: Batch, specs: Mapping[str, FeatureSpec]) -> np.ndarray:
    """Float64 (B, C) of an `exact` network; its items stand as `parts` has them."""
    return with_decisions(network, batch, specs)[0]


def with_decisions(
    network: Network, batch: Batch, specs: Mapping[str, FeatureSpec]
) -> tuple[np.ndarray, Decisions | None]:
    """Logits, and the decisions they rest on: drawn, where the network's are, by item alone."""
    device, policy = next(network.parameters()).device, network.policy
    one = inputs(batch, specs, device)
    with torch.inference_mode():
        features = {n: x.double() for n, x in one.features.items()}
        if policy is None:
            return network(features, one.masks, one.videos).cpu().numpy(), None
        drawn = None
        if policy.sampled:
            drawn = noise(policy, batch.items, seed=0, epoch=-1, device=device)
        decided = network.decide(features, one.masks, drawn)
    return decided.logits.cpu().numpy(), Decisions.of(policy, decided, batch.lengths)


def parts(items: Sequence[Item], *, by_video: bool) -> Iterator[np.ndarray]:
    """The numbers of the items of each forward pass.

    With `by_video`, of whole videos, the items of each ordered by their start.
    """
    if not by_video:
        for start in range(0, len(items), ITEMS):
            yield np.arange(start, min(start + ITEMS, len(items)))
        return
    columns = Items.of(items)
    videos = columns.video_ids.combine_chunks().dictionary_encode().indices.to_numpy()
    starts = columns.column("start").to_numpy()
    order = np.lexsort((np.nan_to_num(starts.astype(np.float64)), videos))
    ends = np.flatnonzero(np.diff(videos[order], append=-1)) + 1
    first = 0
    for end in ends.tolist():
        if end - first >= ITEMS or end == len(order):
            yield order[first:end]
            first = end


def copy_of(network: Network) -> Network:
    """A copy that shares the tensors of the text encoder, which scoring leaves as they are."""
    text = network.text
    shared = [] if text is None else [*text.parameters(), *text.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in shared})
