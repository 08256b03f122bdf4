"""Trial `poison`: files that break the process which decodes them, among good ones.

The decoder's process is `mmf.chaos.poisoned_child`, which crashes, hangs or swells where a file's
name says so; all else is what `mmf extract` runs. Exactly the poisoned ones are to fail, each with
the reason of its kind, and the good ones are to have the rows of the clip that they all are.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmf.chaos.media import make_clip
from mmf.chaos.mutated import said
from mmf.chaos.poisoned_child import KINDS, PREFIX
from mmf.chaos.trial import Found, Setting
from mmf.extract import FeatureRequest
from mmf.extract.decoder.parent import Decoder
from mmf.extract.lanes import Work, run_here
from mmf.extract.manifest import Input
from mmf.extract.media.opening import Limits
from mmf.extract.pipeline import Feature, Task
from mmf.extract.recipe import build, spec
from mmf.extract.signals import Signal
from mmf.extract.stopping import Stop
from mmf.store import FeatureStore
from mmf.store.verify import verify

SMALL, FULL = (10, 500), (100, 5_000)  # poisoned ones of so many
LIMITS = Limits(timeout=2.0, timeout_per_second=0.0, memory_bytes=2 << 30)


@dataclass(frozen=True, kw_only=True)
class _Impatient(Work):
    """The usual work, with limits that the trial need not wait half a minute for."""

    def decoder(self, signals: Sequence[Signal]) -> Decoder:
        return Decoder(signals, limits=LIMITS)


@contextmanager
def poisoned_children() -> Iterator[None]:
    """Within it, decoders start the process that breaks."""
    before = os.environ.get("MMF_CHAOS")
    os.environ["MMF_CHAOS"] = "poison"
    try:
        yield
    finally:
        del os.environ["MMF_CHAOS"]
        if before is not None:
            os.environ["MMF_CHAOS"] = before


def poison(folder: Path, setting: Setting) -> Found:
    """Poisoned files among good ones through a lane."""
    poisoned, count = SMALL if setting.small else FULL
    paths = list(make_files(folder, poisoned, count, setting.seed))
    request = FeatureRequest(name="rgb", modality="rgb", backbone="hog", fps=4.0)
    backbone = build(request, device="cpu")
    store = FeatureStore.create(folder / "poison.mmf")
    features = [Feature(spec=store.create_feature(spec(request, backbone)), backbone=backbone)]
    work = _Impatient(store=str(store.path), requests=(request,))
    tasks = [Task(source=Input(video_id=path.name, path=str(path))) for path in paths]
    with poisoned_children(), Stop() as stop:
        run_here(work, features, tasks, lambda _: None, stop)
    store = FeatureStore(store.path)
    faults = [*blamed(store, paths), *_other_rows(store)]
    faults += [f"{p.path} {p.what}" for p in verify(store.path)]
    reasons = Counter(row["reason"] for row in store.failures().to_pylist())
    return Found(n=count, faults=faults, said=said(count, reasons))


def make_files(folder: Path, poisoned: int, count: int, seed: int) -> Iterator[Path]:
    """So many files, all the same clip, of which so many are called poisoned, each kind in turn."""
    (folder / "files").mkdir()
    content = make_clip(folder / "clip.mp4").read_bytes()
    drawn = sorted(random.Random(seed).sample(range(count), poisoned))
    kinds = {i: list(KINDS)[n % len(KINDS)] for n, i in enumerate(drawn)}
    for i in range(count):
        name = f"{PREFIX}{kinds[i]}-{i:05}.mp4" if i in kinds else f"good-{i:05}.mp4"
        path = folder / "files" / name
        path.write_bytes(content)
        yield path


def blamed(store: FeatureStore, paths: Sequence[Path]) -> list[str]:
    """Innocents that failed, and poisoned ones that did not, or of something else."""
    expected = {path.name: expected_of(path) for path in paths}
    failed = {row["video_id"]: row["reason"] for row in store.failures().to_pylist()}
    state = store.state("rgb")
    found = {name: failed.get(name, state.get(name, "missing")) for name in expected}
    return [f"{n}: {found[n]}, not {what}" for n, what in expected.items() if found[n] != what]


def expected_of(path: Path) -> str:
    """What is to become of the file: `done`, or the reason of its failure."""
    if not path.name.startswith(PREFIX):
        return "done"
    return KINDS[path.name.removeprefix(PREFIX).split("-")[0]][1]


def _other_rows(store: FeatureStore) -> list[str]:
    """Good ones whose rows are not those of the first: they are all one clip."""
    done = [name for name, status in store.state("rgb").items() if status == "done"]
    if not done:
        return ["nothing was done"]
    first = store.read("rgb", done[0])
    return [
        f"{name}: other rows"
        for name in done[1:]
        if not np.array_equal(store.read("rgb", name).values, first.values)
    ]
