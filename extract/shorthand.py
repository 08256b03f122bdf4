"""The short options of the commands and the features that they ask for.

Each option is shorthand for a part of `--feature`; among several modalities it counts for those
that know it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from mmf import MmfError, unknown
from mmf.extract.backbones import BACKBONES, backbone_class
from mmf.extract.presets import preset
from mmf.extract.request import FeatureRequest, parse_feature

_NUMBERS = {"fps": "fps", "hop": "fps", "window": "samples"}  # option → the signal's field
_OPTIONS = ("segments", "views", "sample", "decode", "track")


def requests_of(options: Mapping[str, Any]) -> list[FeatureRequest]:
    """The features that the options of a command ask for; an option that it lacks says nothing."""
    modalities = options["modality"]
    named = {
        option: _pairs(f"--{option}", options.get(option, ()), modalities)
        for option in ("backbone", "weights", "name")
    }
    chosen = preset(options["preset"] or "embedded")
    texts = {**chosen, **named["backbone"]}  # a backbone may bring options of its own
    for modality in modalities:
        if modality not in texts:
            raise _no_backbone(modality, options["preset"] or "embedded")
    asked = {m: parse_feature(f"{named['name'].get(m, m)}={m}:{texts[m]}") for m in modalities}
    given = {k: v for k, v in options.items() if v is not None and k in (*_NUMBERS, *_OPTIONS)}
    known = {m: _known(m, one.backbone) for m, one in asked.items()}
    stray = given.keys() - set().union(*known.values())  # means nothing to any: each refuses it
    requests = []
    for modality, one in asked.items():
        fits = {k: v for k, v in given.items() if k in known[modality] | stray}
        weights = named["weights"].get(modality, one.weights)
        own_type = ",dtype=" in texts[modality]
        requests.append(_with_options(replace(one, weights=weights), fits, options, own_type))
    requests += [parse_feature(text) for text in options["feature"]]
    if not requests:
        first, *others = chosen
        raise MmfError(
            f"name what to extract: --modality {first} (or {', '.join(others)}), or --feature."
        )
    return requests


def _with_options(
    asked: FeatureRequest, fits: Mapping[str, Any], options: Mapping[str, Any], own_type: bool
) -> FeatureRequest:
    batch = options.get("batch_size", "auto")
    named = {k: str(v) for k, v in fits.items() if k in _OPTIONS}
    return replace(
        asked,
        batch=None if batch == "auto" else int(batch),
        precision=options.get("precision", asked.precision),
        dtype=asked.dtype if own_type else options.get("dtype", asked.dtype),
        options={**asked.options, **named},
        **{k: v for k, v in fits.items() if k in _NUMBERS},
    )


def _no_backbone(modality: str, chosen: str) -> MmfError:
    if modality not in BACKBONES:
        return unknown("modality", modality, BACKBONES)
    return MmfError(
        f"preset {chosen!r} has no backbone for {modality!r}. Name one (--backbone "
        f"{modality}={preset('standard')[modality]}), or another preset (`mmf list presets`)."
    )


def weights_requests(options: Mapping[str, Any]) -> list[FeatureRequest]:
    """The features that `mmf weights` asks about: those of a preset, of --backbone, --feature."""
    named = [text.partition("=")[0] for text in options["backbone"]]
    modalities = dict.fromkeys([*(preset(options["preset"]) if options["preset"] else ()), *named])
    if not modalities and not options["feature"]:
        return []
    return requests_of({**options, "modality": tuple(modalities)})


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
