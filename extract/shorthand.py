"""The short options of `mmf extract` and the features that they ask for.

Each option is shorthand for a part of `--feature`; among several modalities it counts for those
that know it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from mmf import MmfError, unknown
from mmf.extract.backbones import backbone_class
from mmf.extract.presets import preset
from mmf.extract.recipe import FeatureRequest, parse_feature

_NUMBERS = {"fps": "fps", "hop": "fps", "window": "samples"}  # option → the signal's field
_OPTIONS = ("segments", "views", "sample", "decode", "track")


def requests_of(options: Mapping[str, Any]) -> list[FeatureRequest]:
    """The features that the options of `mmf extract` ask for."""
    modalities = options["modality"]
    backbones = _pairs("--backbone", options["backbone"], modalities)
    weights = _pairs("--weights", options["weights"], modalities)
    names = _pairs("--name", options["name"], modalities)
    given = {k: v for k, v in options.items() if v is not None and k in (*_NUMBERS, *_OPTIONS)}
    batch = None if options["batch_size"] == "auto" else int(options["batch_size"])
    chosen = preset(options["preset"] or "embedded")
    requests = []
    for modality in modalities:
        if modality not in backbones and modality not in chosen:
            raise unknown("modality", modality, chosen)
        # a backbone may bring options of its own, as presets do
        text = backbones.get(modality, chosen.get(modality, ""))
        asked = parse_feature(f"{names.get(modality, modality)}={modality}:{text}")
        known = given if len(modalities) == 1 else _known(modality, asked.backbone)
        fits = {k: v for k, v in given.items() if k in known}
        named = {k: str(v) for k, v in fits.items() if k in _OPTIONS}
        requests.append(
            replace(
                asked,
                weights=weights.get(modality, asked.weights),
                batch=batch,
                precision=options["precision"],
                dtype=asked.dtype if ",dtype=" in text else options["dtype"],
                options={**asked.options, **named},
                **{k: v for k, v in fits.items() if k in _NUMBERS},
            )
        )
    requests += [parse_feature(text) for text in options["feature"]]
    if not requests:
        raise MmfError("name what to extract: --modality rgb (or audio, text, flow), or --feature.")
    return requests


def weights_requests(options: Mapping[str, Any]) -> list[FeatureRequest]:
    """The features that `mmf weights` asks about: those of a preset, of --backbone, --feature."""
    backbones = preset(options["preset"]) if options["preset"] else {}
    for text in options["backbone"]:
        modality = text.partition("=")[0]
        backbones |= _pairs("--backbone", [text], [modality])
    weights = _pairs("--weights", options["weights"], list(backbones))
    requests = [
        FeatureRequest(
            name=modality,
            modality=modality,
            backbone=name,
            weights=weights.get(modality, "pretrained"),
        )
        for modality, name in backbones.items()
    ]
    return requests + [parse_feature(text) for text in options["feature"]]


def _pairs(option: str, values: Sequence[str], modalities: Sequence[str]) -> dict[str, str]:
    """MODALITY=VALUE options as a mapping."""
    found: dict[str, str] = {}
    for value in values:
        modality, equals, rest = value.partition("=")
        if not equals or not rest:
            raise MmfError(f"{option} {value!r}: expected MODALITY=VALUE, for example rgb=….")
        if modality not in modalities:
            raise MmfError(
                f"{option} {value!r}: {modality!r} is not among the modalities asked for "
                f"({', '.join(modalities) or 'none'}). Add --modality {modality}."
            )
        found[modality] = rest
    return found


def _known(modality: str, backbone: str) -> set[str]:
    """The options that mean something to a backbone's signal."""
    found = backbone_class(backbone, modality)
    signal = found.signal_for(backbone, found.options)
    named = {f.name for f in fields(signal)}
    return {k for k, of in _NUMBERS.items() if of in named}.union(signal.open)
