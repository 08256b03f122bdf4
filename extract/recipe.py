"""What is asked for, how it is written on the command line, and the recipe it becomes.

A request names a feature, its backbone and its options. Once the backbone is built, request and
backbone make the FeatureSpec: what must be equal for two runs to fill one feature stands in its
`recipe`; versions, device and the place of the weights stand in its `environment`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mmf import MmfError, unknown
from mmf.extract import signals
from mmf.extract.backbones import BACKBONES, Backbone, backbone, backbone_class
from mmf.extract.backbones.own import code_of
from mmf.extract.flow import FLOWS
from mmf.extract.signals import Signal
from mmf.store import FeatureSpec
from mmf.store.weights import find_weights

EXTRACTOR_VERSION = 1  # raised whenever the same request would give other rows

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


def build(request: FeatureRequest, *, device: str = "cpu") -> Backbone:
    """The backbone that the request asks for, on `device`, and what hears for it."""
    built = backbone(
        request.backbone,
        modality=request.modality,
        signal=request.signal,
        weights=request.weights,
        batch=request.batch,
        precision=request.precision,
        device=device,
        options=request.own_options,
    )
    if request.speech:
        from mmf.extract.speech import transcriber

        ear = transcriber(
            request.speech,
            weights=request.speech_weights,
            language=getattr(request.signal, "language", ""),
            device=device,
        )
        built.transcriber = ear
        built.details = {**built.details, "speech": dict(ear.details)}
    return built


def spec(request: FeatureRequest, built: Backbone) -> FeatureSpec:
    """The self-describing feature that `built` fills for the request."""
    return FeatureSpec(
        name=request.name,
        modality=request.modality,
        shape=built.row_shape,
        dtype=built.dtype or request.dtype,
        rate=built.signal.rate,
        recipe={
            "extractor": EXTRACTOR_VERSION,
            "backbone": built.name,
            "weights": built.weights,
            "signal": signals.to_json(built.signal),
            "batch": built.batch,
            "precision": built.precision,
            **({"options": built.chosen} if built.chosen else {}),
            **({"details": built.details} if built.details else {}),
        },
        environment={
            **built.libraries(),
            **_decoder(),
            "weights_path": built.weights_path,
            **({"option_paths": built.option_paths} if built.option_paths else {}),
            **({"code_path": built.code_path} if built.code_path else {}),
            **_speech(built),
        },
        flops_per_row=built.flops_per_row(),
    )


def _speech(built: Backbone) -> dict[str, str]:
    ear = built.transcriber
    return {**ear.libraries, "speech_path": ear.path} if ear else {}


def _decoder() -> dict[str, str]:
    import av

    return {"av": av.__version__}


def request_from_spec(stored: FeatureSpec) -> FeatureRequest:
    """The request that makes more rows of a stored feature, by the very same recipe.

    The weights are looked for where they were and must have the same bytes. Raises MmfError for a
    feature that was not extracted here, and for weights that are gone or others.
    """
    recipe = stored.recipe
    if "backbone" not in recipe or stored.modality not in BACKBONES:
        raise MmfError(
            f"feature {stored.name!r} was computed elsewhere (FeatureStore.add), so mmf cannot "
            "extract it from media. Predict from a store that has its rows (--store)."
        )
    if recipe.get("extractor") != EXTRACTOR_VERSION:
        raise MmfError(
            f"feature {stored.name!r} was made by extractor version {recipe.get('extractor')}; "
            f"this is version {EXTRACTOR_VERSION}. Extract it again under another --name."
        )
    return FeatureRequest(
        name=stored.name,
        modality=stored.modality,
        backbone=_same_code(stored),
        weights=_same_weights(stored),
        speech_weights=_same_speech(stored),
        batch=recipe["batch"],
        precision=recipe["precision"],
        dtype=stored.dtype,
        options={**recipe.get("options", {}), **_pinned_paths(stored)},
        exact_signal=signals.from_json(dict(recipe["signal"])),
    )


def _pinned_paths(stored: FeatureSpec) -> dict[str, str]:
    """Options that name a file → DIGEST@PATH, which means that file with those contents."""
    paths: dict[str, str] = stored.environment.get("option_paths", {})
    return {key: f"{stored.recipe['options'][key]}@{path}" for key, path in paths.items()}


def _same_code(stored: FeatureSpec) -> str:
    """The backbone's name; that of a class in a file begins with where the file was."""
    name: str = stored.recipe["backbone"]
    path = stored.environment.get("code_path")
    if path is None:
        return name
    file, _, attribute = name.partition(":")
    again = f"{path}:{attribute}" if file.endswith(".py") else name
    there = code_of(backbone_class(again, stored.modality))[1]
    if there != stored.recipe["details"]["code"]:
        raise MmfError(
            f"the code in {path!r} is not that which feature {stored.name!r} was made with: "
            f"{stored.recipe['details']['code']} then, {there} now. Put the same file there again."
        )
    return again


def _same_weights(stored: FeatureSpec) -> str:
    weights = stored.recipe["weights"]
    if weights is None or weights.startswith("random:"):
        return weights or "pretrained"
    return _same_file(stored, stored.environment.get("weights_path") or "", weights)


def _same_speech(stored: FeatureSpec) -> str:
    path = stored.environment.get("speech_path")
    if path is None:
        return "pretrained"
    return _same_file(stored, path, stored.recipe["details"]["speech"]["weights"])


def _same_file(stored: FeatureSpec, path: str, weights: str) -> str:
    """The path, where the weights there are those; MmfError where they are gone or others."""
    there = f"sha256:{find_weights(path, name=stored.recipe['backbone']).sha256}"
    if there != weights:
        raise MmfError(
            f"the weights in {path!r} are not those that feature {stored.name!r} was made with: "
            f"{weights} then, {there} now. Put the same file there again."
        )
    return str(Path(path))
