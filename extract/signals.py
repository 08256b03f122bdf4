"""What a backbone asks of a media file: the kinds of signal and how each is sampled.

A signal is data: it crosses to the decoder's process, stands in the recipe, and two features that
ask for the same one share it. Rows of every kind lie on one axis, seconds of the file's own clock.
The grid of row k is ``start + k / fps`` for the file's start, as long as it lies before the end.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The decoded frame nearest each grid time; a row is uint8 (size, size, 3), RGB.

    The short side is resized to `resize` (PIL, bilinear with antialias, as torchvision's published
    evaluation transform), then the centre `crop` × `crop` is cut. A row's time is its frame's.
    """

    kind: ClassVar[str] = "frames"
    fps: float = 1.0
    resize: int = 256
    crop: int = 224

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row's payload."""
        return (self.crop, self.crop, 3)


@dataclass(frozen=True, kw_only=True)
class FramePairs:
    """The frame nearest each grid time and its neighbour in decoding order; uint8 (2, s, s, 3).

    The neighbour is the next frame, or for the file's last frame the one before it (the pair stays
    in order of time), so that flow is between frames at the native rate.
    """

    kind: ClassVar[str] = "pairs"
    fps: float = 1.0
    resize: int = 256
    crop: int = 224

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row's payload."""
        return (2, self.crop, self.crop, 3)


@dataclass(frozen=True, kw_only=True)
class Waves:
    """A window of sound from each grid time on; float32 (samples,), mono, in -1…1.

    Channels are averaged, then resampled; samples past the end are zero. A row's time is its grid
    time. `samples` 15,600 at 16 kHz are 96 spectrogram frames of 25 ms every 10 ms (VGGish).
    """

    kind: ClassVar[str] = "waves"
    fps: float = 1.0
    sample_rate: int = 16000
    samples: int = 15600

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row's payload."""
        return (self.samples,)


@dataclass(frozen=True, kw_only=True)
class Cues:
    """Captions, from a file beside the media or embedded; a row is one cue's text (str).

    A row's time is the cue's start.
    """

    kind: ClassVar[str] = "cues"
    language: str = ""  # '' = a file without a language first, then the first of any language

    @property
    def row_shape(self) -> tuple[int, ...]:
        """A cue has no fixed shape."""
        return ()


Signal = Frames | FramePairs | Waves | Cues
KINDS: dict[str, type[Signal]] = {s.kind: s for s in (Frames, FramePairs, Waves, Cues)}


def to_json(signal: Signal) -> dict[str, Any]:
    """The signal as JSON values, for recipes and for the decoder's process."""
    return {"kind": signal.kind, **asdict(signal)}


def from_json(values: dict[str, Any]) -> Signal:
    """The signal that `to_json` wrote."""
    options = dict(values)
    return KINDS[options.pop("kind")](**options)
