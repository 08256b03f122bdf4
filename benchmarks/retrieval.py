"""Are frames of one clip nearer to each other than to other clips'? A table over real clips.

    python benchmarks/retrieval.py ../shared/data/videos --weights mobilenet_v2.safetensors

Every clip with at least MIN_FRAMES rows is extracted; for each frame the nearest frame by cosine is
looked for among all others. `same clip` is the share whose nearest is of the same clip, beside what
chance would give; the two cosines are means over pairs within a clip and between clips.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from mmf.extract import FeatureRequest, JobOptions, extract
from mmf.store import FeatureStore

MIN_FRAMES = 4


def table(folder: Path, requests: list[FeatureRequest]) -> list[tuple[str | int | float, ...]]:
    """For each feature: its name, clips, frames, same clip, chance, cosine within, between."""
    found = []
    with tempfile.TemporaryDirectory() as out:
        extract(folder, Path(out) / "s.mmf", requests, JobOptions())
        store = FeatureStore(Path(out) / "s.mmf")
        for request in requests:
            done = sorted(v for v, s in store.state(request.name).items() if s == "done")
            tracks = [store.read(request.name, video) for video in done]
            tracks = [track for track in tracks if len(track) >= MIN_FRAMES]
            clip = np.repeat(np.arange(len(tracks)), [len(track) for track in tracks])
            rows = np.concatenate([track.values for track in tracks]).astype(np.float64)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            cosine, same = rows @ rows.T, clip[:, None] == clip
            np.fill_diagonal(same, False)
            other = clip[:, None] != clip
            nearest = np.where(np.eye(len(rows), dtype=bool), -np.inf, cosine).argmax(axis=1)
            right, chance = (clip[nearest] == clip).mean(), same.sum() / (same | other).sum()
            means = cosine[same].mean(), cosine[other].mean()
            found.append((request.name, len(tracks), len(rows), right, chance, *means))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", required=True, help="of MobileNetV2")
    options = parser.parse_args()
    given = {"mobilenet_v2, ImageNet": options.weights, "mobilenet_v2, random": "random:0"}
    requests = [
        FeatureRequest(
            name=f"f{n}", modality="rgb", backbone="mobilenet_v2", weights=weights, fps=2.0
        )
        for n, weights in enumerate(given.values())
    ]
    print("| features | clips | frames | same clip | chance | cosine within | between |")
    print("|---|---|---|---|---|---|---|")
    for name, row in zip(given, table(options.folder, requests), strict=True):
        shown = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row[1:]]
        print(f"| {name} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
