"""How fast is GMFlow over a video, against its official form pair by pair, and how exact?

    python benchmarks/flow.py --threads 2 --repeat 5 --exact
    python benchmarks/flow.py --official PATH_TO_UNIMATCH_OR_GMFLOW

`official` is the same network with the same weights as its authors' code computes it: the checkout
that --official names (haofeixu/gmflow or autonomousvision/unimatch), else the plain form that the
tests compare with. It runs pair by pair with all threads. `ours` is `Flow.sequence` over a video:
each frame encoded once, pairs side by side with one thread each. Milliseconds per frame are
medians, both measured in turns; the ratio is the median of theirs ÷ ours.

--exact adds the distance from the plain form in float64: the largest, the 99.9th percentile and the
mean, in pixels. The weights are random, which is badly conditioned: compare the two forms, not the
pixels. `limit` is the time that ours would take if every product ran at the rate of one large one,
measured beside; it says how near we are.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mmf.extract.flow import FlowSetup, open_flow
from mmf.extract.flow.gmflow_network import PUBLISHED, GMFlowNetwork, Published
from mmf.matmul import fast_matmul, onednn_is_exact

PLAIN = Path(__file__).parents[1] / "tests" / "extract" / "plain_gmflow.py"
GOALS = {
    ("scale1", 256, 256): 1.8,
    ("scale1", 480, 864): 2.3,
    ("scale2", 256, 256): 2.8,
    ("scale2", 480, 864): 2.4,
}
Form = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def video(height: int, width: int, frames: int) -> np.ndarray:
    """A moving texture with grain."""
    rng = np.random.default_rng(0)
    rows, columns = height // 8 + 16, width // 8 + 16
    texture = rng.integers(0, 256, (rows, columns, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    cuts = [texture[3 * i : 3 * i + height, 2 * i : 2 * i + width] for i in range(frames)]
    grain = rng.integers(-6, 7, (frames, height, width, 3), np.int16)
    return (np.stack(cuts) + grain).clip(0, 255).astype(np.uint8)


def plain_form(state: dict[str, torch.Tensor], published: Published) -> Form:
    spec = importlib.util.spec_from_file_location("plain_gmflow", PLAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda one, two: module.plain_flow(state, one, two, published.splits, published.steps)


def official_form(path: str, state: dict[str, torch.Tensor], published: Published) -> Form:
    """The authors' own module out of a checkout of theirs."""
    sys.path.insert(0, path)
    how = {"num_scales": len(published.splits), "upsample_factor": published.factor}
    if (Path(path) / "unimatch").is_dir():
        from unimatch.unimatch import UniMatch as Network  # type: ignore[import-not-found]

        how |= {"reg_refine": published.steps > 0}
    else:
        from gmflow.gmflow import GMFlow as Network  # type: ignore[import-not-found]
    network = Network(**how).eval()
    network.load_state_dict(state)
    return lambda one, two: network(
        one,
        two,
        attn_type="swin",
        attn_splits_list=published.splits,
        corr_radius_list=published.match,
        prop_radius_list=published.propagate,
        num_reg_refine=max(published.steps, 1),
        task="flow",
    )["flow_preds"][-1]


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def product_rate(threads: int) -> float:
    """Floating point operations per second of a large float32 product, all threads."""
    a, b = torch.randn(2048, 1024), torch.randn(1024, 1024)
    torch.set_num_threads(threads)
    with fast_matmul():
        times = [seconds(lambda: a @ b) for _ in range(20)]
    return 2 * 2048 * 1024 * 1024 / statistics.median(times)


def distance(flow: torch.Tensor, exact: torch.Tensor) -> str:
    off = (flow.double() - exact).abs().flatten()
    rank = max(1, round(0.999 * len(off)))
    return f"{off.max():.1e} {off.kthvalue(rank).values:.1e} {off.mean():.1e}"


@torch.inference_mode()
def measure(name: str, height: int, width: int, options: argparse.Namespace) -> None:
    published = PUBLISHED[name]
    torch.manual_seed(0)
    flow = open_flow(FlowSetup(name=f"gmflow:{name}", weights="random:0"))
    network: GMFlowNetwork = flow.network
    state = {k: v.detach() for k, v in network.state_dict().items()}
    official = (
        official_form(options.official, state, published)
        if options.official
        else plain_form(state, published)
    )
    frames = video(height, width, options.frames + 1)
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    threads = options.threads
    theirs, ours = [], []
    for repeat in range(options.repeat + 1):
        torch.set_num_threads(threads)
        pair = seconds(lambda: official(images[:1], images[1:2]))
        run = seconds(lambda: flow.sequence(frames))
        if repeat:  # the first is for warming up
            theirs.append(pair * 1e3)
            ours.append(run * 1e3 / (options.frames))
    ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
    limit = flow.flops(height, width) / product_rate(threads) * 1e3
    goal = GOALS.get((name, height, width))
    middle = statistics.median(ours)
    print(
        f"{name:7} {height}x{width}  {statistics.median(theirs):8.0f} {middle:8.0f} {ratio:6.2f} "
        f"{goal or '':>5} {limit:7.0f} {limit / middle:5.2f}",
        flush=True,
    )
    if options.exact:
        torch.set_num_threads(threads)
        double = plain_form({k: v.double() for k, v in state.items()}, published)
        exact = double(images[:1].double(), images[1:2].double())
        made = torch.from_numpy(flow.sequence(frames[:2])).permute(0, 3, 1, 2)
        print(f"    official: {distance(official(images[:1], images[1:2]), exact)}")
        print(f"    ours:     {distance(made, exact)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", metavar="PATH", help="a checkout of the authors' code")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8, help="pairs per measurement")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME-HEIGHT", help="e.g. scale1-256")
    options = parser.parse_args()
    about = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((x.split(":")[1].strip() for x in about if x.startswith("model name")), "?")
    products = "oneDNN" if onednn_is_exact() else "the default library"
    print(f"{cpu}, {options.threads} threads; torch {torch.__version__}; products by {products}")
    print("                  official     ours  ratio  goal   limit limit/ours   (ms per frame)")
    for name, height, width in GOALS:
        if not options.only or f"{name}-{height}" in options.only:
            measure(name, height, width, options)


if __name__ == "__main__":
    main()
