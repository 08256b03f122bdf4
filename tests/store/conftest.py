"""The store is tried on a disk: it writes past the page cache and asks what is in it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder on a disk, where that of other tests is in memory."""
    with tempfile.TemporaryDirectory(prefix="mmf-") as folder:
        yield Path(folder)
