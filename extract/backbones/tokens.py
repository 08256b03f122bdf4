"""Texts → token ids, by a network's own tokenizer, with a fingerprint of it."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from mmf import MmfError
from mmf.extract.backbones.extra import library

PADDING = -1  # behind a text's last token; no vocabulary has it
# what a tokenizer is made of; a network has one of the first six
FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json"),
    *("spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
    *("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
_WORD = re.compile(r"\w+|[^\w\s]")


class Tokens:
    """The tokenizer that lies beside a network's weights."""

    def __init__(self, folder: Path, length: int):
        self._tokenizer = open_tokenizer(folder)
        self._length = length
        self.fingerprint = fingerprint(self._tokenizer)

    def __call__(self, texts: Sequence[str]) -> Int64[np.ndarray, "B N"]:
        """Ids (B, N), with `PADDING` behind the last; a longer text is cut off."""
        # lone surrogates cannot be encoded; captions from broken files have them
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        rows = self._tokenizer(clean, truncation=True, max_length=self._length)["input_ids"]
        return _padded(rows, self._length)


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder as transformers has it; MmfError where there is none."""
    if not any((folder / name).is_file() for name in FILES[:6]):
        raise _missing(folder, f"none of {', '.join(FILES[:6])} is there.")
    try:
        # code of others is never run
        return library("transformers").AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _missing(folder, said) from error


def fingerprint(tokenizer: Any) -> str:
    """The digest of all that a tokenizer does."""
    whole = tokenizer.backend_tokenizer.to_str()
    return f"sha256:{hashlib.sha256(whole.encode()).hexdigest()}"


def _missing(folder: Path, said: str) -> MmfError:
    return MmfError(
        f"there is no tokenizer in {str(folder)!r}: {said} Expected the folder of a text network "
        "with its tokenizer, as `save_pretrained` writes it."
    )


class HashedTokens:
    """Words hashed into a vocabulary, for random networks, which no vocabulary fits."""

    fingerprint = "hashed words"

    def __init__(self, vocabulary: int, length: int):
        self._vocabulary, self._length = vocabulary, length

    def __call__(self, texts: Sequence[str]) -> Int64[np.ndarray, "B N"]:
        """Ids (B, N), with `PADDING` behind the last; 1 begins every text."""
        rows = [[1, *map(self._code, _WORD.findall(text))][: self._length] for text in texts]
        return _padded(rows, self._length)

    def _code(self, word: str) -> int:
        code = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=4).digest()
        return 2 + int.from_bytes(code, "little") % (self._vocabulary - 2)


def _padded(rows: Sequence[Sequence[int]], length: int) -> Int64[np.ndarray, "B N"]:
    ids = np.full((len(rows), length), PADDING, np.int64)
    for row, given in zip(ids, rows, strict=True):
        row[: len(given)] = given
    return ids
