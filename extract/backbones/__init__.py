"""Backbones by modality: a static table from a name to its class; asking imports one module."""

from typing import Any

from mmf import MmfError, Registry, unknown
from mmf.extract.backbones.contract import Backbone, Setup, parts
from mmf.extract.backbones.own import code_of, own_class
from mmf.extract.signals import Signal

_HERE = "mmf.extract.backbones"

BACKBONES: dict[str, Registry] = {
    "rgb": Registry(
        "rgb backbone",
        {
            "clip": f"{_HERE}.image_transformer:Clip",
            "dinov2": f"{_HERE}.image_transformer:Dinov2",
            "dinov3": f"{_HERE}.image_transformer:Dinov3",
            "hog": f"{_HERE}.hog:Hog",
            "inception_2015": f"{_HERE}.inception_2015:InceptionOf2015",
            "inception_v3": f"{_HERE}.imagenet:InceptionV3",
            "mobilenet_v2": f"{_HERE}.imagenet:Imagenet",
            "resnet101": f"{_HERE}.imagenet:Imagenet",
            "resnet18": f"{_HERE}.imagenet:Imagenet",
            "resnet34": f"{_HERE}.imagenet:Imagenet",
            "resnet50": f"{_HERE}.imagenet:Imagenet",
            "siglip2": f"{_HERE}.image_transformer:Siglip2",
            "timm": f"{_HERE}.timm_image:Timm",
        },
    ),
    "clip": Registry(
        "clip backbone",
        {
            "mc3_18": f"{_HERE}.kinetics:Kinetics",
            "mvit_v1_b": f"{_HERE}.kinetics:MultiscaleViT",
            "mvit_v2_s": f"{_HERE}.kinetics:MultiscaleViT",
            "r2plus1d_18": f"{_HERE}.kinetics:Kinetics",
            "r3d_18": f"{_HERE}.kinetics:Kinetics",
            "s3d": f"{_HERE}.kinetics:Kinetics",
            "swin3d_b": f"{_HERE}.kinetics:Kinetics",
            "swin3d_s": f"{_HERE}.kinetics:Kinetics",
            "swin3d_t": f"{_HERE}.kinetics:Kinetics",
            "timesformer": f"{_HERE}.clip_transformer:TimeSformer",
            "videomae": f"{_HERE}.clip_transformer:VideoMae",
            "vjepa2": f"{_HERE}.clip_transformer:VJepa2",
            "x3d": f"{_HERE}.x3d:X3DNetwork",
        },
    ),
    "audio": Registry(
        "audio backbone",
        {
            "ast": f"{_HERE}.audio_transformer:Ast",
            "clap": f"{_HERE}.audio_transformer:Clap",
            "hubert": f"{_HERE}.audio_transformer:Hubert",
            "logmel": f"{_HERE}.logmel:LogMel",
            "mobilenet_v2": f"{_HERE}.spectrogram:SpectrogramNetwork",
            "resnet34": f"{_HERE}.spectrogram:SpectrogramNetwork",
            "vggish": f"{_HERE}.vggish:Vggish",
            "wav2vec2": f"{_HERE}.audio_transformer:Wav2Vec2",
        },
    ),
    "flow": Registry(
        "flow backbone", {"hof": f"{_HERE}.hof:Hof", "raw": f"{_HERE}.raw_flow:RawFlow"}
    ),
    "text": Registry(
        "text backbone",
        {
            "bert": f"{_HERE}.text_transformer:Bert",
            "hashing": f"{_HERE}.hashing:Hashing",
            "hf": f"{_HERE}.text_transformer:HuggingFace",
            "minilm": f"{_HERE}.text_transformer:MiniLm",
        },
    ),
}
# every network for pictures can be fed with flow
_FED = {
    name: f"{_HERE}.flow_input:{name}"
    for modality in ("rgb", "clip")
    for name in BACKBONES.get(modality, ())
    if name != "hog"
}
BACKBONES["flow"] = Registry("flow backbone", {**BACKBONES["flow"], **_FED})


def backbone_class(name: str, modality: str) -> type[Backbone]:
    """The class of backbone `name` (its variant left out) for `modality`."""
    if modality not in BACKBONES:
        raise unknown("modality", modality, BACKBONES)
    base = parts(name)[0]
    found = None if base in BACKBONES[modality] else own_class(base, modality)
    return found or BACKBONES[modality].load(name)


def backbone(
    name: str, *, modality: str | None = None, signal: Signal | None = None, **setup: Any
) -> Backbone:
    """The backbone `name` or `name:variant`, ready to map payloads to rows.

    `modality` may be left out; a name that several modalities have means the first of rgb, clip,
    audio, flow, text. `setup`: weights (pretrained | PATH | random:SEED), batch, precision (fp32 |
    bf16 | fp16), device, options (the backbone's own). UnknownName suggests near names.

    >>> backbone("hashing")(["a cat sleeps", "the cat sleeps"]).shape
    (2, 512)
    """
    if modality is None:
        base = parts(name)[0]
        having = [m for m, table in BACKBONES.items() if base in table]
        if not having and (own := own_class(base, None)):
            having = [own.modality]
        if not having:
            raise unknown("backbone", base, {n for table in BACKBONES.values() for n in table})
        modality = having[0]
    found = backbone_class(name, modality)
    try:
        signal = signal or found.signal_for(name, {**found.options, **setup.get("options", {})})
        settings = Setup(name=name, signal=signal, **setup)
    except TypeError:
        known = "weights, batch, precision, device, options"
        raise MmfError(f"backbone {name!r} got {sorted(setup)}; it takes {known}.") from None
    built = found(settings)
    if not found.__module__.startswith("mmf."):
        path, digest = code_of(found)
        built.details = {**built.details, "code": digest}
        built.code_path = str(path)
        if path.name in name:
            built.name = f"{path.name}:{name.rpartition(path.name + ':')[2]}"
    return built


__all__ = ["BACKBONES", "Backbone", "backbone", "backbone_class"]
