"""Trial `mutated`: damaged media, each of which is done or fails with a reason, and stops nothing.

Clips in five containers are damaged in one of `WAYS`, file number i by what `Random(f"{seed}-{i}")`
draws, so that one file can be made again alone. They go through `mmf.extract.extract` as a folder.
"""

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mmf.chaos.media import make_clips
from mmf.chaos.trial import Found, Setting
from mmf.extract import FeatureRequest, JobOptions, extract
from mmf.store import FeatureStore
from mmf.store.verify import verify

SMALL, FULL = 500, 10_000
HEAD = 512  # bytes of a header

Way = Callable[[random.Random, bytearray], bytes]


def _flips(rng: random.Random, data: bytearray) -> bytes:
    """Single bits turned, from one to one in a hundred bytes."""
    for _ in range(rng.randint(1, max(1, int(len(data) * 10 ** rng.uniform(-4, -2))))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _cut(rng: random.Random, data: bytearray) -> bytes:
    """The file ends early."""
    return bytes(data[: rng.randrange(len(data))])


def _zeroed(rng: random.Random, data: bytearray) -> bytes:
    """Blocks of zeros, as of a disk or a transfer that failed."""
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(data)), rng.choice([16, 188, 512, 4096])
        data[at : at + size] = bytes(len(data[at : at + size]))
    return bytes(data)


def _spliced(rng: random.Random, data: bytearray) -> bytes:
    """A piece is left out, or stands where it does not belong."""
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    to = rng.randrange(len(data))
    kinds = [data[:a] + data[b:], data[:to] + data[a:b] + data[to:]]
    return bytes(rng.choice(kinds))


def _header(rng: random.Random, data: bytearray) -> bytes:
    """Numbers in the header, or in the index at the end, become others, large ones with them."""
    begin = 0 if rng.random() < 0.6 else max(0, len(data) - 2 * HEAD)
    for _ in range(rng.randint(1, 8)):
        at = begin + rng.randrange(min(HEAD, len(data) - begin))
        size = rng.choice([1, 2, 4, 8])
        value = rng.choice([0, 1 << (8 * size - 1), (1 << 8 * size) - 1, rng.getrandbits(8 * size)])
        data[at : at + size] = value.to_bytes(size, "big")
    return bytes(data)


WAYS: dict[str, Way] = {
    "flips": _flips,
    "cut": _cut,
    "zeroed": _zeroed,
    "spliced": _spliced,
    "header": _header,
}


def damaged(seed: int, i: int, clips: dict[str, bytes]) -> tuple[str, bytes]:
    """Name and content of file number i."""
    rng = random.Random(f"{seed}-{i}")
    kind = sorted(clips)[i % len(clips)]
    way = list(WAYS)[i // len(clips) % len(WAYS)]
    content = bytearray(clips[kind])
    # a damaged .ts may be TypeScript for all that a folder shows, and would be no input
    suffix = {"ts": "mts"}.get(kind, kind)
    return f"{i:05}-{way}.{suffix}", WAYS[way](rng, content)


def mutated(folder: Path, setting: Setting) -> Found:
    """Damaged media files through a whole job."""
    found = Found(n=SMALL if setting.small else FULL)
    clips = {kind: path.read_bytes() for kind, path in make_clips(folder / "clips").items()}
    files = folder / "files"
    files.mkdir()
    for i in range(found.n):
        name, content = damaged(setting.seed, i, clips)
        (files / name).write_bytes(content)
    store = folder / "mutated.mmf"
    requests = [
        FeatureRequest(name="rgb", modality="rgb", backbone="hog", fps=4.0),
        FeatureRequest(name="audio", modality="audio", backbone="logmel"),
        FeatureRequest(name="text", modality="text", backbone="hashing"),
    ]
    options = JobOptions(workers=1 if setting.small else None, max_failure_rate=1.0)
    result = extract(str(files), store, requests, options)
    if result.inputs != found.n:
        found.faults.append(f"{result.inputs} inputs of {found.n} files")
    found.faults += without_outcome(FeatureStore(store), [r.name for r in requests])
    found.faults += [f"{p.path} {p.what}" for p in verify(store)]
    reasons = Counter(row["reason"] for row in _failures(store, "rgb"))
    found.said = said(found.n, reasons)
    return found


def without_outcome(store: FeatureStore, features: list[str]) -> list[str]:
    """Videos that are neither done, skipped nor failed, or failed without a reason."""
    faults = []
    videos = {v for name in features for v in store.state(name)}
    for name in features:
        faults += [f"{v}: no outcome of {name}" for v in sorted(videos - set(store.state(name)))]
    for row in store.failures().to_pylist():
        if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", row["reason"] or "") or not row["message"]:
            faults.append(f"{row['video_id']}: failed of {row['reason']!r}, {row['message']!r}")
        elif not row["message"].isprintable() or len(row["message"]) > 1100:
            faults.append(f"{row['video_id']}: says {row['message']!r}")
    return faults


def _failures(store: Path, feature: str) -> list[dict[str, str]]:
    rows = FeatureStore(store).failures().to_pylist()
    return [row for row in rows if row["feature"] == feature]


def said(n: int, reasons: Counter[str]) -> str:
    """How many failed, and of what."""
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    failed = reasons.total()
    return f"{n - failed} done or skipped, {failed} failed" + (f" ({listed})" if listed else "")
