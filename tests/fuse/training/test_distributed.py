"""Several processes learn what one does."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmf import MmfError
from mmf.fuse import TrainConfig, train
from mmf.fuse.training import checkpoint
from mmf.fuse.training.distributed import World, joined
from mmf.fuse.training.start import begun

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
    (tmp_path / "twice.py").write_text(TWICE)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    places = [str(path), str(tmp_path / "both"), str(tmp_path / "stopped")]
    command = [sys.executable, *launch, str(tmp_path / "twice.py"), *places]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
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
