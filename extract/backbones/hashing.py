"""Text as a bag of hashed n-grams: no vocabulary, no weights, every language.

Words, pairs of words and the 3- to 5-grams of characters inside a word (with its borders) each
add ±1 at a place that a hash gives (Weinberger et al., Feature Hashing, ICML 2009); then the
counts are damped by a signed square root and the row is scaled to length 1. A cue without a word
gives zeros. The hash is blake2b, so that rows are the same in every process and on every machine.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Shaped

from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.signals import Cues, Signal

SIZE = 512
_WORD = re.compile(r"\w+")


class Hashing(Backbone):
    """Word and character n-grams of a text, hashed to 512 numbers of length 1."""

    modality: ClassVar[str] = "text"
    default_signal: ClassVar[Signal] = Cues()

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.row_shape = (SIZE,)

    def rows(self, payloads: Shaped[np.ndarray, " B"]) -> Float32[np.ndarray, "B D"]:
        """Texts (B,) → (B, 512)."""
        return np.stack([_row(text) for text in payloads])

    def flops_per_row(self) -> float:
        """6 for each of the 512 numbers: a sign, a size, a root, their product, a square, a share.

        Hashes are of whole numbers and not counted, nor is the 1 that each n-gram adds: some
        hundreds in a cue.
        """
        return 6.0 * SIZE


def _row(text: str) -> Float32[np.ndarray, " D"]:
    row = np.zeros(SIZE, np.float32)
    for gram in _grams(text):
        code = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=4).digest(), "little")
        row[code % SIZE] += 1.0 if code >> 31 else -1.0
    row = np.sign(row) * np.sqrt(np.abs(row))
    length = np.linalg.norm(row)
    return row / length if length > 0 else row


def _grams(text: str) -> Iterator[str]:
    # lone surrogates cannot be encoded; captions from broken files have them
    text = text.encode("utf-8", "replace").decode()
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    yield from words
    for first, second in pairwise(words):
        yield f"{first} {second}"
    for word in words:
        bordered = f"<{word}>"
        for size in (3, 4, 5):
            for start in range(len(bordered) - size + 1):
                yield bordered[start : start + size]
