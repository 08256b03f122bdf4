"""What every backbone is: payloads of one signal in, float32 rows out, a fixed batch at a time.

The batch shape is part of the recipe and every batch is filled up to it, so that a row has the
same bits whatever stands beside it in its batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Shaped

from mmf import MmfError
from mmf.extract import signals
from mmf.extract.signals import Signal

PRECISIONS = ("fp32", "bf16", "fp16")


def parts(name: str) -> tuple[str, str]:
    """A backbone's name without its variant, and that: `resnet34:grid`, `./mine.py:Net:grid`."""
    base, _, variant = name.partition(":")
    if base.endswith(".py"):
        attribute, _, variant = variant.partition(":")
        base = f"{base}:{attribute}"
    return base, variant


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How one backbone is to be built."""

    name: str  # name or name:variant
    signal: Signal
    weights: str = "pretrained"  # pretrained | PATH | random:SEED; ignored by one without weights
    batch: int | None = None  # rows per forward; None = the backbone's own for this device
    precision: str = "fp32"
    device: str = "cpu"
    options: Mapping[str, str] = field(default_factory=dict)  # those that its class has

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise MmfError(
                f"precision {self.precision!r} of backbone {self.name!r}: expected one of "
                f"{', '.join(PRECISIONS)}."
            )
        if self.batch is not None and self.batch < 1:
            raise MmfError(f"batch size {self.batch} of backbone {self.name!r}: expected ≥ 1.")

    @property
    def variant(self) -> str:
        """What follows the colon in the name."""
        return parts(self.name)[1]


class Backbone(ABC):
    """One network or formula that turns payloads of one signal into rows.

    The class itself is a row-wise formula without weights on the CPU (batch 1, fp32); a network
    overrides the class variables and sets `batch`, `precision`, `weights` and `weights_path`.
    """

    modality: ClassVar[str]
    default_signal: ClassVar[Signal]
    has_weights: ClassVar[bool] = False
    variants: ClassVar[tuple[str, ...]] = ()
    # how a variant is written where any is taken: `variants` are examples, none stands for the name
    any_variant: ClassVar[str] = ""
    options: ClassVar[Mapping[str, str]] = {}  # its own, with their defaults

    row_shape: tuple[int, ...]

    def __init__(self, setup: Setup):
        self.check_variant(setup.name)
        self.name = setup.name
        self.signal = setup.signal
        self.chosen = {**self.options, **setup.options}  # part of the recipe
        self.batch = 1
        self.precision = "fp32"
        self.device = "cpu"
        self.weights: str | None = None  # random:SEED or sha256:…, part of the recipe
        self.weights_path: str | None = None
        self.option_paths: dict[str, str] = {}  # of options whose digest stands in the recipe
        self.code_path: str | None = None  # of a backbone that is not mmf's own
        self.details: dict[str, Any] = {}  # what else makes the rows; JSON, part of the recipe
        self.dtype: str | None = None  # the only type in which the rows can be stored
        self.in_flight = 1  # batches begun before the rows of the first of them are asked for
        self.transcriber: Any = None  # hears the sound of files without captions, where asked for

    @classmethod
    def check_variant(cls, name: str) -> None:
        """Raises MmfError where what follows the colon in the name is none of the variants."""
        base, variant = parts(name)
        if variant and not cls.any_variant and variant not in cls.variants:
            known = ", ".join(f"{base}:{v}" for v in cls.variants) or "none"
            raise MmfError(f"backbone {base!r} has no variant {variant!r}. Its variants: {known}.")

    @classmethod
    def published(cls, name: str) -> str | None:
        """The location of the weights that `pretrained` means for `name`; None: there are none."""
        return None

    @classmethod
    def signal_for(cls, name: str, options: Mapping[str, str]) -> Signal:
        """What `name` asks of a file under its own options, before the user's of the signal."""
        return cls.default_signal

    @abstractmethod
    def rows(self, payloads: Shaped[np.ndarray, "B ..."]) -> Float32[np.ndarray, "B ..."]:
        """Payloads (B, *signal.row_shape) of exactly `batch` rows → rows (B, *row_shape)."""

    def begin(
        self, payloads: Shaped[np.ndarray, "B ..."]
    ) -> Callable[[], Float32[np.ndarray, "B ..."]]:
        """Begin with a batch; what comes back waits for its rows.

        Until then `payloads` stays as it is. A GPU computes meanwhile.
        """
        rows = self.rows(payloads)
        return lambda: rows

    def flops_per_row(self) -> float | None:
        """Operations of one row; None where no one counted.

        A product and its sum are two, as torch's counter has it; so is every figure of mmf. A
        formula that torch does not see counts by hand what dominates it, and a comparison, a root
        or an angle as one.
        """
        return None

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the rows, for the spec's environment."""
        return {"numpy": np.__version__}

    def empty_batch(self) -> Shaped[np.ndarray, "B ..."]:
        """A batch of payloads to write into."""
        if self.signal.kind == "cues":
            return np.full(self.batch, "", dtype=object)
        dtype = np.float32 if self.signal.kind == "waves" else np.uint8
        return np.zeros((self.batch, *self.signal.row_shape), dtype)

    def __call__(self, media: Any) -> Any:
        """Rows (T, *row_shape) of T payloads, as a tensor where a tensor came in.

        Frames: uint8 (T, 3, h, w), any h and w. Pairs of frames: uint8 (T, 2, 3, h, w). Clips:
        uint8 (T, frames, 3, h, w), or of pairs (T, frames, 2, 3, h, w).
        Sound: float32 (T, samples). Text: a list of T strings.
        """
        tensor = hasattr(media, "detach")
        source = media.detach().cpu().numpy() if tensor else media
        payloads = as_payloads(self.signal, source)
        rows = np.empty((len(payloads), *self.row_shape), np.float32)
        for start in range(0, len(payloads), self.batch):
            part = payloads[start : start + self.batch]
            batch = self.empty_batch()
            batch[: len(part)] = part
            rows[start : start + len(part)] = self.rows(batch)[: len(part)]
        if not tensor:
            return rows
        import torch

        return torch.from_numpy(rows)


