"""What the labels of made videos hang on: three structures, planted in latent vectors over time.

A video has T steps and, of each modality m, latent vectors s_m (T, d); `mmf.fuse.synthetic` makes
rows of them. Behind what is planted stands a background that changes slowly, as real videos do,
``b_t = r b_{t-1} + sqrt(1 - r²) e_t`` with e_t ~ N(0, I), r = 0.9, apart for each modality.

product    s_m,t = b_m,t + u_m,  u_rgb, u_audio ~ N(0, I)            several labels per video
           z_c = sqrt(1 - alone) u_rgb' W_c u_audio + sqrt(alone / 2) (p_c' u_rgb + q_c' u_audio)
           label c: z_c > 0, with W_c of a given rank, and z_c of variance 1. With alone = 0,
           -u_m is as likely as u_m and turns every label over: a modality says nothing alone,
           and nothing linear in both says anything
local      s_m,t = b_m,t + strength (sum of the patterns that occur at t)   several labels
           class c has two patterns in one modality (even c: rgb, odd c: audio), and both occur
           `times` times in every video. Label c: each of the first has one of the second within
           `near` steps; otherwise none has one within `far`. The sum over time is the same
segments   s_m,t = b_m,t + strength (class y's vector in m, where m carries it)   one label
           a video is cut into equal parts. In each, the label is carried by rgb, by audio (as
           likely), or (1 - share) by neither; one part at least carries it
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float

from mmf import MmfError

MODALITIES = ("rgb", "audio")
MEMORY = 0.9  # r


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """One video before its rows are made."""

    latents: Mapping[str, np.ndarray]  # modality → (T, d)
    labels: Bool[np.ndarray, " C"]
    truth: Mapping[str, np.ndarray]  # what decided them: see each structure


class Structure(ABC):
    """A rule that plants labels; its own vectors are drawn from the generator that it is given."""

    Options: ClassVar[type[Any]]
    single: ClassVar[bool]  # every video has exactly one label
    needed: int  # steps of a video at least

    @abstractmethod
    def __init__(self, rng: np.random.Generator, latent: int, classes: int, options: Any): ...

    @abstractmethod
    def plant(self, rng: np.random.Generator, steps: int) -> Planted:
        """A video of so many steps."""


@dataclass(frozen=True, kw_only=True)
class ProductOptions:
    """Options of labels that need a product."""

    rank: int = 2  # of W_c
    alone: float = 0.0  # share of z's variance that each modality says a half of

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.alone <= 1:
            raise MmfError(
                f"rank {self.rank}, alone {self.alone}: expected a rank of at least 1 and a share "
                "between 0 and 1."
            )


class Product(Structure):
    """Truth: `rgb` and `audio`, the u (d,) of each, and `z` (C,)."""

    Options = ProductOptions
    single = False

    def __init__(
        self, rng: np.random.Generator, latent: int, classes: int, options: ProductOptions
    ):
        p = rng.standard_normal((classes, options.rank, latent))
        q = rng.standard_normal((classes, options.rank, latent))
        self.products = np.einsum("cri,crj->cij", p, q)  # W (C, d, d)
        self.products /= np.linalg.norm(self.products, axis=(1, 2), keepdims=True)
        alone = rng.standard_normal((2, classes, latent))
        self.alone = alone / np.linalg.norm(alone, axis=2, keepdims=True)
        self.share, self.latent, self.needed = options.alone, latent, 1

    def plant(self, rng: np.random.Generator, steps: int) -> Planted:
        """A video of so many steps."""
        u = rng.standard_normal((2, self.latent))
        z = np.sqrt(1 - self.share) * np.einsum("cij,i,j->c", self.products, *u)
        z += np.sqrt(self.share / 2) * np.einsum("mci,mi->c", self.alone, u)
        latents = {
            m: background(rng, steps, self.latent) + x for m, x in zip(MODALITIES, u, strict=True)
        }
        return Planted(
            latents=latents, labels=z > 0, truth={**dict(zip(MODALITIES, u, strict=True)), "z": z}
        )


@dataclass(frozen=True, kw_only=True)
class LocalOptions:
    """Options of labels that need local context."""

    times: int = 2  # that each pattern occurs
    near: int = 2  # steps between two that belong together, at most
    far: int = 8  # between two that do not, at least
    strength: float = 2.0

    def __post_init__(self) -> None:
        if not (self.times >= 1 and 1 <= self.near < self.far and self.strength >= 0):
            raise MmfError(
                f"patterns that occur {self.times} times, near within {self.near} steps and far "
                f"from {self.far} on, of strength {self.strength}: expected at least once, "
                "1 ≤ near < far, and 0 or more."
            )


class Local(Structure):
    """Truth: `first` and `second`, the steps (C, times) of the patterns of each class."""

    Options = LocalOptions
    single = False

    def __init__(self, rng: np.random.Generator, latent: int, classes: int, options: LocalOptions):
        self.options, self.latent = options, latent
        self.needed = options.times * 2 * options.far
        self.patterns = rng.standard_normal((classes, 2, latent))

    def plant(self, rng: np.random.Generator, steps: int) -> Planted:
        """A video of so many steps."""
        labels = rng.random(len(self.patterns)) < 0.5
        latents = {m: background(rng, steps, self.latent) for m in MODALITIES}
        where = np.array(
            [self._place(rng, steps, label) for label in labels.tolist()]
        )  # (C, 2, times)
        for c, (of_class, patterns) in enumerate(zip(where, self.patterns, strict=True)):
            rows = latents[MODALITIES[c % 2]]
            for at, pattern in zip(of_class, patterns, strict=True):
                rows[at] += self.options.strength * pattern
        return Planted(
            latents=latents, labels=labels, truth={"first": where[:, 0], "second": where[:, 1]}
        )

    def _place(
        self, rng: np.random.Generator, steps: int, together: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the two patterns of a class occur, whose label is `together`: (times,) of each."""
        o, every = self.options, np.arange(steps)
        # more than 2 near between them, so that each has a neighbourhood of its own
        room = steps - (o.times - 1) * 2 * o.near
        first = np.sort(rng.choice(room, o.times, replace=False))
        first += np.arange(o.times) * 2 * o.near
        away = np.abs(every - first[:, None])  # (times, T)
        if together:
            return first, np.array([rng.choice(every[(a > 0) & (a <= o.near)]) for a in away])
        return first, rng.choice(every[away.min(0) >= o.far], o.times, replace=False)


