"""Text encoders from transformers, one row per caption.

BERT: Devlin et al., NAACL 2019. MiniLM as a sentence encoder: Wang et al., NeurIPS 2020, and
Reimers and Gurevych, Sentence-BERT, EMNLP 2019. ``hf:ORG/NAME[@REVISION]`` is any encoder of the
hub whose class transformers itself has.

The row is the mean of the last layer over the text's tokens (``pool=mean``; MiniLM's is scaled to
length 1, as it was trained), the first token (``pool=cls``), or the token ids themselves, int32,
with -1 behind the last (``pool=tokens``), so that a later stage can train the encoder.
``tokens=N`` is the length to which texts are filled up or cut off.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError, unknown
from mmf.extract.backbones.checkpoint import Loaded, find, seed_of
from mmf.extract.backbones.contract import Setup
from mmf.extract.backbones.extra import library
from mmf.extract.backbones.tokens import PADDING, HashedTokens, Tokens
from mmf.extract.backbones.transformer import (
    Known,
    Published,
    TransformerBackbone,
    load_transformer,
    read_config,
)
from mmf.extract.signals import Cues, Signal
from mmf.store.weights import CONFIG, find_weights, place

POOLS = ("mean", "cls", "tokens")
_CUES = Cues()


@dataclass(frozen=True, kw_only=True)
class Text(Known):
    """A published text encoder."""

    signal: Signal = _CUES
    unit: bool = False  # whether its mean has length 1


class TextTransformer(TransformerBackbone):
    """What the text encoders of transformers share."""

    modality: ClassVar[str] = "text"
    default_signal: ClassVar[Signal] = Cues()
    options: ClassVar[Mapping[str, str]] = {"pool": "mean", "tokens": "128"}

    def __init__(self, setup: Setup):
        chosen = {**self.options, **setup.options}
        self._pool, self._length = chosen["pool"], _length(setup.name, chosen["tokens"])
        if self._pool not in POOLS:
            raise unknown(f"pool of {setup.name}", self._pool, POOLS)
        super().__init__(setup)
        self._tokens = _tokenizer(self.weights_path, self.config, self._length)
        self.details = {"tokenizer": self._tokens.fingerprint}
        self.dtype = "int32" if self._pool == "tokens" else None

    def load(self, setup: Setup) -> Loaded:
        """The network; where token ids are the rows, nothing but the tokenizer's folder."""
        if self._pool != "tokens" or seed_of(setup.weights) is not None:
            return super().load(setup)
        found = find(setup.weights, self.known_as.network.location, name=setup.name)
        path = str(found.path.absolute())
        return Loaded(network=nn.Identity(), identity=f"sha256:{found.sha256}", path=path)

    def prepare(self, payloads: Shaped[np.ndarray, " B"]) -> Int64[Tensor, "B N"]:
        """Texts (B,) → token ids, -1 behind the last."""
        return torch.from_numpy(self._tokens(list(payloads))).to(self.device)

    def wanted(self, network: Any, given: Tensor) -> Tensor:
        """The mean, the first token, or the ids as they are."""
        if self._pool == "tokens":
            return given
        there = given != PADDING
        # a mask of one form for all: transformers leaves a full one out, and other kernels give
        # other bits
        kind = next(network.parameters()).dtype
        mask = torch.zeros(given.shape, dtype=kind, device=given.device)
        mask = mask.masked_fill(~there, torch.finfo(kind).min)[:, None, None, :]
        mask = mask.expand(-1, 1, self._length, -1)
        tokens = network(input_ids=given.clamp(min=0), attention_mask=mask).last_hidden_state
        return tokens[:, 0] if self._pool == "cls" else self._mean(tokens.float(), there)

    def _mean(self, tokens: Float[Tensor, "B N D"], there: Tensor) -> Float[Tensor, "B D"]:
        weight = there[:, :, None].float()
        mean = (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return functional.normalize(mean) if self.known_as.unit else mean


def _length(name: str, tokens: str) -> int:
    if not tokens.isdecimal() or not 2 <= int(tokens) <= 8192:
        raise MmfError(f"backbone {name!r}: tokens={tokens} is no length; expected 2 to 8192.")
    return int(tokens)


def _tokenizer(weights: str | None, config: Any, length: int) -> Tokens | HashedTokens:
    if weights is None:
        return HashedTokens(config.vocab_size, length)
    path = Path(weights)
    return Tokens(path if path.is_dir() else path.parent, length)


def _bert(repository: str, licence: str = "apache-2.0", **config: Any) -> Published:
    return Published(
        model="BertModel",
        repository=repository,
        licence=licence,
        config=config,
        build={"add_pooling_layer": False},
    )


class Bert(TextTransformer):
    """BERT without its pooler, uncased English: 768 numbers, large 1024."""

    known: ClassVar[Mapping[str, Text]] = {
        "base": Text(network=_bert("google-bert/bert-base-uncased")),
        "large": Text(
            network=_bert(
                "google-bert/bert-large-uncased",
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=24,
                num_attention_heads=16,
            )
        ),
    }


class MiniLm(TextTransformer):
    """MiniLM as a sentence encoder: 384 numbers of length 1."""

    known: ClassVar[Mapping[str, Text]] = {
        "l6": Text(
            network=_bert(
                "sentence-transformers/all-MiniLM-L6-v2",
                hidden_size=384,
                intermediate_size=1536,
                num_hidden_layers=6,
                num_attention_heads=12,
            ),
            unit=True,
        )
    }


class HuggingFace(TextTransformer):
    """Any text encoder of the Hugging Face hub whose class transformers itself has."""

    any_variant: ClassVar[str] = "ORG/NAME[@REVISION]"

    @classmethod
    def entry(cls, name: str) -> Text:
        """The repository that the name means; its own config.json says what network it is."""
        repository, _, revision = name.partition(":")[2].partition("@")
        if repository.count("/") != 1:
            raise MmfError(f"backbone {name!r}: expected hf:ORG/NAME or hf:ORG/NAME@REVISION.")
        network = Published(
            model="", repository=repository, licence="its own", revision=revision or "main"
        )
        return Text(network=network)

    def load(self, setup: Setup) -> Loaded:
        """The network that the repository's config.json says."""
        if self._pool == "tokens":
            return super().load(setup)
        location = self.known_as.network.location
        if setup.weights != "pretrained" and seed_of(setup.weights) is None:
            location = setup.weights
        folder = place(location)
        if not (folder / CONFIG).is_file():
            find_weights(location, name=setup.name)
            raise MmfError(f"{str(folder)!r} has no {CONFIG}, so what network it is stays unsaid.")
        auto = library("transformers.models.auto.modeling_auto")
        config = read_config(library("transformers").AutoConfig, folder, trust_remote_code=False)
        model = auto.MODEL_MAPPING.get(type(config), None)
        if model is None or config.is_encoder_decoder:
            raise MmfError(f"{setup.name!r} is {config.model_type!r}, which is no text encoder.")
        pools = "add_pooling_layer" in inspect.signature(model).parameters
        network = replace(
            self.known_as.network,
            model=model.__name__,
            config=config.to_dict(),
            build={"add_pooling_layer": False} if pools else {},
        )
        return load_transformer(network, setup.weights, name=setup.name)
