"""Features of token ids: which may be learned from, and with which text encoder."""

import logging
from collections.abc import Mapping

from mmf import MmfError
from mmf.fuse.text import weights as bert_weights
from mmf.store import FeatureSpec

logger = logging.getLogger(__name__)


def check_tokens(specs: Mapping[str, FeatureSpec], text: str) -> None:
    """Raise MmfError where token ids have no text encoder, a text encoder no ids, or not its own.

    `text` is the encoder's place, "" for none. Ids that were made beside other weights are a
    warning: they may have the same vocabulary.
    """
    tokens = {name: spec for name, spec in specs.items() if spec.dtype == "int32"}
    if not text:
        for name in tokens:
            others = ", ".join(n for n in specs if n not in tokens) or "there are none here"
            raise MmfError(
                f"feature {name!r} holds int32 token ids, which need a text encoder: name one, "
                f"e.g. --text bert:base, or choose others with --features: {others}."
            )
        return
    if not tokens:
        raise MmfError(
            f"text encoder {text!r} reads token ids, and none of {', '.join(specs)} holds any. "
            "Run `mmf extract --feature tokens=text:bert,pool=tokens` first, or leave --text out."
        )
    sha256 = bert_weights.find(text).sha256
    for name, spec in tokens.items():
        _check(name, spec, text, f"sha256:{sha256}")


def _check(name: str, spec: FeatureSpec, text: str, weights: str) -> None:
    if len(spec.shape) != 1:
        raise MmfError(
            f"feature {name!r} has int32 rows of shape {list(spec.shape)}; a text encoder reads "
            "rows of one dimension: the ids of a text's sub-words."
        )
    made_with = str(spec.recipe.get("weights", weights))
    if made_with.startswith("random:"):
        raise MmfError(
            f"the ids of feature {name!r} are words hashed for a random network ({made_with}), "
            f"which {text!r} cannot read. Extract it anew with the tokenizer of {text!r}."
        )
    if made_with != weights:
        logger.warning(
            "the ids of feature %r were made with the tokenizer of other weights (%s) than the "
            "text encoder's (%s); if their vocabularies differ, the ids mean other words",
            *(name, made_with, weights),
        )