@dataclass(frozen=True, kw_only=True)
class SegmentsOptions:
    """Options of labels that one modality carries in some parts of a video."""

    segments: int = 10
    share: float = 0.4  # of the parts in which some modality carries the label
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.segments < 1 or not 0 <= self.share <= 1 or self.strength < 0:
            raise MmfError(
                f"{self.segments} segments, a share of {self.share}, strength {self.strength}: "
                "expected at least 1 segment, a share between 0 and 1, and 0 or more."
            )


class Segments(Structure):
    """Truth: `carrier` (S,), the number of the modality in MODALITIES, or -1; `segment` (T,)."""

    Options = SegmentsOptions
    single = True

    def __init__(
        self, rng: np.random.Generator, latent: int, classes: int, options: SegmentsOptions
    ):
        self.options, self.latent, self.needed = options, latent, options.segments
        self.vectors = rng.standard_normal((classes, len(MODALITIES), latent))

    def plant(self, rng: np.random.Generator, steps: int) -> Planted:
        """A video of so many steps."""
        o = self.options
        y = int(rng.integers(len(self.vectors)))
        carrier = np.where(rng.random(o.segments) < o.share, rng.integers(2, size=o.segments), -1)
        if (carrier < 0).all():
            carrier[rng.integers(o.segments)] = rng.integers(2)
        segment = np.arange(steps) * o.segments // steps
        latents = {m: background(rng, steps, self.latent) for m in MODALITIES}
        for number, m in enumerate(MODALITIES):
            latents[m][carrier[segment] == number] += o.strength * self.vectors[y, number]
        labels = np.arange(len(self.vectors)) == y
        return Planted(
            latents=latents, labels=labels, truth={"carrier": carrier, "segment": segment}
        )


STRUCTURES: Mapping[str, type[Structure]] = {
    "product": Product,
    "local": Local,
    "segments": Segments,
}


def background(rng: np.random.Generator, steps: int, latent: int) -> Float[np.ndarray, "T D"]:
    """b (T, d), of variance 1 at every step."""
    b = rng.standard_normal((steps, latent))
    b[1:] *= np.sqrt(1 - MEMORY**2)
    for t in range(1, steps):
        b[t] += MEMORY * b[t - 1]
    return b
