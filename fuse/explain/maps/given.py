"""An item as a network is given it, alone and without padding, with the seconds of its steps.

A layer in the network is watched by what it is called with: nothing is added to the forward pass
of training, and what a layer was given can be asked about again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmf.fuse.data import Inputs, inputs
from mmf.fuse.explain.subject import Subject
from mmf.store import FeatureStore, Item
from mmf.store.batch import evenly
from mmf.store.items import Items

_ITEMS = 32  # that are read at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """One item, with the features it has; each has one row at least."""

    item: Item
    features: Mapping[str, Tensor]  # name → float32 (1, T, *row shape)
    times: Mapping[str, np.ndarray]  # name → seconds of each step: a row, a cell or a sub-word
    begins: float  # seconds of the first row of the video itself


def each_item(subject: Subject) -> Iterator[Given]:
    """The items in order; those without a row of any feature are left out."""
    run, store = subject.run, subject.store
    specs = {name: spec for name, spec in run.specs.items() if name in store.features}
    device = next(subject.network.parameters()).device
    for start in range(0, len(subject.items), _ITEMS):
        part = subject.items.take(np.arange(start, min(start + _ITEMS, len(subject.items))))
        batch = store.batch(part, tuple(specs), label_set=None, max_steps=run.config.max_steps)
        numbers = inputs(batch, specs, device)
        for i, item in enumerate(part):
            rows = {name: int(n[i]) for name, n in batch.lengths.items() if n[i]}
            if rows:
                yield _alone(store, numbers, i, item, rows)


def _alone(
    store: FeatureStore, numbers: Inputs, i: int, item: Item, rows: Mapping[str, int]
) -> Given:
    features, times, firsts, one = {}, {}, [], Items.of([item])
    for name, n in rows.items():
        x = features[name] = numbers.features[name][i : i + 1, :n]
        stored = store.stored(name)
        position, first, number = stored.spans(one, stored.positions(one.video_ids))[0].tolist()
        seconds = stored.times(position)
        firsts.append(float(seconds[0]))
        of_rows = seconds[first + evenly(number, n)]
        if stored.spec.dtype == "int32":  # token ids: a step is a sub-word
            times[name] = np.repeat(of_rows, (x[0] >= 0).sum(1).cpu().numpy())
        else:
            times[name] = np.repeat(of_rows, int(np.prod(x.shape[2:-1])))
    return Given(item=item, features=features, times=times, begins=min(firsts))


def calls(
    subject: Subject,
    given: Given,
    modules: Mapping[str, nn.Module],
    masks: Mapping[str, Tensor] | None = None,
) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """What each module was called with, and what it gave, in a forward pass over the item alone.

    By the names given here, in the order of the calls.
    """
    found: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            found[name] = arguments, output

        return hook

    handles = [m.register_forward_hook(keep(name)) for name, m in modules.items()]
    try:
        with torch.no_grad():
            subject.network(given.features, masks)
    finally:
        for handle in handles:
            handle.remove()
    return found
