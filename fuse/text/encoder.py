"""Text that learns a little: BERT inside the network, fed by stored token ids.

A feature of token ids (``mmf extract --feature tokens=text:bert,pool=tokens``) has a row per
caption with the ids of its sub-words, -1 behind the last. Each row goes through the encoder by
itself, and **a step is a sub-word**: the steps of an item are the last layer's vectors of the
sub-words of all its rows, in order and without gaps, special tokens included. So (B, T, N) ids
become (B, L, D) steps, L those of the item with the most. With ``layers=0`` they are the word
embeddings themselves, which is what MMFTransformer takes of text (its option `words`).

By default all weights stay as published but the embeddings and the LayerNorms. The embeddings lie
before all layers, so gradients pass through every layer and its activations are kept; where
nothing learns, the encoder runs without gradients and without dropout, as stage one would.

What stays as published is no parameter but a buffer outside of the state dict: no optimiser and no
checkpoint ever sees it. A run keeps what it has learned and the sha256 of the published files; they
are found again when the run is opened, and other bytes are refused. (Copies would cost each of a
run's checkpoints 340 MB for BERT-base, and say nothing that the digest does not.)
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from mmf import MmfError, unknown
from mmf.fuse.text import weights as bert_weights
from mmf.fuse.text.bert import Bert

_ROWS, _WIDTH = 4, 16  # of the batches of `alike`: more cost a clip alone, fewer a thousand

LEARN = ("nothing", "embeddings+layernorms", "everything")


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Options of the text encoder."""

    learn: Literal["nothing", "embeddings+layernorms", "everything"] = "embeddings+layernorms"
    layers: int = -1  # how many of its layers; -1: all, 0: the word embeddings alone

    def __post_init__(self) -> None:
        if self.learn not in LEARN:
            raise unknown("learn of the text encoder", self.learn, LEARN)
        if self.layers < -1:
            raise MmfError(
                f"layers = {self.layers} of the text encoder: expected -1 (all) or more."
            )


