"""What a run loses without a modality: its own metrics, with the modality changed in three ways.

zeroed     its rows are zeros behind the normalisation: standardised, they are at their mean
missing    masked, as of an item that has none
shuffled   its rows in another order, drawn from a seed for each item and modality; what is lost
           then is what the order says. "all" shuffles those of every modality, each in its own

Each is held against the whole. The interval of what the main metric loses is that of the paired
bootstrap over videos (`fuse.compare.bootstrap`) on the items that both have: as far as those go.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mmf import MmfError
from mmf.fuse.compare.bootstrap import RESAMPLES, Mean, PooledPrecision, Statistic, paired_interval
from mmf.fuse.compare.scores import best_of
from mmf.fuse.evaluation.measure import metric_names
from mmf.fuse.evaluation.subject import Collected, Subject, collect, pick
from mmf.fuse.explain.subject import open_subject
from mmf.fuse.inference.scoring import Scored, copy_of, score
from mmf.fuse.network import Network
from mmf.store import Batch

ALL = "all"  # modalities
_BEST = 20  # classes of an item; GAP's
Change = Callable[[Batch], Batch]


def same(batch: Batch) -> Batch:
    """No change."""
    return batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Ablated:
    """What is measured with one change; of `lost`, more is worse: of the loss, what it rises by."""

    modality: str  # "" of the whole
    how: str  # zeroed, missing, shuffled; "" of the whole
    items: int  # measured; one that has nothing else is left out where a modality is missing
    metrics: Mapping[str, float]
    lost: Mapping[str, float]
    interval: tuple[float, float] | None  # of the main metric's `lost`; None of the whole
    ap: Float[np.ndarray, " C"]  # average precision of each class; NaN without a positive


@dataclass(frozen=True, kw_only=True, eq=False)
class Ablation:
    """All changes of a run, the whole first."""

    main: str  # the metric whose interval is told
    classes: tuple[str, ...]
    positives: Sequence[int]
    items: int
    rows: Sequence[Ablated]

    def table(self) -> pa.Table:
        """A row per change: the metrics, what each loses, and the interval of the main one."""
        rows = []
        for one in self.rows:
            low, high = one.interval or (None, None)
            rows.append(
                {"modality": one.modality or ALL, "how": one.how or "whole", "items": one.items}
                | {name: float(value) for name, value in one.metrics.items()}
                | {f"{name}_lost": float(value) for name, value in one.lost.items()}
                | {f"{self.main}_lost_low": low, f"{self.main}_lost_high": high}
            )
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        kinds = {name: type(values[-1]) for name, values in columns.items()}
        plain = {str: pa.string(), int: pa.int64()}
        types = {name: plain.get(kind, pa.float64()) for name, kind in kinds.items()}
        return pa.table({name: pa.array(v, types[name]) for name, v in columns.items()})

    def by_class(self) -> pa.Table:
        """A row per class and change: average precision, and what is lost; the most lost first.

        Classes without a positive are left out.
        """
        whole, *changed = self.rows
        rows = [
            {
                "class": self.classes[c],
                "positives": int(self.positives[c]),
                "modality": one.modality,
                "how": one.how,
                "ap": float(one.ap[c]),
                "ap_lost": float(whole.ap[c] - one.ap[c]),
            }
            for one in changed
            for c in np.flatnonzero(~np.isnan(whole.ap)).tolist()
        ]
        table = pa.Table.from_pylist(rows, CLASSES)
        return table.sort_by([("ap_lost", "descending"), ("class", "ascending")])


CLASSES = pa.schema(
    [
        ("class", pa.string()),
        ("positives", pa.int64()),
        ("modality", pa.string()),
        ("how", pa.string()),
        ("ap", pa.float64()),
        ("ap_lost", pa.float64()),
    ]
)


def ablate(
    run: str | Path,
    store: str | Path | None = None,
    *,
    split: str | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    device: str = "auto",
) -> Ablation:
    """Measure a run on a split (None: test), whole and with each change of each modality.

    Of a run of one feature none is missing: nothing would be left. Raises MmfError where the store
    has no labels of the run's.
    """
    opened = open_subject(run, store, split=split, device=device)
    if opened.label_set is None:
        raise MmfError(
            f"store {str(opened.store.path)!r} has no label set "
            f"{opened.run.config.label_set!r}, so nothing can be measured. `mmf label` adds one."
        )
    subject = Subject(
        run=opened.run, network=opened.network, store=opened.store, items=opened.items,
        label_set=opened.label_set,
    )  # fmt: skip
    names = list(subject.specs)
    main = "accuracy" if subject.run.task == "single" else "gap@20"
    whole = _measured(subject, opened.network, names)
    collected = whole.collected
    rows = [_row("", "", whole, whole, main, resamples)]
    for modality, how, network, kept, change in _changes(opened.network, names, seed):
        found = _measured(subject, network, kept, change)
        rows.append(_row(modality, how, found, whole, main, resamples))
    return Ablation(
        main=main,
        classes=subject.run.classes,
        positives=collected.accumulator.positives.tolist(),
        items=collected.number,
        rows=rows,
    )


def _changes(
    network: Network, names: Sequence[str], seed: int
) -> Iterator[tuple[str, str, Network, Sequence[str], Change]]:
    for name in names:
        without = copy_of(network)
        without.zero([name])
        yield name, "zeroed", without, names, same
    for name in names if len(names) > 1 else ():
        yield name, "missing", network, [n for n in names if n != name], same
    for name in names:
        yield name, "shuffled", network, names, partial(shuffled, features=(name,), seed=seed)
    if len(names) > 1:
        yield ALL, "shuffled", network, names, partial(shuffled, features=names, seed=seed)


def shuffled(batch: Batch, *, features: Sequence[str], seed: int) -> Batch:
    """The batch with the rows of these features in another order, the same for an item anywhere."""
    values = dict(batch.values)
    for name in features:
        rows = values[name] = values[name].copy()
        for i, (item, n) in enumerate(zip(batch.items, batch.lengths[name].tolist(), strict=True)):
            of = seed, crc32(item.id.encode()), crc32(name.encode())
            rows[i, :n] = rows[i, np.random.default_rng(of).permutation(n)]
    return replace(batch, values=values)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    """A collection, and the best classes of each item, of which the main metric can be resampled.

    Ids and videos (B,), scores and hits (B, K), positives (B,).
    """

    collected: Collected
    columns: Sequence[np.ndarray]

    def statistic(self, main: str, at: np.ndarray) -> Statistic:
        """The main metric of the items at these places."""
        _, _, scores, hits, positives = (column[at] for column in self.columns)
        if main == "accuracy":
            return Mean(hits[:, 0].astype(np.float64))
        return PooledPrecision(scores, hits, positives)


def _measured(
    subject: Subject, network: Network, names: Sequence[str], change: Change = same
) -> _Measured:
    specs = {name: spec for name, spec in subject.specs.items() if name in names}
    found: list[tuple[np.ndarray, ...]] = []

    def seen(part: Scored) -> Scored:
        labels = pick(part.labels, subject.columns, 0.0)
        rated = pick(part.rated, subject.columns, False)
        of_run = replace(part, labels=labels, rated=rated)
        found.append(best_of(of_run, of_run.scores(subject.run.loss)))
        return part

    parts = score(
        network, subject.store, subject.items, specs, subject.run.config,
        label_set=subject.label_set, change=change,
    )  # fmt: skip
    collected = collect(subject, map(seen, parts), metric_names(subject.run))
    return _Measured(
        collected=collected, columns=[np.concatenate(c) for c in zip(*found, strict=True)]
    )


def _metrics(collected: Collected) -> dict[str, float]:
    return collected.accumulator.result() | {"loss": collected.loss}


def _row(
    modality: str, how: str, found: _Measured, whole: _Measured, main: str, resamples: int
) -> Ablated:
    ours = found.collected.accumulator
    metrics, before = _metrics(found.collected), _metrics(whole.collected)
    lost = {name: before[name] - value for name, value in metrics.items() if name in before}
    interval = None
    if how:
        _, at, where = np.intersect1d(
            whole.columns[0], found.columns[0], assume_unique=True, return_indices=True
        )
        _, videos = np.unique(whole.columns[1][at], return_inverse=True)
        statistics = whole.statistic(main, at), found.statistic(main, where)
        drawn = paired_interval([statistics[0]], [statistics[1]], videos, resamples=resamples)
        interval = drawn.low, drawn.high
    return Ablated(
        modality=modality,
        how=how,
        items=found.collected.number,
        metrics=metrics,
        lost=lost | {"loss": metrics["loss"] - before["loss"]},
        interval=interval,
        ap=ours.average_precisions(None if ours.is_whole else _BEST),
    )
