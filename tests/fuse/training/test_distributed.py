"""Several processes learn what one does."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import TrainConfig, train
from mmf.fuse.data import inputs
from mmf.fuse.synthetic import make
from mmf.fuse.training import checkpoint, loop
from mmf.fuse.training.distributed import World, joined
from mmf.fuse.training.start import begun, prepared, training_loader
from mmf.store import FeatureSpec, Track

TWICE = """
import os, signal, sys
from dataclasses import replace
from mmf.fuse import Interrupted, TrainConfig, train

config = TrainConfig.read(sys.argv[1])
train(replace(config, out=sys.argv[2]))

def stop(told):
    if told["step"] == 7:
        os.kill(os.getpid(), signal.SIGTERM)

try:
    train(replace(config, out=sys.argv[3]), on_step=stop)
except Interrupted as error:
    sys.exit(0 if "after step 8" in str(error) else f"stopped elsewhere: {error}")
sys.exit("it was not stopped")
"""

STEPS = """
import sys, threading
import torch
from mmf.fuse import TrainConfig
from mmf.fuse.training.distributed import joined
from mmf.fuse.training.loop import batches_of
from mmf.fuse.training.meter import Meter
from mmf.fuse.training.resume import State
from mmf.fuse.training.start import begun, prepared, training_loader
from mmf.fuse.training.step import learn
from mmf.store import FeatureStore

for path in sys.argv[1:]:
    config = TrainConfig.read(path)
    with joined() as world:
        store, state = FeatureStore(config.store), State()
        run, plan = begun(config, store, world)
        what = prepared(run, plan, store, world)
        loader = training_loader(store, plan, config, world, by_video=False)
        batches = batches_of(loader, state, what, Meter())
        for state.step in range(3):
            learn(what, next(batches), state, threading.Event())
            torch.save(what.network.state_dict(), f"{path}.{world.rank}.{state.step}")
        batches.close()
"""

WATCHED = """
import sys
import torch
from mmf.fuse import TrainConfig, train
from mmf.fuse.training import loop

learn = loop.learn

def watching(what, batches, state, stop):
    learned = learn(what, batches, state, stop)
    kept = f"{what.run.path}.{what.world.rank}.{state.step}"
    torch.save((what.stage(state.step).name, what.network.state_dict()), kept)
    return learned

loop.learn = watching
for path in sys.argv[1:]:
    train(TrainConfig.read(path))
"""

PARTING = """
import atexit, os, sys
from pathlib import Path

@atexit.register  # before anyone else: it is called last
def at_the_end():
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    Path(f"{sys.argv[1]}.{os.environ['RANK']}").write_text(" ".join(threads))

from mmf.fuse.training.distributed import joined

with joined() as world:
    world.sum([1.0])
