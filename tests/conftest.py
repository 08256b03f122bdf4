"""Shape annotations are checked while the tests run; shared data is used where it is there."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]
MEMORY = Path("/dev/shm")
ROOMS = ("extract/backbones", "extract/flow", "fuse", "report")  # what computes with arrays


def _with_shapes() -> list[str]:
    """The modules of these rooms that annotate shapes; all of a module's calls are checked.

    A check costs as much as many a call. Types without shapes are mypy's.
    """
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return [
        f"mmf.{name}"
        for name, file in zip(names, files, strict=True)
        if "from jaxtyping import" in file.read_text()
    ]


# before anything imports them
install_import_hook(_with_shapes(), "beartype.beartype")


def pytest_configure() -> None:
    """Temporary folders lie in memory where it has room: each store and checkpoint is synced.

    Of several workers (`-n`) each has one thread for torch.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 8 << 30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips, weights and golden numbers that stands beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data (real clips and golden numbers), which is not here")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Any]:
    """A real S3 server with a bucket called `bucket`, behind a proxy that can do harm."""
    pytest.importorskip("moto.server", reason="moto is not installed: no S3 server to try it with")
    module = _benchmark("s3_server")
    with module.s3_server() as proxy:
        module.make_bucket(proxy, "bucket")
        yield proxy


@pytest.fixture
def s3(s3_server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The server's proxy, which counts from here on; the environment names it and a cache."""
    for name, value in sys.modules["s3_server"].ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("MMF_CACHE", str(tmp_path / "cache"))
    s3_server.reset()
    yield s3_server
    s3_server.reset()


def _benchmark(name: str) -> Any:
    """A module of the folder of benchmarks, which is no package."""
    found = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module
