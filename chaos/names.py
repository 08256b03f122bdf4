"""Trial `names`: hostile ids and file names go through a store, and a job, and come back exactly.

No name becomes a path of the store, and nothing is written outside of it. Names are drawn from a
seed, after the ones that are known to hurt.
"""

import os
import random
from pathlib import Path

import numpy as np

from mmf import MmfError
from mmf.chaos.media import make_clip
from mmf.chaos.trial import Found, Setting
from mmf.extract import FeatureRequest, JobOptions, extract, read_manifest
from mmf.store import FeatureSpec, FeatureStore, Outcome, Track
from mmf.store.verify import verify

SMALL, FULL = 500, 5_000
F = FeatureSpec(name="f", modality="rgb", shape=(2,), dtype="float32")
KNOWN = (
    *("../../x", "..", ".", "/", "/etc/passwd", "//x", "a/../../b", "~", "~root", "-rf", "--", "*"),
    *("CON", "NUL", "aux.mp4", "zarr.json", "mmf.json", "c/0/0", "parts", "log", "index", ".git"),
    *("a\0b", "\0", "\x1b[2J\x1b]0;x\x07", "a\nb", "a\r\nb", "\t", " ", "  a ", "a ", "", "a\\b"),
    *("C:\\x", "\\\\host\\share", "a:b", "10:30.mp4", "http://x/y", "s3://b/k", "file:///x"),
    *("e\u0301", "\u00e9", "A", "a", "İ", "ß", "SS", "\u202eabc", "\ufeff", "\u2028", "\ufffd"),
    *("\U0001f4a5", "x" * 255, "x" * 300, "é" * 200, "/".join("ab" * 50), "=cmd|' /C calc'!A0"),
    *("'; drop table videos; --", "${HOME}", "$(id)", "`id`", "%s%n", "{0}", "{{x}}", "None"),
    *("nan", "0", "1e9", "true", "null", "a,b", 'a"b', "a;b", "a|b", "a@1-2", "#", "?x=1", "&"),
)
_PIECES = (
    *("..", ".", "/", "\\", "\0", "\n", "\x1b", ":", " ", "~", "%", "@", ",", '"', "'", ".mp4"),
    *("\u0301", "\u202e", "\ufeff", "é", "日本", "\U0001f4a5", "a", "B", "0", "-", "_", "mmf.json"),
)
_NOT_IN_FILES = "/\0"
FILE_NAME_BYTES = 200  # of 255, for the extension and what a file system may add


def drawn(seed: int, count: int) -> list[str]:
    """So many different ids: the known ones first."""
    rng, found = random.Random(seed), dict.fromkeys(KNOWN)
    while len(found) < count:
        if rng.random() < 0.5:
            name = "".join(rng.choices(_PIECES, k=rng.randint(1, 12)))
        else:
            points = [rng.choice([rng.randrange(0x80), rng.randrange(0x110000)]) for _ in range(9)]
            name = "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)
        found[name] = None
    return list(found)[:count]


def names(folder: Path, setting: Setting) -> Found:
    """Ids through a store, then as many names of files through a job."""
    ids = drawn(setting.seed, SMALL if setting.small else FULL)
    (folder / "box").mkdir()
    found = Found(n=len(ids))
    found.faults += _through_a_store(folder / "box" / "ids.mmf", ids)
    files = _file_names(ids, setting.seed)
    found.n += len(files)
    found.faults += _through_a_job(folder / "box", files)
    there = {p.name for p in folder.iterdir()} | {p.name for p in (folder / "box").iterdir()}
    expected = {"box", "ids.mmf", "files", "files.mmf", "clip.mp4"}
    found.faults += [f"{name!r} lies outside of the store" for name in sorted(there - expected)]
    found.said = f"{len(ids)} ids, {len(files)} file names"
    return found


def _through_a_store(path: Path, ids: list[str]) -> list[str]:
    """Rows for one half, failures for the other, labels for all; read back and compared."""
    store = FeatureStore.create(path)
    done, failed = [i for i in ids[::2] if i], [i for i in ids[1::2] if i]
    store.add(F, [_track(name) for name in done])
    writer = store.writer()
    for name in failed:
        outcome = Outcome(video_id=name, status="failed", reason="not_media", message=name)
        writer.mark("f", outcome)
    writer.commit()
    store.label({name: [f"c{len(name) % 3}"] for name in done})
    store = FeatureStore(path)
    faults = [f"{p.path} {p.what}" for p in verify(path)]
    faults += [f"{n!r}: other rows" for n in done if not _equal(store, n)]
    blamed = [row["video_id"] for row in store.failures().to_pylist()]
    faults += [f"{n!r}: its failure is lost" for n in sorted({*failed} ^ {*blamed})]
    labelled = {item.video_id for item in store.items()}
    faults += [f"{n!r}: its label is lost" for n in sorted({*done} ^ labelled)]
    return faults + _inside(path)


def _track(name: str) -> Track:
    length = 1 + len(name) % 3
    values = np.full((length, 2), float(sum(map(ord, name)) % 1000), np.float32)
    return Track(video_id=name, values=values, times=np.arange(length))


def _equal(store: FeatureStore, name: str) -> bool:
    try:
        read = store.read("f", name)
    except MmfError:
        return False
    return read.video_id == name and np.array_equal(read.values, _track(name).values)


def _inside(root: Path) -> list[str]:
    """Files of the store that lie elsewhere."""
    faults = []
    for path in root.rglob("*"):
        if path.is_symlink() or root.resolve() not in path.resolve().parents:
            faults.append(f"{str(path)!r} is not inside of the store")
    return faults


def _file_names(ids: list[str], seed: int) -> list[bytes]:
    """Names that a file of this system can have: the ids', and some that are no text."""
    rng = random.Random(seed + 1)
    found = dict[bytes, None]()
    for name in ids:
        raw = "".join(c for c in name if c not in _NOT_IN_FILES).encode()
        if rng.random() < 0.2:
            raw += bytes(rng.choices(range(0x80, 0x100), k=3))
        found[raw[:FILE_NAME_BYTES].lstrip(b".") + b".mp4"] = None  # with a dot they are hidden
    found.pop(b".mp4", None)
    return list(found)


def _through_a_job(folder: Path, file_names: list[bytes]) -> list[str]:
    """Each name is an input, its id is the name, and it is done."""
    (folder / "files").mkdir()
    clip = make_clip(folder / "clip.mp4")
    faults, made = [], []
    for raw in file_names:
        try:
            os.link(clip, os.path.join(os.fsencode(folder / "files"), raw))
            made.append(raw)
        except FileExistsError:  # a file system without upper and lower case
            continue
    request = FeatureRequest(name="rgb", modality="rgb", backbone="hog")
    manifest = read_manifest(folder / "files")
    extract(manifest, folder / "files.mmf", [request], JobOptions(workers=1, max_failure_rate=1.0))
    store = FeatureStore(folder / "files.mmf")
    state = store.state("rgb")
    wanted = {raw.decode("utf-8", "backslashreplace") for raw in made}
    faults += [f"{n!r}: {state.get(n)}" for n in sorted(wanted) if state.get(n) != "done"]
    faults += [f"{n!r} is no file" for n in sorted(state.keys() - wanted)]
    return faults + [f"{p.path} {p.what}" for p in verify(store.path)]
