"""What a backbone asks of a media file: the kinds of signal and how each is sampled.

A signal is data: it crosses to the decoder's process, stands in the recipe, and two features that
ask for the same one share it. Rows of every kind lie on one axis, seconds of the file's own clock.
The grid of row k is ``start + k / fps`` for the file's start, as long as it lies before the end.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, get_type_hints

from mmf import MmfError, unknown

SAMPLES = ("grid", "keyframes")
DECODES = ("exact", "fast")
INTERLACED = ("estdif", "as_is")
HDR = ("bt2390", "as_is")
SPEECH = tuple(
    f"whisper:{size}" for size in ("tiny", "base", "small", "medium", "large-v3", "large-v3-turbo")
)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What the signals of pictures have in common; a picture is uint8 (crop, crop, 3), RGB.

    The short side is resized to `resize`, then the centre `crop` × `crop` is cut. With `squash` the
    picture becomes `resize` × `resize` whatever its aspect, or `resize` × `wide`. Each network has
    its published `interpolation` (`mmf.extract.sampling`). With `limit` there are at most so many
    rows.

    With `segments` N there is no grid: the video's time is cut into N equal parts, and a row is
    taken at the middle of each (Wang et al., Temporal Segment Networks, ECCV 2016, as it tests).
    With `sample` ``keyframes`` every keyframe is a row and nothing else is decoded. `decode`
    ``fast`` leaves out frames that no other refers to and lets FFmpeg do the resizing: a row's
    frame may be a few frames off, and its pixels a few levels. Frames that are flagged `interlaced`
    are deinterlaced, and those of high dynamic range (`hdr`) brought to SDR, unless ``as_is``
    (`mmf.extract.media.masters`).
    """

    kind: ClassVar[str]
    open: ClassVar[tuple[str, ...]] = (  # users may set
        *("segments", "sample", "decode", "limit", "interlaced", "hdr"),
    )

    fps: float = 1.0
    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"  # bilinear | bicubic | bilinear_points | bilinear_tf1
    squash: bool = False
    wide: int = 0
    limit: int = 0
    segments: int = 0
    sample: str = "grid"
    decode: str = "exact"
    interlaced: str = "estdif"
    hdr: str = "bt2390"

    def __post_init__(self) -> None:
        choices = {"sample": SAMPLES, "decode": DECODES, "interlaced": INTERLACED, "hdr": HDR}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        if self.limit and (self.segments or self.sample != "grid"):
            raise MmfError("limit is of the rows of a grid; segments and keyframes have none.")
        if self.segments < 0:
            raise MmfError(f"segments is {self.segments}; expected the number of parts, 1 or more.")
        if self.segments and self.sample != "grid":
            raise MmfError(
                f"segments {self.segments} and sample {self.sample!r} exclude each other."
            )

    @property
    def size(self) -> int | tuple[int, int]:
        """What is resized to: the short side, or (height, width)."""
        return (self.resize, self.wide or self.resize) if self.squash else self.resize

    @property
    def rate(self) -> float | None:
        """Rows per second; None where they do not come at one."""
        return None if self.segments or self.sample != "grid" else self.fps

    @property
    def needs_end(self) -> bool:
        """Whether the times of rows depend on where the video ends."""
        return bool(self.segments)


@dataclass(frozen=True, kw_only=True)
class Frames(Pictures):
    """The decoded frame nearest each time; a row is uint8 (crop, crop, 3). Its time is its own."""

    kind: ClassVar[str] = "frames"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row's payload."""
        return (self.crop, self.crop, 3)


@dataclass(frozen=True, kw_only=True)
class FramePairs(Pictures):
    """The frame nearest each time and its neighbour in decoding order; uint8 (2, s, s, 3).

    The neighbour is the next frame, or for the file's last frame the one before it (the pair stays
    in order of time), so that flow is between frames at the native rate.
    """

    kind: ClassVar[str] = "pairs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample == "keyframes":
            raise MmfError("flow between keyframes is noise: they are no neighbours. Use the grid.")

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row's payload."""
        return (2, self.crop, self.crop, 3)


