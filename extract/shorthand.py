"""The short options of the commands and the features that they ask for.

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
    """The features that the options of a command ask for; an option that it lacks says nothing."""
    modalities = options["modality"]
    named = {
        option: _pairs(f"--{option}", options.get(option, ()), modalities)
        for option in ("backbone", "weights", "name")
    }
    chosen = preset(options["preset"] or "embedded")
    for modality in modalities:
        if modality not in named["backbone"] and modality not in chosen:
            raise unknown("modality", modality, chosen)
    texts = {**chosen, **named["backbone"]}  # a backbone may bring options of its own
    requests = [
        _asked(modality, texts[modality], options, named, alone=len(modalities) == 1)
        for modality in modalities
    ]
    requests += [parse_feature(text) for text in options["feature"]]
    if not requests:
        first, *others = chosen
        raise MmfError(
            f"name what to extract: --modality {first} (or {', '.join(others)}), or --feature."
        )
    return requests


def _asked(
    modality: str,
    text: str,
    options: Mapping[str, Any],
    named: Mapping[str, Mapping[str, str]],
    *,
    alone: bool,
) -> FeatureRequest:
    """One modality's feature; where it is not `alone`, options count that mean something to it."""
    asked = parse_feature(f"{named['name'].get(modality, modality)}={modality}:{text}")
    given = {k: v for k, v in options.items() if v is not None and k in (*_NUMBERS, *_OPTIONS)}
    known = given if alone else _known(modality, asked.backbone)
    fits = {k: v for k, v in given.items() if k in known}
    own = {k: str(v) for k, v in fits.items() if k in _OPTIONS}
    batch = options.get("batch_size", "auto")
    return replace(
        asked,
        weights=named["weights"].get(modality, asked.weights),
        batch=None if batch == "auto" else int(batch),
        precision=options.get("precision", asked.precision),
        dtype=asked.dtype if ",dtype=" in text else options.get("dtype", asked.dtype),
        options={**asked.options, **own},
        **{k: v for k, v in fits.items() if k in _NUMBERS},
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
