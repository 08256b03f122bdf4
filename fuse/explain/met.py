"""Items as a network's fusion meets them, and what is usual of them: what explanations rest on.

All of it is **behind the normalisation** (and the text encoder), where features of different scales
are alike: standardised rows have mean 0 and deviation 1 in each dimension, sub-words are vectors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmf import MmfError, unknown
from mmf.fuse.data import inputs, with_rows
from mmf.fuse.explain.subject import Subject
from mmf.fuse.inference.prediction import items_of
from mmf.fuse.inference.scoring import parts
from mmf.store import Item
from mmf.store.items import Items

CLASSES = 20  # that are explained where nobody says which
_USUAL = 256  # items that say what is usual


@dataclass(frozen=True, kw_only=True, eq=False)
class Met:
    """Some items at their fusion; M modalities, each with steps of its own number and size."""

    items: Sequence[Item]  # those that have a row of some feature
    steps: Sequence[Tensor]  # M × float32 (B, T, D), zero where there is none
    there: Sequence[Tensor]  # M × bool (B, T); an item's steps come first, padding behind
    videos: Tensor  # int64 (B,), the number of each item's video
    logits: Float[Tensor, "B C"]  # `comparable`
    positive: Bool[np.ndarray, "B C"]  # labels, in the run's order of classes

    def __len__(self) -> int:
        return len(self.items)

    def item(self, i: int) -> list[Float[Tensor, "_ _"]]:
        """The steps (T, D) that one item has of each modality."""
        pairs = zip(self.steps, self.there, strict=True)
        return [x[i][mask[i]] for x, mask in pairs]


def comparable(logits: Float[Tensor, "B C"], loss: str) -> Float[Tensor, "B C"]:
    """Logits as they can be compared; of a softmax, less their mean over the classes.

    What is added to all of them changes no probability, so it must explain nothing.
    """
    return logits - logits.mean(1, keepdim=True) if loss == "ce" else logits


def meet(subject: Subject, items: Items | None = None) -> Iterator[Met]:
    """The items (None: the subject's) as they are met; those without a row are left out.

    Raises MmfError for a run that decides: what it skips has no gradient, and with other rows it
    would decide otherwise.
    """
    run, store, network = subject.run, subject.store, subject.network
    if network.policy is not None:
        raise MmfError(
            f"run {str(run.path)!r} decides which segments it uses (fusion {run.config.fusion!r}), "
            "and what it skips has no gradient to follow. `mmf explain RUN selection` shows what "
            "it uses, `mmf explain RUN ablation` what it loses without each modality."
        )
    items, label_set = subject.items if items is None else items, subject.label_set
    specs = {name: spec for name, spec in run.specs.items() if name in store.features}
    classes = store.classes(label_set) if label_set else ()
    columns = [classes.index(name) if name in classes else -1 for name in run.classes]
    device = next(network.parameters()).device
    for at in parts(items, by_video=network.by_video):
        batch = store.batch(
            items.take(at), tuple(specs), label_set=label_set, max_steps=run.config.max_steps
        )
        one, some = inputs(batch, specs, device), np.flatnonzero(with_rows(batch))
        if not len(some):
            continue
        kept = torch.from_numpy(some).to(device)
        with torch.no_grad():
            steps, there = network.steps(one.features, one.masks)
            logits = comparable(network.of_steps(steps, there, one.videos), run.loss)
        labels = np.pad(batch.labels[some] > 0, ((0, 0), (0, 1)))  # the last: a class unknown there
        yield Met(
            items=[batch.items[i] for i in some.tolist()],
            steps=[x[kept].float() for x in steps],
            there=[mask[kept] for mask in there],
            videos=one.videos[kept],
            logits=logits[kept],
            positive=labels[:, columns],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Usual:
    """What is usual at the fusion, by some items of the validation split."""

    items: Items
    mean: Sequence[Float[Tensor, " _"]]  # M × (D,): the mean step
    deviation: Sequence[float]  # M: of the numbers of a step; 0 where it never varies, or is none
    there: Sequence[bool]  # M: some item has it
    lengths: Sequence[int]  # M: the median number of steps of an item that has any
    longest: Sequence[int]  # M
    norm: float  # the median over items of ‖X - mean‖, over all modalities


def usual(subject: Subject) -> Usual:
    """Of at most 256 items of split val, else of train, else of the subject's own."""
    items = _usual_items(subject)
    sums: list[Tensor] = []
    counts: list[list[int]] = [[] for _ in subject.network.features]
    for met in meet(subject, items):
        rows = [x[mask].double() for x, mask in zip(met.steps, met.there, strict=True)]
        these = [torch.stack([x.sum(0), x.square().sum(0)]) for x in rows]
        sums = [a + b for a, b in zip(sums, these, strict=True)] if sums else these
        for each, mask in zip(counts, met.there, strict=True):
            each += mask.sum(1).tolist()
    if not sums:
        raise MmfError(
            f"none of {len(items)} items has a row of {', '.join(subject.network.features)}, so "
            "there is nothing to explain."
        )
    moments = [x / max(1, sum(each)) for x, each in zip(sums, counts, strict=True)]  # M × (2, D)
    mean = [x[0].float() for x in moments]
    spread = [float((x[1] - x[0].square()).clamp_min(0).mean().sqrt()) for x in moments]
    norms = []
    for met in meet(subject, items):
        for i in range(len(met)):
            squares = [(x - m).square().sum() for x, m in zip(met.item(i), mean, strict=True)]
            norms.append(float(sum(squares)) ** 0.5)
    return Usual(
        items=items,
        mean=mean,
        deviation=spread,
        there=[any(each) for each in counts],
        lengths=[int(np.median([one for one in each if one] or [1])) for each in counts],
        longest=[max(1, *each) for each in counts],
        norm=float(np.median(norms)),
    )


def _usual_items(subject: Subject) -> Items:
    found = subject.items
    for split in ("val", "train"):
        try:
            found = items_of(subject.store, subject.run, split)
        except MmfError:  # no such split here
            continue
        break
    every = np.linspace(0, len(found) - 1, min(_USUAL, len(found))).astype(np.int64)
    return found.take(every)


def choose_classes(subject: Subject, named: Sequence[str] = ()) -> list[str]:
    """Those that are named, else all, or of many the 20 with the most positives among the items.

    Raises MmfError for a class that the run does not know.
    """
    known = subject.run.classes
    for name in named:
        if name not in known:
            raise unknown("class", name, known)
    if named or len(known) <= CLASSES:
        return list(dict.fromkeys(named)) or list(known)
    if subject.label_set is None:
        return list(known[:CLASSES])
    classes = subject.store.classes(subject.label_set)
    _, numbers = subject.items.label_pairs()
    counts = np.bincount(numbers[numbers >= 0], minlength=len(classes))
    most = np.argsort(-counts, kind="stable").tolist()
    return [classes[c] for c in most if classes[c] in known][:CLASSES]