class TextEncoder(nn.Module):
    """A published BERT that turns rows of token ids into steps.

    `weights` is its place (`mmf.fuse.text.weights`), `rows` the names of the features with the
    tokens N of their rows.
    """

    def __init__(self, weights: str, rows: Mapping[str, int], options: TextOptions):
        super().__init__()
        found = bert_weights.read(weights)
        _check_lengths(rows, found)
        self.options, self.where = options, found.where
        self.out_size = found.config.hidden_size
        with torch.device("meta"):  # no first weights are drawn
            bert = Bert(found.config)
        self.bert = bert.to_empty(device="cpu")
        bert_weights.fill(self.bert, found)
        layers = self.bert.encoder.layer
        if options.layers > len(layers):
            raise MmfError(
                f"layers = {options.layers} of the text encoder: the BERT in {found.where!r} has "
                f"{len(layers)}."
            )
        if options.layers >= 0:
            del layers[options.layers :]
        if options.layers == 0:
            for name in ("position_embeddings", "token_type_embeddings", "LayerNorm"):
                delattr(self.bert.embeddings, name)
        self.alike = False  # the same bits for a row in any company; not for learning
        self._sha256 = torch.frombuffer(bytearray.fromhex(found.sha256), dtype=torch.uint8)
        _freeze(self.bert, options.learn)

    def forward(
        self, ids: Float[Tensor, "B T N"], mask: Bool[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B L D"], Bool[Tensor, "B L"]]:
        """The sub-words' vectors and which of them are there; zeros where none is.

        Ids come as the numbers that all features are: float32 has every whole number below 2^24.
        """
        there = (ids >= 0) & mask.unsqueeze(2)  # (B, T, N)
        self._check(ids, there)
        rows = there.any(2)  # (B, T), with a sub-word at least
        longest = _last(there)
        seen = there[rows][:, :longest]  # (R, n): no row is computed that is not there
        learns = nullcontext() if self.options.learn != "nothing" else torch.no_grad()
        with learns:
            read = self._alike if self.alike else self._vectors
            vectors = read(ids[rows][:, :longest].long().clamp_min(0), seen)  # (R, n, D)
        counts = there.sum((1, 2))  # (B,)
        steps = torch.arange(max(1, int(counts.max())), device=ids.device) < counts.unsqueeze(1)
        if self.alike:
            vectors = vectors.to(ids.dtype)  # the precision of all else
        out = vectors.new_zeros(*steps.shape, self.out_size)  # (B, L, D)
        # both masks are walked by item, then in order, so the k-th of one is the k-th of the other
        return out.masked_scatter(steps.unsqueeze(2), vectors[seen]), steps

    def train(self, mode: bool = True) -> "TextEncoder":
        """Training mode, with dropout, unless nothing learns."""
        return super().train(mode and self.options.learn != "nothing")

    def get_extra_state(self) -> Tensor:
        """The digest of the published files: it stands in every checkpoint."""
        return self._sha256

    def set_extra_state(self, state: Tensor) -> None:
        """Compare a checkpoint's digest with that of the files found here."""
        if not torch.equal(state.cpu(), self._sha256):
            raise MmfError(
                f"the text encoder in {self.where!r} is not the one that the run was trained with: "
                f"sha256 {_hex(state)} there, {_hex(self._sha256)} here. Put the same files there."
            )

    def _vectors(self, ids: Tensor, seen: Tensor) -> Tensor:
        if self.options.layers == 0:
            return self.bert.embeddings.word_embeddings(ids)
        return self.bert(ids, seen)

    def _alike(self, ids: Tensor, seen: Tensor) -> Tensor:
        """The vectors of rows in batches of `_ROWS` × a multiple of `_WIDTH`."""
        lengths = (seen * torch.arange(1, seen.shape[1] + 1, device=seen.device)).amax(1)
        widths = (-(-lengths // _WIDTH) * _WIDTH).clamp_max(
            self.bert.config.max_position_embeddings
        )
        out = torch.zeros(*ids.shape, self.out_size, device=ids.device)
        for width in widths.unique().tolist():
            for rows in (widths == width).nonzero().squeeze(1).split(_ROWS):
                more = (0, width - ids.shape[1], 0, _ROWS - len(rows))  # cuts off where negative
                given, there = (functional.pad(x[rows], more) for x in (ids, seen))
                within = min(width, ids.shape[1])
                out[rows, :within] = self._vectors(given, there)[: len(rows), :within]
        return out

    def _check(self, ids: Tensor, there: Tensor) -> None:
        words = self.bert.config.vocab_size
        largest = ids.masked_fill(~there, -1).max() if ids.numel() else ids.new_zeros(())
        if largest >= words:
            raise MmfError(
                f"token id {int(largest)}: the text encoder in {self.where!r} knows {words} "
                "words. The ids are of another vocabulary; extract them with this network's "
                "tokenizer."
            )


def _last(there: Bool[Tensor, "B T N"]) -> int:
    """The tokens up to the last of any row; at least 1."""
    places = torch.arange(1, there.shape[2] + 1, device=there.device)
    return max(1, int((there * places).max())) if there.numel() else 1


def _check_lengths(rows: Mapping[str, int], found: bert_weights.Checkpoint) -> None:
    positions = found.config.max_position_embeddings
    for name, length in rows.items():
        if length > positions:
            raise MmfError(
                f"feature {name!r} has rows of {length} tokens; the BERT in {found.where!r} reads "
                f"{positions}. Extract it with tokens={positions}."
            )


def _freeze(network: Bert, learn: str) -> None:
    """Make buffers outside of the state dict of all parameters that do not learn."""
    for name, parameter in list(network.named_parameters()):
        learns = learn == "everything" or (
            learn != "nothing" and (name.startswith("embeddings.") or ".LayerNorm." in name)
        )
        if not learns:
            path, _, own = name.rpartition(".")
            module = network.get_submodule(path)
            delattr(module, own)
            module.register_buffer(own, parameter.detach(), persistent=False)


def _hex(digest: Tensor) -> str:
    return bytes(digest.cpu().tolist()).hex()[:12] + "…"
