"""Stencils: the inputs that a network answers most with one class.

After Disney's Mixer for video (`fuse.recipes.mixer`): noise becomes a stencil by following the
gradient of a class's activation back to the input. Of each class there are R of them, from other
noise; K-means of their directions puts like ones together, and the mean of each cluster is kept.
The paper leaves open what the stencil is to the input. Here S **is the input**, the weights frozen:

    max_S f_c(X̄ + S)    ‖S‖ = r        S: M × (L_m, D_m), all modalities at once

behind the normalisation (`fuse.explain.met`), around the mean step X̄ (which is 0 where rows are
standardised), with r what ‖X - X̄‖ is of a usual item. Of an item, step t of modality m contributes
``<S_t, X_t - X̄>``, and the score is the sum. Of a linear network S is r W / ‖W‖, and scores rank
items as its logits do. Of any other they are a picture of it and no more: `fidelity` says how well
they rank. It holds for every fusion whose logits have a gradient in all steps.

A Mixer has weights for each position, so step t meets S_t. Of any other network, an item of T steps
meets the stencil stretched to its own length, ``S_t = sum_j a_tj S_j`` with a_tj the share of row j
(of L) that lies in [t, t + 1) L / T; these sum to L / T, so a mean over time stays one.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmf import MmfError, from_extra
from mmf.fuse.explain.met import Usual, comparable
from mmf.fuse.explain.stencils.ascent import ascend
from mmf.fuse.explain.subject import Subject
from mmf.fuse.fusions.contract import StepFusion
from mmf.fuse.inference.scoring import copy_of
from mmf.fuse.network import Network

_ALIKE = 0.999  # the cosine of two clusters that are one
_AT_ONCE, _TOGETHER = 1 << 22, 1 << 24  # numbers of a forward pass; of stencils that climb at once


@dataclass(frozen=True, kw_only=True)
class StencilOptions:
    """How stencils are found."""

    restarts: int = 32  # R
    clusters: int = 3  # of a class at most
    steps: int = 60  # of the ascent at most
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.restarts, self.clusters, self.steps) < 1 or self.seed < 0:
            raise MmfError(
                f"{self.restarts} restarts, {self.clusters} clusters, {self.steps} steps, seed "
                f"{self.seed}: expected at least 1 of each, and a seed of 0 or more."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Stencils:
    """Of one class, in K clusters, those with the highest logit first."""

    name: str  # of the class
    modalities: tuple[str, ...]
    positional: bool  # step t meets row t; else a stencil is stretched to an item's length
    values: Sequence[Float[Tensor, "K _ _"]]  # M × (K, L, D)
    sizes: Int[np.ndarray, " K"]  # stencils of the cluster; they sum to R
    logits: Float[np.ndarray, " K"]  # of the cluster's mean, fed
    usual: Usual

    def stretched(self, m: int, steps: int) -> Float[Tensor, "K T D"]:
        """The stencils of a modality as an item of so many steps meets them."""
        s = self.values[m]
        if self.positional:
            n = min(steps, s.shape[1])
            return torch.cat([s[:, :n], s.new_zeros(len(s), steps - n, s.shape[2])], 1)
        if steps == s.shape[1]:
            return s
        return shares_of_rows(s.shape[1], steps).to(s) @ s

    def contributions(self, item: Sequence[Float[Tensor, "_ _"]]) -> list[Float[Tensor, "K _"]]:
        """``<S_t, X_t - X̄>`` (K, T) of each modality, of one item's steps (T, D)."""
        pairs = enumerate(zip(item, self.usual.mean, strict=True))
        return [(self.stretched(m, len(x)) * (x - mean)).sum(2) for m, (x, mean) in pairs]


def shares_of_rows(rows: int, steps: int) -> Float[Tensor, "T L"]:
    """The share of each of L rows that lies in each of T steps, where both span the same time."""
    edges, marks = torch.arange(steps + 1) * (rows / steps), torch.arange(rows + 1.0)
    low = torch.maximum(edges[:-1, None], marks[None, :-1])
    high = torch.minimum(edges[1:, None], marks[None, 1:])
    return (high - low).clamp_min(0)


