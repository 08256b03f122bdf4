"""The store's batches (NumPy, stored codes, padded) as tensors on a device (float32, masked)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmf import MmfError
from mmf.store import Batch, FeatureSpec, FeatureStore, Item
from mmf.store.items import Items


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """One batch on the device."""

    features: dict[str, Tensor]  # name → float32 (B, T, *row shape); exact 0 where there is no row
    masks: dict[str, Tensor]  # name → bool (B, T); all False where the item lacks the feature
    labels: Float[Tensor, "B C"]
    rated: Bool[Tensor, "B C"]  # False also for all of an item that has no row of any feature
    videos: Int[Tensor, " B"]  # the number of each item's video, by first appearance in the batch


def inputs(batch: Batch, specs: Mapping[str, FeatureSpec], device: torch.device) -> Inputs:
    """The batch as tensors; stored codes travel to the device and become numbers there."""
    features, masks = {}, {}
    for name, spec in specs.items():
        mask = torch.from_numpy(batch.mask(name)).to(device)
        features[name] = _numbers(torch.from_numpy(batch.values[name]).to(device), spec, mask)
        masks[name] = mask
    rated = batch.rated & with_rows(batch)[:, None]
    return Inputs(
        features=features,
        masks=masks,
        labels=torch.from_numpy(batch.labels).to(device),
        rated=torch.from_numpy(rated).to(device),
        videos=_videos(batch.items).to(device),
    )


def _videos(items: Sequence[Item]) -> Int[Tensor, " B"]:
    """The number of each item's video, by first appearance."""
    codes = Items.of(items).video_ids.combine_chunks().dictionary_encode().indices
    return torch.from_numpy(codes.to_numpy().astype(np.int64))


def _numbers(codes: Tensor, spec: FeatureSpec, mask: Bool[Tensor, "B T"]) -> Tensor:
    """Stored codes as float32. Padding is code 0 and becomes the number 0: it has no offset."""
    if spec.dtype != "uint8":
        return codes.float()
    scale, offset = spec.scale_offset
    offsets = (mask * offset).reshape(*mask.shape, *(1 for _ in spec.shape))
    return codes.float().mul_(scale).add_(offsets)  # fresh memory would cost more than the sums


def with_rows(batch: Batch) -> np.ndarray:
    """Bool (B,): the item has a row of some feature."""
    return np.any([lengths > 0 for lengths in batch.lengths.values()], axis=0)


def feature_rows(
    store: FeatureStore, items: Sequence[Item], spec: FeatureSpec, max_steps: int
) -> Iterator[Float[Tensor, "_ D"]]:
    """All rows that the items have of one feature, batch by batch, on the CPU."""
    size = spec.shape[-1] if spec.shape else 1
    for start in range(0, len(items), 256):
        batch = store.batch(
            items[start : start + 256], (spec.name,), label_set=None, max_steps=max_steps
        )
        one = inputs(batch, {spec.name: spec}, torch.device("cpu"))
        yield one.features[spec.name][one.masks[spec.name]].reshape(-1, size)


def choose_device(name: str) -> torch.device:
    """The device called `name`; ``auto`` is cuda where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or not (number or "0").isdigit():
        raise MmfError(f"device {name!r}: expected auto, cpu, cuda or cuda:N.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise MmfError(
            f"device {name!r} is not here: torch sees {torch.cuda.device_count()} CUDA devices. "
            "Use --device cpu or auto."
        )
    return torch.device(name)
