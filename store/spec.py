"""What a feature is: its rows, the recipe that made them, and how codes become numbers.

A feature describes itself: nothing beside its spec is needed to read it.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmf import MmfError

DTYPES = ("float16", "float32", "uint8", "int32")
MOST_VALUES = 1 << 28  # of a row: 1 GiB of float32
YOUTUBE8M_RANGE = (-2.0, 2.0)


class RecipeMismatch(MmfError, ValueError):
    """A feature of this name exists and was made in another way."""


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """One feature of a store: what a row is, and the recipe that made it."""

    name: str
    modality: str  # rgb, audio, text, flow, or the user's own
    shape: tuple[int, ...]  # of one row, e.g. (512,) or (7, 7, 512)
    dtype: str = "float16"  # of the stored rows; uint8 is YouTube-8M's quantisation
    rate: float | None = None  # rows per second; None where the times are irregular
    quantisation: tuple[float, float] | None = None  # (low, high) of uint8 codes
    recipe: Mapping[str, Any] = field(default_factory=dict)  # identity: must be equal to append
    environment: Mapping[str, Any] = field(default_factory=dict)  # recorded, may differ
    flops_per_row: float | None = None  # a product and its sum are two; None where no one counted

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", self.name):
            raise MmfError(
                f"feature name {self.name!r}: expected 1 to 64 letters, digits, '_' or '-', "
                "the first a letter or digit."
            )
        if self.dtype not in DTYPES:
            raise MmfError(f"feature {self.name!r}: dtype {self.dtype!r} is none of {DTYPES}.")
        shape = tuple(int(n) for n in self.shape)
        if any(n < 1 for n in shape):
            raise MmfError(f"feature {self.name!r}: row shape {shape} has an empty dimension.")
        if math.prod(shape) > MOST_VALUES:
            raise MmfError(
                f"feature {self.name!r}: a row of shape {shape} has more than {MOST_VALUES} values."
            )
        object.__setattr__(self, "shape", shape)
        if self.dtype == "uint8" and self.quantisation is None:
            object.__setattr__(self, "quantisation", YOUTUBE8M_RANGE)
        # through JSON once, so that a spec equals the one read back from a store
        for name in ("recipe", "environment"):
            object.__setattr__(self, name, json.loads(_canonical(getattr(self, name))))

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for two runs to fill one feature."""
        return {
            "modality": self.modality,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "rate": self.rate,
            "quantisation": list(self.quantisation) if self.quantisation else None,
            "recipe": self.recipe,
        }

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of the identity's sha256."""
        return hashlib.sha256(_canonical(self.identity).encode()).hexdigest()[:32]

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored row."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON values; `from_json` reads it back equal."""
        return {
            "name": self.name,
            **self.identity,
            "environment": self.environment,
            "flops_per_row": self.flops_per_row,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "FeatureSpec":
        """The spec that `to_json` wrote."""
        known = dict(values)
        known["shape"] = tuple(known["shape"])
        if known["quantisation"] is not None:
            low, high = known["quantisation"]
            known["quantisation"] = (float(low), float(high))
        return cls(**known)

    def renamed(self, name: str) -> "FeatureSpec":
        """The same feature under another name."""
        return replace(self, name=name)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Rows (T, *shape) in the stored dtype, little-endian; codes are not copied.

        Raises MmfError where the shape is another, a value is not finite, does not fit the dtype,
        or is fractional for an integer dtype.
        """
        values = np.asarray(values)
        if values.shape[1:] != self.shape:
            raise MmfError(
                f"feature {self.name!r} has rows of shape {self.shape}; got {values.shape[1:]}."
            )
        if values.dtype == np.uint8 and self.dtype == "uint8":
            return values
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise MmfError(f"feature {self.name!r}: the rows hold NaN or infinity.")
        if self.dtype == "uint8":
            low, high = self.quantisation or YOUTUBE8M_RANGE
            # truncation, so that codes survive the round trip through `decode`
            codes = np.floor((values.astype(np.float64) - low) * 255 / (high - low))
            return np.ascontiguousarray(np.clip(codes, 0, 255).astype(np.uint8))
        if self.dtype == "int32" and values.dtype.kind == "f" and (values % 1).any():
            raise MmfError(f"feature {self.name!r} stores int32; got fractional values.")
        with np.errstate(over="ignore"):
            stored = values.astype(np.dtype(self.dtype).newbyteorder("<"))
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise MmfError(
                f"feature {self.name!r}: a value of {np.abs(values).max():g} does not fit "
                f"{self.dtype}. Store it as float32 (--dtype float32)."
            )
        if self.dtype == "int32" and (stored != values).any():
            raise MmfError(f"feature {self.name!r}: a value does not fit int32.")
        return np.ascontiguousarray(stored)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Stored rows as float32 (int32 stays int32); uint8 codes become the middle of their step.

        uint8: x = q (high - low) / 255 + (high - low) / 512 + low, YouTube-8M's dequantisation.
        """
        if self.dtype == "int32":
            return stored.astype(np.int32)
        if self.dtype == "uint8":
            scale, offset = self.scale_offset
            return stored.astype(np.float32) * np.float32(scale) + np.float32(offset)
        return stored.astype(np.float32)

    @property
    def scale_offset(self) -> tuple[float, float]:
        """(scale, offset) of the affine map from stored codes to numbers; (1, 0) for floats."""
        if self.dtype != "uint8" or self.quantisation is None:
            return 1.0, 0.0
        low, high = self.quantisation
        return (high - low) / 255, (high - low) / 512 + low


def differing_field(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    """The first field in which two identities differ, in words; '' where they are equal."""
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            inner = differing_field(a, b, f"{prefix}{key}.")
            if inner:
                return inner
        elif a != b:
            return f"{prefix}{key} {json.dumps(a)} there, {json.dumps(b)} here"
    return ""


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a recipe holds JSON values only; got {type(value).__name__} {value!r}")