@dataclass(frozen=True, kw_only=True)
class Clips(Pictures):
    """`frames` frames, `stride` native frames apart, from the frame nearest each time on.

    A row is uint8 (frames, crop, crop, 3), or with `pairs` (frames, 2, crop, crop, 3): each frame
    and its next native neighbour, for flow. Behind the video's end its last frame is repeated. A
    row's time is its first frame's.

    With `views` N_t and `crops` N_s (1, or 3 along the long side) there is no grid: N_t clips are
    spread evenly over the video (one: in its middle), and each crop of each is a row of its own,
    crops of one time after each other (Feichtenhofer et al., SlowFast, ICCV 2019, section 4). With
    `shuffle`, a seed, the frames of each row stand in a random order.
    """

    kind: ClassVar[str] = "clips"
    open: ClassVar[tuple[str, ...]] = (*Pictures.open, "frames", "stride", "views", "shuffle")

    frames: int = 16
    stride: int = 2
    crops: int = 1
    views: int = 0
    shuffle: int | None = None
    pairs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("frames", "stride"):
            if getattr(self, name) < 1:
                raise MmfError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        if self.crops not in (1, 3) or self.views < 0:
            raise MmfError(f"views {self.views}x{self.crops}: expected N_t × 1 or N_t × 3.")
        if self.views and (self.segments or self.sample != "grid"):
            raise MmfError(
                "views exclude segments and keyframes: they are another choice of times."
            )
        if self.sample != "grid":
            raise MmfError("a clip of keyframes is no clip: its frames are not evenly apart.")

    @property
    def rate(self) -> float | None:
        """Rows per second; None where they do not come at one."""
        return None if self.views or self.crops > 1 else super().rate

    @property
    def needs_end(self) -> bool:
        """Whether the times of rows depend on where the video ends."""
        return bool(self.views or self.segments)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row's payload."""
        return (self.frames, *((2,) if self.pairs else ()), self.crop, self.crop, 3)


@dataclass(frozen=True, kw_only=True)
class Waves:
    """A window of sound from each grid time on; float32 (samples,), mono, in -1…1.

    Channels are averaged, then resampled; samples past the end are zero. A row's time is its grid
    time. `samples` 15,600 at 16 kHz are 96 spectrogram frames of 25 ms every 10 ms (VGGish). With
    `limit` there are at most so many rows.
    """

    kind: ClassVar[str] = "waves"
    open: ClassVar[tuple[str, ...]] = ("limit",)

    fps: float = 1.0
    sample_rate: int = 16000
    samples: int = 15600
    limit: int = 0
    track: str = ""

    def __post_init__(self) -> None:
        language = self.track.startswith("lang=") and len(self.track) > len("lang=")
        if not (self.track in ("", "all") or self.track.isdecimal() or language):
            raise MmfError(
                f"audio track {self.track!r}: expected all, lang=LANGUAGE (lang=eng), or the "
                "number of an audio stream, from 0."
            )

    @property
    def rate(self) -> float | None:
        """Rows per second."""
        return self.fps

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row's payload."""
        return (self.samples,)


@dataclass(frozen=True, kw_only=True)
class Cues:
    """Captions, from a file beside the media or embedded; a row is one cue's text (str).

    A row's time is the cue's start. With `speech`, what is said in a file without captions stands
    for them: the decoder gives its `sound`, and whoever takes the rows has it transcribed
    (`mmf.extract.hearing`).
    """

    kind: ClassVar[str] = "cues"
    open: ClassVar[tuple[str, ...]] = ("language", "speech")

    language: str = ""  # '' = a file without a language first, then the first of any language
    speech: str = ""  # whisper:SIZE; '' = a file without captions has no rows

    def __post_init__(self) -> None:
        if self.speech and self.speech not in SPEECH:
            raise unknown("speech", self.speech, SPEECH)

    @property
    def rate(self) -> float | None:
        """Cues come when they come."""
        return None

    @property
    def sound(self) -> Waves | None:
        """The sound that comes where there are no captions, a second at a time, none left out."""
        return Waves(fps=1.0, sample_rate=16000, samples=16000) if self.speech else None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """A cue has no fixed shape."""
        return ()


Signal = Frames | FramePairs | Clips | Waves | Cues
KINDS: dict[str, type[Signal]] = {s.kind: s for s in (Frames, FramePairs, Clips, Waves, Cues)}


def changed(signal: Signal, options: dict[str, str]) -> Signal:
    """The signal with options as users type them; MmfError names the one that cannot be meant.

    ``views`` is N_t or N_txN_s.
    """
    values: dict[str, Any] = {f.name: getattr(signal, f.name) for f in fields(signal)}
    kinds = get_type_hints(type(signal))
    for key, text in options.items():
        if key not in signal.open:
            raise unknown("option", key, signal.open)
        if key == "views":
            views, _, crops = text.partition("x")
            values |= {"views": _whole(key, views), "crops": _whole(key, crops or "1")}
        else:
            values[key] = text if kinds[key] is str else _whole(key, text)
    return type(signal)(**values)


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise MmfError(f"{name}={text!r} is not a whole number.")
    return int(text)


def to_json(signal: Signal) -> dict[str, Any]:
    """The signal as JSON values, for recipes and for the decoder's process."""
    return {"kind": signal.kind, **asdict(signal)}


def from_json(values: dict[str, Any]) -> Signal:
    """The signal that `to_json` wrote."""
    options = dict(values)
    return KINDS[options.pop("kind")](**options)
