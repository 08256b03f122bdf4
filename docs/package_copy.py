"""Before the site is built: the rooms as the package `mmf`, alone, so that nothing else is read."""

import shutil
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).parents[1]
_IGNORED = shutil.ignore_patterns("__pycache__", "tests", "benchmarks")


@event_priority(100)  # mkdocstrings looks for the folder when its own turn comes
def on_config(config: Any) -> Any:
    """Copy the rooms into the folder that the reference is made from; mkdocs calls this."""
    package = ROOT / ".typing/site/mmf"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for file in ROOT.glob("*.py"):
        shutil.copy(file, package)
    for room in ROOT.glob("*/__init__.py"):  # links to folders would not be followed
        shutil.copytree(room.parent, package / room.parent.name, ignore=_IGNORED)
    return config
