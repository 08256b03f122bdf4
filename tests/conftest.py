"""Shape annotations are checked while the tests run; shared data is used where it is there."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# before anything imports them
install_import_hook(["mmf.fuse", "mmf.extract.backbones", "mmf.extract.flow"], "beartype.beartype")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips, weights and golden numbers that stands beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data (real clips and golden numbers), which is not here")
    return folder
