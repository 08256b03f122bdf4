"""Whether a place can hold a store to which many write: tried, not assumed.

What a commit needs is to write a file, bring it to the disk, and give it a name that only one of
two writers gets. File systems that are shared by many machines differ in that, and a wrong one
loses work in silence.
"""

import uuid
from pathlib import Path

from mmf import MmfError
from mmf.store.files import Files, open_files


def probe(where: str | Path | Files) -> None:
    """Give one name to two files; MmfError where both get it, or what was written is not read."""
    files = open_files(where)
    target = files.tmp / f"{uuid.uuid4().hex}.probe"
    first, second = b"first", b"second"
    parts = [files.write_new(first), files.write_new(second)]
    try:
        won = [files.place(part, target) for part in parts]
        found = target.read_bytes() if target.exists() else b""
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
        files.remove(target)
    if won != [True, False] or found != first:
        raise MmfError(
            f"{files.name!r} cannot hold a store to which several write: of two files that were "
            f"given one name, {sum(won)} got it, and {found!r} was read there. Put the store on "
            "another file system, or in a bucket."
        )
