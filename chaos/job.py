"""A job of commits, the life of a store after it, and what must hold of the store at any time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmf.chaos.strike import in_child
from mmf.store import FeatureSpec, FeatureStore, Outcome, Track
from mmf.store.compact import compact
from mmf.store.delete import delete
from mmf.store.gc import collect
from mmf.store.verify import verify

F = FeatureSpec(name="f", modality="rgb", shape=(6,), dtype="float32")
G = FeatureSpec(name="g", modality="audio", shape=(4,), dtype="uint8")
VIDEOS, BUCKET = 6, 2
PURGED = "v001"


def video(i: int, spec: FeatureSpec) -> Track:
    """What video number i has of a feature."""
    rng = np.random.default_rng(i)
    n = 5 + i % 7
    return Track(video_id=f"v{i:03}", values=rng.normal(size=(n, *spec.shape)), times=np.arange(n))


def commits(root: Path, videos: int = VIDEOS, bucket: int = BUCKET) -> None:
    """A job: what is not there yet, in buckets. Says in a file what was committed."""
    store = FeatureStore.create(root)
    for spec in (F, G):
        store.create_feature(spec)
    todo = [i for i in range(videos) if store.state("f").get(f"v{i:03}") != "done"]
    with open(root.with_suffix(".said"), "a", buffering=1) as said:
        for at in range(0, len(todo), bucket):
            writer = store.writer()
            try:
                for i in todo[at : at + bucket]:
                    for spec in (F, G):
                        writer.put(spec.name, video(i, spec))
                    writer.mark("g", Outcome(video_id=f"x{i}", status="skipped", reason="none"))
                writer.commit()
            except BaseException:
                writer.discard()
                raise
            said.write("".join(f"v{i:03}\n" for i in todo[at : at + bucket]))
    store.label({f"v{i:03}": ["a"] for i in range(videos)})


def life(root: Path) -> None:
    """What a store lives through after its jobs."""
    compact(root, ["f"])
    delete(root, [PURGED], purge=True)
    collect(root, grace_seconds=0)


def faults_of(root: Path, *, purging: bool = False) -> list[str]:
    """What is lost or torn in a store after a fault."""
    if not (root / "mmf.json").exists():
        return []
    store, found = FeatureStore(root), []
    said = root.with_suffix(".said")
    promised = set(said.read_text().split()) if said.exists() else set()
    for spec in (F, G):
        if spec.name not in store.features:
            continue
        state = store.state(spec.name)
        missing = {v for v in promised if v not in state} - ({PURGED} if purging else set())
        found += [f"{v} lost of {spec.name}" for v in sorted(missing)]
        for name, status in state.items():
            if status == "failed":
                found.append(f"{name} blamed")
            if status == "done":
                expected = spec.decode(spec.encode(video(int(name[1:]), spec).values))
                if not np.array_equal(store.read(spec.name, name).values, expected):
                    found.append(f"{name} torn")
    return found


def finished(root: Path, whole: str, work: Callable[[], None]) -> list[str]:
    """What is wrong after the same command has been run again."""
    code, text = in_child(work)
    if code:
        return [f"the rerun ended with {code}: {text}"]
    problems = [f"{p.path} {p.what}" for p in verify(root)]
    hashed = FeatureStore(root).content_hash()
    return problems + ([] if hashed == whole else ["another content than undisturbed"])
