"""Rows of an array that is not stored as mmf writes it, read through zarr-python.

Such as one that another tool has written anew with a codec: the same rows, slower by far.
"""

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np

from mmf import MmfError
from mmf.store.files import Files

logger = logging.getLogger(__name__)


class Foreign:
    """An array that zarr-python opens when somebody reads it, and says so once."""

    def __init__(self, folder: Path, feature: str, files: Files):
        self._folder, self._feature, self._files = folder, feature, files
        self._lock = threading.Lock()
        self._array: Any = None

    def read(self, start: int, target: np.ndarray) -> None:
        """Fill `target` (n, *shape) from row `start` of the array on."""
        if self._files.far:
            raise MmfError(
                f"feature {self._feature!r} is not stored as mmf writes it, and in a bucket "
                f"only that can be read. Copy {self._files.name!r} to a disk and open it there."
            )
        try:
            with self._lock:
                if self._array is None:
                    self._array = self._open()
            target[...] = self._array[start : start + len(target)]
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise MmfError(
                f"feature {self._feature!r} is not stored as mmf writes it, and zarr-python "
                f"cannot read it: {error}. If {str(self._folder / 'zarr.json')!r} is damaged, "
                "`mmf repair` writes it anew."
            ) from error

    def _open(self) -> Any:
        import zarr  # half a second that only such arrays need

        array = zarr.open_array(str(self._folder), mode="r", zarr_format=3)
        logger.warning(
            "feature %r is not stored as mmf writes it (%s), so it is read through zarr-python, "
            "which is slower by far; export it and add it anew to read it fast",
            *(self._feature, self._folder / "zarr.json"),
        )
        return array