from transformers import BertModel  # binds the world as a default, wherever it can
"""


@pytest.fixture
def config(xor_store) -> TrainConfig:
    """Batches of 8 of 36 items: the last one has 4; no dropout, which differs by process."""
    return TrainConfig(
        store=xor_store.path,
        fusion="mfb",
        fusion_options={"outputs": 16, "dropout": 0.0},
        dropout=0.0,
        epochs=3,
        batch_size=8,
        lr=1e-3,
        sample="frames",
        max_steps=5,
        modality_dropout=0.2,
        ema=0.9,
        device="cpu",
    )


def best(run: Path) -> dict[str, torch.Tensor]:
    path, _ = checkpoint.newest(run / "checkpoints")
    return checkpoint.load_tensors(path, "network") | {
        f"average {n}": x for n, x in checkpoint.load_tensors(path, "average").items()
    }


def under_torchrun(folder: Path, script: str, *told: str) -> None:
    (folder / "script.py").write_text(script)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [sys.executable, *launch, str(folder / "script.py"), *told]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def near(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(a[n], b[n], rtol=1e-4, atol=1e-6) for n in a)


def test_a_batch_that_cannot_be_divided_is_refused(config, xor_store):
    with pytest.raises(MmfError, match="batch of 8 items cannot be divided .* 3 processes"):
        begun(config, xor_store, World(size=3))


def test_alone_nothing_is_asked_of_others(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as world:
        assert (world.first, world.size) == (True, 1)
        assert world.sum([1.0, 2.5]) == [1.0, 2.5]
        assert world.gathered("x") == ["x"]


def test_two_processes_learn_what_one_does_and_one_can_go_on_for_them(config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_json()))
    under_torchrun(tmp_path, TWICE, str(path), str(tmp_path / "both"), str(tmp_path / "stopped"))
    alone = train(replace(config, out=tmp_path / "alone"))
    wanted = best(alone)
    assert near(best(tmp_path / "both"), wanted)
    state = checkpoint.newest(tmp_path / "stopped" / "checkpoints")[1]
    assert (state["epoch"], state["batch"], state["step"]) == (1, 3, 8)
    assert not near(best(tmp_path / "stopped"), wanted)
    train(replace(config, out=tmp_path / "stopped"), resume=True)
    assert near(best(tmp_path / "stopped"), wanted)
    rows = [(run / "metrics.jsonl").read_text() for run in (alone, tmp_path / "both")]
    assert [len(r.splitlines()) for r in rows] == [3, 3]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed in /proc")
def test_processes_part_before_they_end(tmp_path):
    """A thread of the world that outlives it may abort the process as Python ends."""
    under_torchrun(tmp_path, PARTING, str(tmp_path / "threads"))
    for rank in range(2):
        assert "gloo" not in (tmp_path / f"threads.{rank}").read_text()


def test_batch_statistics_are_the_mean_of_the_processes_and_frozen_weights_of_a_text_stay(
    config, xor_store, make_bert, tmp_path
):
    """Each process normalises its own part; one that learns from words sends what learns."""
    fusion = {"fusion": "concat", "fusion_options": {}, "modality_dropout": 0.0, "sample": "even"}
    words = FeatureSpec(name="words", modality="text", shape=(6,), dtype="int32")
    row = np.array([[101, 20, 21, 22, 102, -1]])
    xor_store.add(words, (Track(video_id=f"v{i:02}", values=row, times=[0]) for i in range(60)))
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    normed = replace(config, **fusion, aggregate="dbof", features=("a",), out=tmp_path / "normed")
    text = replace(config, **fusion, text=str(make_bert(**still)), out=tmp_path / "text")
    for one in (normed, text):
        Path(f"{one.out}.json").write_text(json.dumps(one.to_json()))
    under_torchrun(tmp_path, STEPS, f"{normed.out}.json", f"{text.out}.json")

    def state(one: TrainConfig, rank: int, step: int) -> dict[str, torch.Tensor]:
        return torch.load(f"{one.out}.json.{rank}.{step}")

    for one in (normed, text):
        first, second = state(one, 0, 2), state(one, 1, 2)
        assert all(torch.equal(first[n], second[n]) for n in first if "_extra" not in n)
        assert not all(torch.equal(first[n], x) for n, x in state(one, 0, 0).items())
    found, parts = state(normed, 0, 0), []
    for rank in range(2):
        world = World(rank=rank, size=2)
        run, plan = begun(replace(normed, out=tmp_path / f"again {rank}"), xor_store, World())
        what = prepared(run, plan, xor_store, World())
        loader = training_loader(xor_store, plan, normed, world, by_video=False)
        with closing(loader.epoch(0)) as coming:
            batch = inputs(next(coming), run.specs, torch.device("cpu"))
        what.network.train()(batch.features, batch.masks, batch.videos)
        parts.append(what.network.state_dict())
    names = [n for n in found if n.endswith((".mean", ".var"))]
    assert not all(torch.allclose(parts[0][n], parts[1][n], atol=1e-3) for n in names)
    for name in names:
        assert torch.allclose(found[name], (parts[0][name] + parts[1][name]) / 2, atol=1e-6)


@pytest.fixture
def staged(small_segments, tmp_path) -> dict[str, TrainConfig]:
    """Fusions that decide, on 20 items in batches of 8: the last one has 4."""
    store = make(replace(small_segments, train=20), tmp_path / "made")
    epochs = {"single": 1, "warm_up": 1, "alternate": 2, "tune": 1}
    options = {
        "policy": {"layers": [16], "hidden": 8, "cost": 0.3, "epochs": epochs},
        "lite_eval": {"clues": ["audio"], "coarse": 8, "fine": 16},
    }
    return {
        name: TrainConfig(
            store=store.path,
            out=tmp_path / name,
            fusion=name,
            fusion_options={"segments": 5, **its},
            epochs=None if name == "policy" else 2,
            batch_size=8,
            lr=1e-2,
            dropout=0.0,
            modality_dropout=0.3,
            ema=0.9,
            device="cpu",
        )
        for name, its in options.items()
    }


def test_a_policy_learns_in_two_processes_what_it_does_in_one_in_every_stage(
    staged, tmp_path, monkeypatch
):
    """Decisions are drawn for an item, wherever it is; LiteEval's share is that of a process."""
    told = [f"{one.out}.json" for one in staged.values()]
    for path, one in zip(told, staged.values(), strict=True):
        Path(path).write_text(json.dumps(one.to_json()))
    under_torchrun(tmp_path, WATCHED, *told)
    wanted, learn = [], loop.learn

    def watching(what, batches, state, stop):
        learned = learn(what, batches, state, stop)
        tensors = {n: x.clone() for n, x in what.network.state_dict().items()}
        wanted.append((what.stage(state.step).name, tensors))
        return learned

    monkeypatch.setattr(loop, "learn", watching)
    train(replace(staged["policy"], out=tmp_path / "alone"))
    assert [name for name, _ in wanted[::3]] == ["single", "warm_up", *["alternate"] * 4, "tune"]
    for name, steps in (("policy", 21), ("lite_eval", 6)):
        for step in range(steps):
            (stage, first), (_, second) = (
                torch.load(f"{tmp_path / name}.{rank}.{step}") for rank in range(2)
            )
            assert all(torch.equal(first[n], x) for n, x in second.items()), f"{name} {step}"
            if name == "policy":
                assert stage == wanted[step][0]
                assert near(first, wanted[step][1]), f"{stage}, step {step}"
    averages = [best(tmp_path / name) for name in ("policy", "alone")]
    assert near(*averages)
