"""Checkpoints: a folder of safetensors and one JSON file, complete or not there.

It is written beside its place, every file fsynced, and renamed. state.json holds the sha256 of the
other files and of itself; one that does not agree is passed over for the one before.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from mmf import MmfError

logger = logging.getLogger(__name__)

_KEPT = 2
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
Tensors = Mapping[str, Tensor]


def save(folder: Path, step: int, tensors: Mapping[str, Tensors], state: Mapping[str, Any]) -> Path:
    """Write the checkpoint of a step into `folder`, and drop all but the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(".writing-*"):
        shutil.rmtree(stale)
    part = folder / f".writing-{step}"
    part.mkdir()
    digests = {}
    for name, group in tensors.items():
        data = safetensors.torch.save({k: v.detach().contiguous().cpu() for k, v in group.items()})
        digests[f"{name}.safetensors"] = hashlib.sha256(data).hexdigest()
        _write(part / f"{name}.safetensors", data)
    body = {**state, "step": step, "files": digests}
    _write(part / "state.json", json.dumps({**body, "sha256": _digest(body)}).encode())
    _sync_folder(part)
    target = folder / f"step-{step:09d}"
    if target.exists():  # of the same step, written before the epoch was closed or found broken
        shutil.rmtree(target)
    part.rename(target)
    _sync_folder(folder)
    for old in _all(folder)[:-_KEPT]:
        shutil.rmtree(old)
    return target


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, and its state; None where there is none at all.

    Raises MmfError where there are some and none is whole.
    """
    found = _all(folder)
    for path in reversed(found):
        try:
            return path, _verified(path)
        except _BROKEN as error:
            logger.warning("checkpoint %s is broken (%s); taking the one before", path, error)
    if found:
        raise MmfError(f"every checkpoint in {str(folder)!r} is broken; train again.")
    return None


def load_tensors(path: Path, name: str) -> dict[str, Tensor]:
    """One group of a checkpoint's tensors, on the CPU."""
    file = path / f"{name}.safetensors"
    try:
        return safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise MmfError(f"{str(file)!r} cannot be read as tensors ({error}).") from error


def write_json(path: Path, values: Any) -> None:
    """Replace a JSON file as a whole."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file as a whole."""
    part = path.with_name(f".{path.name}.writing")
    _write(part, data)
    part.replace(path)
    _sync_folder(path.parent)


def _verified(path: Path) -> dict[str, Any]:
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    if state.pop("sha256") != _digest(state):
        raise ValueError("state.json does not match its sha256")
    for name, digest in state["files"].items():
        if Path(name).name != name or not (path / name).is_file():  # no device, and no other's file
            raise ValueError(f"{name!r} is no file of a checkpoint")
        if hashlib.sha256((path / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{name} does not match its sha256")
    return state


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
