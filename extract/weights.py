"""What weights features need, where each is looked for, what is there, and fetching the rest.

Extraction never fetches: a job on a cluster finds its weights where `fetch` put them, or says what
is missing before it begins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

from mmf import MmfError
from mmf.extract.backbones import backbone_class
from mmf.extract.backbones.extra import library
from mmf.extract.backbones.tokens import FILES
from mmf.extract.flow import FLOWS
from mmf.extract.request import FeatureRequest
from mmf.store import FeatureStore
from mmf.store.weights import (
    CONFIG,
    WeightsMissing,
    find_weights,
    hub_location,
    none_published,
    place,
    tensor_files,
)


@dataclass(frozen=True, kw_only=True)
class Needed:
    """The weights that one feature needs."""

    feature: str
    backbone: str
    location: str
    path: Path  # where they are, or are looked for
    sha256: str | None  # None: they are not there
    size_bytes: int = 0
    pinned: str | None = None  # the digest that a stored feature's recipe has

    @property
    def state(self) -> str:
        """There, missing, or other than those that a stored feature was made with."""
        if self.sha256 is None:
            return "missing"
        return "there" if self.pinned in (None, self.sha256) else "others"


def needed_weights(requests: Sequence[FeatureRequest]) -> list[Needed]:
    """The weights of every feature that needs a file; random ones and formulas need none."""
    return [
        _needed(request, name, weights, found.published(name))
        for request in requests
        for name, weights, found in _networks(request)
        if not weights.startswith("random:")
    ]


def _networks(request: FeatureRequest) -> Iterator[tuple[str, str, Any]]:
    """The networks of a feature, with the weights asked for and the class of each."""
    found = backbone_class(request.backbone, request.modality)
    if found.has_weights:
        yield request.backbone, request.weights, found
    options = {**found.options, **request.own_options}
    if request.speech:
        from mmf.extract import speech

        yield request.speech, request.speech_weights, speech
    if "flow" in options:
        flow = FLOWS.load(options["flow"])
        if flow.has_weights:
            yield options["flow"], options["flow_weights"], flow


def stored_weights(store: FeatureStore) -> list[Needed]:
    """The weights that the features of a store were made with."""
    found = []
    for name, spec in store.features.items():
        kind, _, digest = str(spec.recipe.get("weights")).partition(":")
        if kind == "sha256":
            path = spec.environment["weights_path"]
            asked = Needed(
                feature=name,
                backbone=spec.recipe["backbone"],
                location=path,
                path=place(path),
                sha256=None,
                pinned=digest,
            )
            found.append(_looked(asked))
    return found


def _needed(request: FeatureRequest, name: str, weights: str, published: str | None) -> Needed:
    location = published if weights == "pretrained" else weights
    if location is None:
        raise none_published(name)
    path = place(location)
    return _looked(
        Needed(feature=request.name, backbone=name, location=location, path=path, sha256=None)
    )


def _looked(asked: Needed) -> Needed:
    try:
        weights = find_weights(asked.location, name=asked.backbone)
    except WeightsMissing:
        return asked
    size = sum(file.stat().st_size for file in weights.files)
    return replace(asked, sha256=weights.sha256, size_bytes=size)


def fetch(needed: Needed) -> Path:
    """Bring the weights to where they are looked for; the network is used here and nowhere else.

    Raises MmfError where they cannot be had.
    """
    try:
        if needed.location.startswith("hf://"):
            return _fetch_hub(needed.location)
        if needed.location.startswith("https://"):
            return _fetch_url(needed.location, needed.path)
    except (OSError, URLError, RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MmfError(
            f"the weights of {needed.backbone!r} cannot be fetched: {needed.location} gave: "
            f"{said}. Put the file at {str(needed.path)!r} by other means, or name one (--weights)."
        ) from error
    raise MmfError(
        f"the weights of {needed.backbone!r} are a local path, {needed.location!r}, which cannot "
        "be fetched. Put the file there, or name another (--weights MODALITY=PATH)."
    )


def _fetch_url(url: str, path: Path) -> Path:
    import torch

    digest = path.stem.rpartition("-")[2]  # torchvision and timm write it into the file's name
    known = digest if len(digest) == 8 and set(digest) <= set("0123456789abcdef") else None
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.hub.download_url_to_file(url, str(path), hash_prefix=known, progress=False)
    return path


def _fetch_hub(location: str) -> Path:
    hub = library("huggingface_hub")
    where = hub_location(location)
    if where.file:
        return Path(hub.hf_hub_download(where.repo, where.file, revision=where.revision))
    names = hub.HfApi().list_repo_files(where.repo, revision=where.revision)
    wanted = [CONFIG, "generation_config.json", *tensor_files(names), *FILES]
    return Path(hub.snapshot_download(where.repo, revision=where.revision, allow_patterns=wanted))
