"""From what is asked for to the recipe that a feature keeps, and from that back again.

Once its backbone is built, request and backbone make the FeatureSpec: what must be equal for two
runs to fill one feature stands in its `recipe`; versions, device and the place of the weights stand
in its `environment`.
"""

from pathlib import Path

from mmf import MmfError
from mmf.extract import signals
from mmf.extract.backbones import BACKBONES, Backbone, backbone, backbone_class
from mmf.extract.backbones.own import code_of
from mmf.extract.request import FeatureRequest
from mmf.store import FeatureSpec
from mmf.store.weights import find_weights

EXTRACTOR_VERSION = 1  # raised whenever the same request would give other rows


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
