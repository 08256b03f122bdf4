"""The house stands as it was drawn: who imports whom, what is packaged, what starts quickly."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_CODE = {"tests", "benchmarks", "docs"}
ALLOWED = {
    "store": {"store"},
    "cluster": {"cluster"},
    "extract": {"store", "cluster", "extract"},
    "fuse": {"store", "cluster", "fuse"},
    "chaos": {"store", "cluster", "extract", "chaos"},
    "report": {"store", "cluster", "fuse", "report"},
    "commands": {"store", "cluster", "extract", "fuse", "chaos", "report", "commands"},
    "cli": {"commands"},
    "matmul": set(),
    "memory": set(),
    "lifeline": set(),
    "": set(),
}
HEAVY = {"torch", "torchvision", "torchaudio", "dask", "av", "cv2"}


def modules() -> list[Path]:
    found = [p for p in ROOT.rglob("*.py") if not any(x.startswith(".") for x in p.parts[1:])]
    return [p for p in found if p.relative_to(ROOT).parts[0] not in {*NOT_CODE, "build"}]


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return names


def room(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "mmf" and len(parts) > 1 and (ROOT / parts[1]).is_dir():
            assert parts[1] in ALLOWED[room(path)], f"{room(path)} must not import {name}"
        if room(path) in ("store", ""):
            assert parts[0] not in HEAVY, f"{room(path)} must not import {parts[0]}"


def test_every_folder_with_code_is_packaged_and_the_root_holds_five_modules():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(config["tool"]["setuptools"]["packages"])
    folders = {p.parent.relative_to(ROOT) for p in modules()}
    assert listed == {".".join(("mmf", *f.parts)) for f in folders}
    assert {p.name for p in ROOT.glob("*.py")} == {
        "__init__.py",
        "cli.py",
        "lifeline.py",
        "matmul.py",
        "memory.py",
    }
    assert all((ROOT / f / "__init__.py").exists() for f in folders)


def test_contributing_shows_every_room_and_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("<!-- rooms -->")[2].partition("<!-- /rooms -->")[0]
    rooms = re.findall(r"^\| `([^`]+)`", table, flags=re.M)
    folders = {p.parent.relative_to(ROOT).as_posix() for p in modules()}
    assert sorted(rooms) == sorted(folders - {"."})
    named = re.findall(r"`([\w/]+\.py)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_file_says_its_idea_in_its_first_line():
    said = {p: ast.get_docstring(ast.parse(p.read_text(encoding="utf-8"))) for p in modules()}
    first = {path: (text or "").partition("\n")[0] for path, text in said.items()}
    assert [path for path, line in first.items() if not line.endswith(".")] == []


@pytest.mark.parametrize("package", ["mmf", "mmf.store", "mmf.extract", "mmf.fuse", "mmf.cli"])
def test_importing_a_package_loads_no_heavy_library(package):
    code = f"import sys, {package}; print(*(set(sys.modules) & {HEAVY!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_exact_versions_are_pinned_within_the_ranges_and_no_file_names_a_host():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = config["tool"]["uv"]["constraint-dependencies"]
    names = {p.partition("==")[0] for p in pinned}
    asked = [*config["project"]["dependencies"], *config["dependency-groups"]["dev"]]
    assert {re.split(r"[\[>]", a)[0] for a in asked} <= names
    hashed = (ROOT / "constraints.txt").read_text()
    assert "://" not in hashed
    lines = [line.removesuffix(" \\") for line in hashed.splitlines() if line[0].isalnum()]
    assert sorted(lines) == sorted(pinned)
    assert hashed.count("--hash=sha256:") >= len(lines)
