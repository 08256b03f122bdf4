"""Frames per second against video_features: ResNet-34, every frame, the same clips, two threads.

    python benchmarks/video_features.py --repository VIDEO_FEATURES [--python ITS_PYTHON]

github.com/v-iashin/video_features decodes with OpenCV frame by frame, transforms with PIL, and
batches within a video, one video after the other. Its own extractor is run in a process of its own
at several batch sizes, with torch's threads set to the cores; the clips that warm it up are not
counted. Then `mmf extract` runs on the same clips, one lane per core, counted from when a tenth of
the clips has ended. Both have random weights, kept where torch's hub would have put the real ones.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision

from mmf.extract import FeatureRequest, JobOptions, VideoEnded, extract
from mmf.extract.sample_set import FPS, SECONDS, make_sample_set

CHECKPOINT = "hub/checkpoints/resnet34-b627a593.pth"
BATCHES = (1, 8, 32)
WARM = 2  # clips
# in the process of video_features: THREADS BATCH OUT CLIP…
THEIRS = """
import sys, time, torch
from omegaconf import OmegaConf
from models.resnet.extract_resnet import ExtractResNet
threads, batch, out, *clips = sys.argv[1:]
torch.set_num_threads(int(threads))
options = OmegaConf.load("configs/resnet.yml")
options.update(model_name="resnet34", device="cpu", batch_size=int(batch), output_path=out,
               tmp_path=out, on_extraction="save_numpy")
extractor = ExtractResNet(options)
warm = WARM
for clip in clips[:warm]:
    extractor._extract(clip)
began = time.perf_counter()
for clip in clips[warm:]:
    extractor._extract(clip)
print("seconds", time.perf_counter() - began)
"""


def theirs(options: argparse.Namespace, clips: list[Path], batch: int, home: Path) -> float:
    """Frames per second of video_features at one batch size."""
    threads = str(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as out:
        run = subprocess.run(
            [options.python, "-c", THEIRS.replace("WARM", str(WARM), 1), threads, str(batch), out]
            + [str(clip) for clip in clips],
            cwd=options.repository,
            env={**os.environ, "TORCH_HOME": str(home), "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
        )
        written = len(list(Path(out).rglob("*_resnet.npy")))
    if run.returncode or written != len(clips):
        sys.exit(f"video_features wrote {written} of {len(clips)} features:\n{run.stderr[-2000:]}")
    seconds = float(run.stdout.rpartition("seconds")[2])
    return (len(clips) - WARM) * FPS * SECONDS / seconds


def ours(folder: Path, clips: int, precision: str, weights: Path) -> float:
    """Frames per second of mmf, every frame a row."""
    ended: list[float] = []

    def note(event: object) -> None:
        if isinstance(event, VideoEnded):
            ended.append(time.perf_counter())

    request = FeatureRequest(
        name="rgb",
        modality="rgb",
        backbone="resnet34",
        weights=str(weights),
        fps=float(FPS),
        precision=precision,
    )
    with tempfile.TemporaryDirectory() as out:
        cores = len(os.sched_getaffinity(0))
        result = extract(folder, Path(out) / "s.mmf", [request], JobOptions(workers=cores), note)
    if result.counts["rgb"].done != clips:
        sys.exit(f"not every clip is done: {result}")
    warm = max(1, clips // 10)
    return (clips - warm) * FPS * SECONDS / (ended[-1] - ended[warm - 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", required=True, help="a clone of video_features")
    parser.add_argument("--python", default=sys.executable, help="that has what it imports")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"{options.clips} clips of {FPS * SECONDS} frames; torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder, home = Path(temporary) / "clips", Path(temporary) / "torch"
        clips = sorted(make_sample_set(folder, clips=options.clips).rglob("*.mp4"))
        weights = home / CHECKPOINT
        weights.parent.mkdir(parents=True)
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet34().state_dict(), weights)
        runs: dict[str, list[float]] = {}
        for _ in range(options.repeat):
            for batch in BATCHES:
                name = f"video_features, batch {batch}"
                runs.setdefault(name, []).append(theirs(options, clips, batch, home))
                print(f"{name:28} {runs[name][-1]:7.1f} frames/s", flush=True)
            for precision in ("fp32", "bf16"):
                name = f"mmf, {precision}"
                runs.setdefault(name, []).append(ours(folder, len(clips), precision, weights))
                print(f"{name:28} {runs[name][-1]:7.1f} frames/s", flush=True)
    best = max(statistics.median(runs[f"video_features, batch {b}"]) for b in BATCHES)
    print("| | frames/s, median | ÷ video_features' best |\n|---|---|---|")
    for name, values in runs.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.1f} | {median / best:.2f} |")


if __name__ == "__main__":
    main()
