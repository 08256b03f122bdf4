"""Chance that is a pure function of what it is for, so that it is the same wherever a run goes on.

What concerns an item follows from (seed, epoch, item), whatever batch, part or process it is in:
splitmix64 (Steele, Lea and Flood, OOPSLA 2014) of a hash of all three. What concerns a step, such
as dropout inside the network, comes from torch's generators, seeded anew by (seed, step, part).
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float

from mmf.store import Item

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def seed_step(seed: int, step: int, part: int, device: torch.device) -> None:
    """Seed torch's generators for one part (of a batch, over all processes) of a step."""
    (number,) = np.random.SeedSequence((seed, step, part)).generate_state(1, np.uint64)
    torch.default_generator.manual_seed(int(number))
    if device.type == "cuda":
        torch.cuda.manual_seed(int(number))


def uniform(
    items: Iterable[Item], numbers: int, *, seed: int, epoch: int, purpose: str
) -> Float[np.ndarray, "B n"]:
    """Numbers in [0, 1) for each item, others for each purpose."""
    stem = hashlib.blake2b(f"{purpose} {seed} {epoch}".encode(), digest_size=8)
    first = [_number(stem.copy(), item.id) for item in items]
    counter = np.arange(1, numbers + 1, dtype=np.uint64) * _GOLDEN
    x = np.array(first, dtype=np.uint64)[:, None] + counter  # wraps, as it should
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def _number(stem: hashlib.blake2b, item: str) -> int:
    stem.update(b"\0" + item.encode(errors="surrogateescape"))
    return int.from_bytes(stem.digest(), "little")
