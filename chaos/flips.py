"""Trial `flips`: a single bit turned anywhere in the files of a store is named by `verify`."""

import random
from pathlib import Path

from mmf.chaos.job import PURGED, commits
from mmf.chaos.trial import Found, Setting
from mmf.store import FeatureStore
from mmf.store.compact import compact
from mmf.store.delete import delete
from mmf.store.verify import verify


def flips(folder: Path, setting: Setting) -> Found:
    """Single bits turned in committed files; none may be missed."""
    root, rng, found = folder / "flips", random.Random(setting.seed), Found()
    commits(root)
    FeatureStore(root).snapshot()
    compact(root, ["f"])
    delete(root, [PURGED])
    files = [p for p in sorted(root.rglob("*")) if p.is_file()]
    if problems := verify(root):
        return Found(faults=[f"{p.path} {p.what}" for p in problems])
    for _ in range(60 if setting.small else 200):
        found.n += 1
        path = rng.choice(files)
        whole = path.read_bytes()
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        if str(path.relative_to(root)) not in {p.path for p in verify(root)}:
            found.faults.append(f"bit {bit} of byte {at} of {path.relative_to(root)} was missed")
        path.write_bytes(whole)
    return found
