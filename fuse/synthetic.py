"""Features in YouTube-8M's shape whose labels hang on a known structure, made into a store.

So each claim of a paper is an experiment of minutes, and what could be learned at best is known.
The structures, in latent vectors s_m (T, d) of each modality m, are those of `mmf.fuse.planted`.
Rows are

    x_m,t = ½ (s_m,t A_m + noise ε_t)      A_m (d, D_m): A A' = (D / d) I,  ε ~ N(0, I)

so each number has a deviation near YouTube-8M's 0.8; uint8 rows are its codes, cut at ±2. Then a
share `flips` of the labels is turned over (of one label per video: made another class), and no
rule can do better than 1 - flips. Everything of video i is drawn from (seed, i): the same whatever
else is made, and one at a time, so that memory does not grow with the number of videos.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from mmf import MmfError, unknown
from mmf.fuse.config import build_options
from mmf.fuse.planted import MODALITIES, STRUCTURES, Planted
from mmf.store import FeatureSpec, FeatureStore, Track
from mmf.store.items import LABELS

YOUTUBE8M = {"rgb": 1024, "audio": 128, "rows": 300, "fewest": 120, "classes": 3862}
SPLITS = ("train", "val", "test")
_WORLD = 2**32  # of (seed, i): what all videos share; no video has that number
_BUCKET_BYTES = 256 << 20  # of one commit


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions:
    """What is made; `SyntheticOptions(**YOUTUBE8M)` has that set's shape."""

    structure: str = "product"
    options: Mapping[str, Any] = field(default_factory=dict)  # of the structure
    train: int = 1000  # videos
    val: int = 250
    test: int = 500
    rows: int = 60  # of a video at most, one a second
    fewest: int = 40
    rgb: int = 64  # numbers of a row
    audio: int = 32
    latent: int = 16  # d
    classes: int = 10
    noise: float = 1.0  # deviation of ε; that of the background is 1
    flips: float = 0.05  # share of the labels that are wrong
    dtype: str = "uint8"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.structure not in STRUCTURES:
            raise unknown("structure", self.structure, STRUCTURES)
        if self.dtype not in ("uint8", "float16", "float32"):
            raise unknown("dtype of made rows", self.dtype, ("uint8", "float16", "float32"))
        for name in ("train", "val", "test", "noise", "seed"):
            _require(self, name, getattr(self, name) >= 0, "0 or more")
        _require(self, "flips", 0 <= self.flips <= 1, "a share between 0 and 1")
        _require(self, "classes", self.classes >= 2, "at least 2")
        _require(self, "fewest", 1 <= self.fewest <= self.rows, f"1 to {self.rows}, the most rows")
        most = min(self.rgb, self.audio)
        _require(self, "latent", 1 <= self.latent <= most, f"1 to {most}, the numbers of a row")

    @property
    def videos(self) -> int:
        """How many, of all splits."""
        return self.train + self.val + self.test


@dataclass(frozen=True, kw_only=True, eq=False)
class Video:
    """One video as it is made, with what it was made from."""

    video_id: str
    split: str
    rows: Mapping[str, np.ndarray]  # modality → float32 (T, D)
    labels: Bool[np.ndarray, " C"]  # some turned over
    planted: Planted