def as_payloads(signal: Signal, media: Any) -> np.ndarray | list[np.ndarray] | Sequence[str]:
    """What a caller holds → payloads as the decoder gives them; MmfError for another shape."""
    match signal:
        case signals.Frames():
            frames = _checked(media, np.uint8, ("T", 3, "h", "w"))
            return [_crop(signal, image) for image in frames.transpose(0, 2, 3, 1)]
        case signals.FramePairs():
            pairs = _checked(media, np.uint8, ("T", 2, 3, "h", "w"))
            return [
                np.stack([_crop(signal, image) for image in pair])
                for pair in pairs.transpose(0, 1, 3, 4, 2)
            ]
        case signals.Waves():
            return _checked(media, np.float32, ("T", signal.samples))
        case signals.Clips():
            pair = (2,) if signal.pairs else ()
            clips = _checked(media, np.uint8, ("T", signal.frames, *pair, 3, "h", "w"))
            flat = np.moveaxis(clips.reshape(-1, *clips.shape[-3:]), 1, -1)
            made = np.stack([_crop(signal, image) for image in flat])
            return made.reshape(len(clips), *signal.row_shape)
        case signals.Cues():
            if isinstance(media, str) or not all(isinstance(text, str) for text in media):
                raise MmfError("text backbones take a list of strings, one per row.")
            return list(media)


def _crop(
    signal: signals.Pictures, image: Shaped[np.ndarray, "h w 3"]
) -> Shaped[np.ndarray, "s s 3"]:
    if image.shape[:2] == (signal.crop, signal.crop):
        return image
    from mmf.extract.sampling import resize_and_crop

    return resize_and_crop(
        image,
        signal.size,
        signal.crop,
        interpolation=signal.interpolation,
    )


def _checked(media: Any, dtype: Any, shape: tuple[int | str, ...]) -> np.ndarray:
    array = np.asarray(media)
    fits = len(array.shape) == len(shape) and all(
        isinstance(want, str) or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = ", ".join(map(str, shape))
        raise MmfError(
            f"expected {np.dtype(dtype).name} of shape ({wanted}); got {array.dtype} of shape "
            f"{array.shape}."
        )
    return array
