"""What is asked for: one feature, its backbone and its options, as the command line has it too."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mmf import MmfError, unknown
from mmf.extract import signals
from mmf.extract.backbones import backbone_class
from mmf.extract.flow import FLOWS
from mmf.extract.signals import Signal

_NUMBERS = ("fps", "window", "hop")


@dataclass(frozen=True, kw_only=True)
class FeatureRequest:
    """One feature to extract."""

    name: str
    modality: str
    backbone: str  # name or name:variant
    weights: str = "pretrained"  # pretrained | PATH | random:SEED; unused where there are none
    speech_weights: str = "pretrained"  # pretrained | PATH; of the network that speech= names
    fps: float | None = None  # rows per second; None = the backbone's own, 1
    window: float | None = None  # seconds of sound under a row; None = the backbone's own, 0.96
    hop: float | None = None  # seconds from row to row: another way to say 1 / fps
    batch: int | None = None  # rows per forward; None = the store's, or the backbone's own
    precision: str = "fp32"  # fp32 | bf16 | fp16
    dtype: str = "float16"  # of the stored rows
    options: Mapping[str, str] = field(default_factory=dict)  # of its signal or its backbone
    exact_signal: Signal | None = None  # the very signal, whatever the options say of one

    def __post_init__(self) -> None:
        for key in _NUMBERS:
            value = getattr(self, key)
            if value is not None and not (0 < value < 1e6):
                raise MmfError(f"feature {self.name!r}: {key} is {value!r}; expected above 0.")
        if self.fps is not None and self.hop is not None:
            raise MmfError(f"feature {self.name!r}: give fps or hop, not both (fps = 1 / hop).")
        if (self.fps or self.hop) and self._times_of_its_own:
            raise MmfError(
                f"feature {self.name!r}: {self._times_of_its_own} says when rows are taken, so "
                "there is no fps."
            )
        self._refuse_unknown_options()
        if self.speech_weights != "pretrained" and not self.speech:
            raise MmfError(
                f"feature {self.name!r}: speech_weights={self.speech_weights} without a network "
                "that hears. Name one as well: speech=whisper:tiny."
            )

    @property
    def own_options(self) -> dict[str, str]:
        """The options of the backbone, those that stand in the recipe beside the signal."""
        found = backbone_class(self.backbone, self.modality)
        own = {k: v for k, v in self.options.items() if k in found.options}
        if "flow_weights" in found.options and not found.has_weights:
            return {"flow_weights": self.weights, **own}  # there are no others
        return own

    @property
    def speech(self) -> str:
        """The network that hears the sound of files without captions; '' where there is none."""
        return str(getattr(self.signal, "speech", ""))

    @property
    def signal(self) -> Signal:
        """What the backbone asks of a file under these options."""
        if self.exact_signal is not None:
            return self.exact_signal
        found = backbone_class(self.backbone, self.modality)
        signal = found.signal_for(self.backbone, {**found.options, **self.own_options})
        changes: dict[str, Any] = {}
        if self.fps is not None or self.hop is not None:
            # a float: 2 and 2.0 are one recipe
            changes["fps"] = float(self.fps if self.fps is not None else 1 / (self.hop or 1.0))
        if self.window is not None:
            changes["samples"] = _samples(self.window, getattr(signal, "sample_rate", 16000))
        known = {f.name for f in fields(signal)}
        for key in changes.keys() - known:
            what = {"fps": "no rate: a row is a caption", "samples": "no window"}[key]
            raise MmfError(f"feature {self.name!r}: {self.modality} rows have {what}.")
        own = {k: v for k, v in self.options.items() if k not in found.options}
        return signals.changed(replace(signal, **changes), own)

    @property
    def _times_of_its_own(self) -> str | None:
        named = (
            k for k in ("segments", "views", "sample") if self.options.get(k, "grid") != "grid"
        )
        return next(named, None)

    def _refuse_unknown_options(self) -> None:
        found = backbone_class(self.backbone, self.modality)  # raises UnknownName
        known = (*found.options, *self.signal_class.open)
        for key in self.options:
            if key == "speech" and key not in known:
                raise MmfError(
                    f"feature {self.name!r}: speech becomes text, so it is an option of text "
                    f"features: --feature t=text:minilm,speech=whisper:tiny. {self.modality} rows "
                    "have no use for it."
                )
            if key not in known:
                raise unknown(f"option of {self.modality}:{self.backbone}", key, known)

    @property
    def signal_class(self) -> type[Signal]:
        """The kind of signal, whatever its options."""
        found = backbone_class(self.backbone, self.modality)
        return type(found.signal_for(self.backbone, {**found.options, **self.own_options}))


def _samples(window: float, sample_rate: int) -> int:
    from mmf.extract.backbones.logmel import HOP, SAMPLE_RATE, samples_of

    if sample_rate != SAMPLE_RATE:
        return max(1, round(window * sample_rate))
    # 0.96 s are 96 spectrogram frames, as VGGish counts: their last window reaches past them
    return samples_of(max(1, round(window * SAMPLE_RATE / HOP)))


def parse_feature(text: str) -> FeatureRequest:
    """`NAME=MODALITY:BACKBONE[:VARIANT][,key=value…]` → the request.

    Keys: weights, fps, window, hop, batch, precision, dtype, and the options of the signal
    (segments, sample, decode; of clips also frames, stride, views, shuffle; of text language,
    speech and speech_weights) and of the backbone.
    A flow as the backbone, flow:gmflow, means its histograms: flow:hof,flow=gmflow.

    >>> parse_feature("rgb=rgb:resnet34,fps=2,weights=random:0").fps
    2.0
    """
    head, *pairs = text.split(",")
    name, equals, source = head.partition("=")
    modality, colon, chosen = source.partition(":")
    if not (name and equals and modality and colon and chosen):
        raise MmfError(
            f"--feature {text!r}: expected NAME=MODALITY:BACKBONE[:VARIANT][,key=value…], "
            "for example rgb=rgb:resnet34,fps=1."
        )
    if modality == "flow" and chosen.partition(":")[0] in FLOWS:
        chosen, pairs = "hof", [*pairs, f"flow={chosen}"]
    known: dict[str, Any] = {}
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise MmfError(f"--feature {text!r}: {pair!r} is not key=value.")
        if key in ("weights", "speech_weights", "precision", "dtype"):
            known[key] = value
        elif key in _NUMBERS:
            known[key] = _number(text, key, value, float)
        elif key == "batch":
            known[key] = None if value == "auto" else _number(text, key, value, int)
        else:
            options[key] = value
    request = FeatureRequest(
        name=name, modality=modality, backbone=chosen, options=options, **known
    )
    _ = request.signal  # an option that does not fit is an error here already
    return request


def _number(text: str, key: str, value: str, kind: type[float] | type[int]) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise MmfError(f"--feature {text!r}: {key}={value} is not a number.") from None