class Synthetic:
    """The videos of one set of options, by number: `len(made)`, `made[i]`, in the splits' order."""

    def __init__(self, options: SyntheticOptions):
        self.options = options
        kind = STRUCTURES[options.structure]
        its = build_options(kind.Options, options.options, f"the options of {options.structure!r}")
        rng = np.random.default_rng((options.seed, _WORLD))
        self.structure = kind(rng, options.latent, options.classes, its)
        if options.fewest < self.structure.needed:
            raise MmfError(
                f"fewest = {options.fewest}: expected at least {self.structure.needed} rows, which "
                f"{its} need."
            )
        self._maps = {m: _directions(rng, options.latent, self.sizes[m]) for m in MODALITIES}

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of a row, by modality."""
        return {m: getattr(self.options, m) for m in MODALITIES}

    def __len__(self) -> int:
        return self.options.videos

    def __iter__(self) -> Iterator[Video]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Video:
        o = self.options
        if not 0 <= i < len(self):
            raise IndexError(f"video {i}: there are {len(self)}, from 0.")
        rng = np.random.default_rng((o.seed, i))
        planted = self.structure.plant(rng, int(rng.integers(o.fewest, o.rows + 1)))
        labels = _flipped(rng, planted.labels, o.flips, single=self.structure.single)
        split = SPLITS[(i >= o.train) + (i >= o.train + o.val)]
        return Video(
            video_id=f"{split}{i:07}",
            split=split,
            rows={m: self._rows(rng, m, x) for m, x in planted.latents.items()},
            labels=labels,
            planted=planted,
        )

    def _rows(self, rng: np.random.Generator, modality: str, latents: np.ndarray) -> np.ndarray:
        noise = rng.standard_normal((len(latents), self.sizes[modality]), dtype=np.float32)
        rows = latents.astype(np.float32) @ self._maps[modality]
        return 0.5 * (rows + np.float32(self.options.noise) * noise)

    def specs(self) -> dict[str, FeatureSpec]:
        """The features; their recipe is all that the rows of a video follow from."""
        o = self.options
        said = {*MODALITIES, *SPLITS, "dtype"}  # by the spec, or of no row
        made = {n: v for n, v in vars(o).items() if n not in said}
        return {
            m: FeatureSpec(
                name=m, modality=m, shape=(size,), dtype=o.dtype, rate=1.0,
                recipe={"made_by": "mmf.fuse.synthetic", **made},
            )
            for m, size in self.sizes.items()
        }  # fmt: skip


def make(options: SyntheticOptions, path: str | Path) -> FeatureStore:
    """A fresh store of the videos, with labels and splits called "default".

    Of the structure `segments`, the label set "carriers" says of each part of a video, as an
    interval in seconds, which modality carries the label there: rgb, audio or none of them.
    Raises MmfError where the store has features already.
    """
    made, store = Synthetic(options), FeatureStore.create(path)
    if store.features:
        raise MmfError(f"store {str(path)!r} has features already. Name another to be made.")
    for spec in made.specs().values():
        store.create_feature(spec)
    labels, carriers, splits = _Labels(), _Labels(), {}
    for video in _stored(made, store):
        splits[video.video_id] = video.split
        labels.add(video.video_id, None, None, np.flatnonzero(video.labels).tolist())
        for start, end, modality in parts(video):
            carriers.add(video.video_id, start, end, [modality] if modality >= 0 else [])
    named = {"default": (labels, [f"class{c:04}" for c in range(options.classes)])}
    if len(carriers):
        named["carriers"] = carriers, list(MODALITIES)
    for name, (of_items, classes) in named.items():
        store.catalog.add_label_rows(name, of_items.table(), classes)
        store.catalog.add_splits(name, splits)
    return store


def _stored(made: Synthetic, store: FeatureStore) -> Iterator[Video]:
    """Each video when its rows are in the store, or on their way in a bucket of others."""
    writer = store.writer()
    try:
        for video in made:
            times = np.arange(len(video.rows["rgb"]), dtype=np.float64)
            for modality, rows in video.rows.items():
                writer.put(modality, Track(video_id=video.video_id, values=rows, times=times))
            yield video
            if writer.bytes >= _BUCKET_BYTES:
                writer.commit()
        writer.commit()
    finally:
        writer.discard()


def parts(video: Video) -> Iterator[tuple[float, float, int]]:
    """Start and end of each part in seconds, and the number of its carrier or -1; of `segments`."""
    carrier = video.planted.truth.get("carrier", np.empty(0, dtype=np.int64))
    steps = len(video.rows["rgb"])
    edges = -(-np.arange(len(carrier) + 1) * steps // max(len(carrier), 1))
    for number, modality in enumerate(carrier.tolist()):
        yield float(edges[number]), float(edges[number + 1]), modality


class _Labels:
    """Labels of items as they come, a few bytes each."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._start: list[float | None] = []
        self._end: list[float | None] = []
        self._numbers, self._ends = array("i"), array("i", [0])

    def __len__(self) -> int:
        return len(self._ids)

    def add(
        self, video_id: str, start: float | None, end: float | None, numbers: Iterable[int]
    ) -> None:
        """The positive classes of one item."""
        self._ids.append(video_id)
        self._start.append(start)
        self._end.append(end)
        self._numbers.extend(numbers)
        self._ends.append(len(self._numbers))

    def table(self) -> pa.Table:
        """All of them, as the catalog has labels."""
        numbers = pa.array(np.array(self._numbers, dtype=np.int32))
        lists = pa.ListArray.from_arrays(pa.array(np.array(self._ends, dtype=np.int32)), numbers)
        none = pa.array([[]] * len(self), pa.list_(pa.int32()))
        columns = [self._ids, self._start, self._end, lists, none, pa.nulls(len(self), none.type)]
        return pa.table(dict(zip(LABELS.names, columns, strict=True)), schema=LABELS)


def _directions(rng: np.random.Generator, latent: int, size: int) -> np.ndarray:
    """A (d, D): orthogonal rows, and numbers of variance 1 from latents of variance 1."""
    q, _ = np.linalg.qr(rng.standard_normal((size, latent)))
    return (q.T * np.sqrt(size / latent)).astype(np.float32)


def _flipped(
    rng: np.random.Generator, labels: np.ndarray, share: float, *, single: bool
) -> np.ndarray:
    if not single:
        return labels ^ (rng.random(len(labels)) < share)
    if rng.random() >= share:
        return labels
    return np.roll(labels, int(rng.integers(1, len(labels))))


def _require(options: SyntheticOptions, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise MmfError(f"{name} = {getattr(options, name)!r}: expected {expected}.")