def find_stencils(
    subject: Subject, classes: Sequence[str], usual: Usual, options: StencilOptions | None = None
) -> list[Stencils]:
    """The stencils of each class."""
    o = options or StencilOptions()
    network = copy_of(subject.network).requires_grad_(False).float().eval()
    numbers = [subject.run.classes.index(name) for name in classes]
    field = _Field(network, usual, subject.run.loss)
    together = max(1, _TOGETHER // (o.restarts * field.size))
    found: list[Stencils] = []
    for first in range(0, len(numbers), together):
        some = numbers[first : first + together]
        start = torch.cat([field.noise(o.restarts, o.seed, c) for c in some])
        of_class = torch.tensor(some).repeat_interleave(o.restarts)
        with torch.backends.cudnn.flags(enabled=False):  # its RNNs have no gradient in eval mode
            best, _ = ascend(partial(field, classes=of_class), start, usual.norm, o.steps)
        for c, its in zip(some, best.split(o.restarts), strict=True):
            found.append(_clustered(subject, field, c, its, o))
    return found


class _Field:
    """Logits as a function of stencils (N, E), all modalities' numbers in one row."""

    def __init__(self, network: Network, usual: Usual, loss: str):
        self.network, self.usual, self.loss = network, usual, loss
        self.positional = _is_positional(network)
        lengths = usual.longest if self.positional else usual.lengths
        read = getattr(network.fusion, "lengths", lengths) if self.positional else lengths
        self.shapes = [
            (min(length, most), len(mean))
            for length, most, mean in zip(lengths, read, usual.mean, strict=True)
        ]
        self.size = sum(length * size for length, size in self.shapes)
        self.device = usual.mean[0].device

    def noise(self, restarts: int, seed: int, c: int) -> Float[Tensor, "R E"]:
        """Of each class its own, whatever other classes are asked for."""
        rng = np.random.default_rng((seed, c))
        parts = [
            rng.standard_normal((restarts, length * size), dtype=np.float32) * deviation
            for (length, size), deviation in zip(self.shapes, self.usual.deviation, strict=True)
        ]
        return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32)).to(self.device)

    def split(self, x: Float[Tensor, "N E"]) -> list[Float[Tensor, "N _ _"]]:
        """The modalities' own parts."""
        parts = x.split([length * size for length, size in self.shapes], 1)
        return [p.reshape(len(x), *shape) for p, shape in zip(parts, self.shapes, strict=True)]

    def __call__(self, x: Float[Tensor, "N E"], classes: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        most = max(1, _AT_ONCE // self.size)
        pairs = zip(x.split(most), classes.to(x.device).split(most), strict=True)
        return torch.cat([self._logits(part).gather(1, c[:, None])[:, 0] for part, c in pairs])

    def _logits(self, x: Tensor) -> Tensor:
        steps, there = [], []
        for m, s in enumerate(self.split(x)):
            varies = self.usual.deviation[m] > 0  # or nothing can be said of it: made zeros, say
            steps.append(self.usual.mean[m] + s * varies)
            there.append(torch.full(s.shape[:2], self.usual.there[m], device=s.device))
        return comparable(self.network.of_steps(steps, there), self.loss)


def _is_positional(network: Network) -> bool:
    return isinstance(network.fusion, StepFusion) and network.fusion.positional


def _clustered(
    subject: Subject, field: _Field, c: int, found: Tensor, options: StencilOptions
) -> Stencils:
    """The mean of each cluster of the stencils (R, E), put back onto the sphere."""
    directions = torch.nn.functional.normalize(found, dim=1)
    labels = _cluster(directions.cpu().numpy(), options)
    means = torch.stack([directions[labels == k].mean(0) for k in range(labels.max() + 1)])
    means = torch.nn.functional.normalize(means, dim=1) * field.usual.norm
    with torch.no_grad():
        logits = field(means, torch.full((len(means),), c)).cpu().numpy()
    order = np.argsort(-logits, kind="stable")
    return Stencils(
        name=subject.run.classes[c],
        modalities=subject.network.features,
        positional=field.positional,
        values=[part[order] for part in field.split(means)],
        sizes=np.bincount(labels)[order],
        logits=logits[order],
        usual=field.usual,
    )


def _cluster(directions: Float[np.ndarray, "R E"], options: StencilOptions) -> np.ndarray:
    """The number of each one's cluster, from 0 without a gap.

    Of vectors of length 1, the squared distances of K-means are 2 - 2 cos. Where all stencils are
    one but for rounding, K-means would part them all the same; clusters so alike are one.
    """
    k = min(options.clusters, len(directions))
    cluster = from_extra("report", "sklearn.cluster", "clustering of stencils")
    means = cluster.KMeans(k, n_init=4, random_state=options.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that fewer are distinct: then there are fewer
        found = means.fit_predict(directions)
    means_of = [directions[found == c].mean(0) for c in np.unique(found)]
    centres = np.stack([x / max(float(np.linalg.norm(x)), 1e-30) for x in means_of])
    first = (centres @ centres.T > _ALIKE).argmax(1)  # the first that each is alike
    merged = first[np.unique(found, return_inverse=True)[1]]
    return np.unique(merged, return_inverse=True)[1]
