"""SIGKILL of a worker that trains a run of a comparison, and of a training: the same table."""

import os
import threading
import time
from contextlib import suppress

import psutil

from mmf.cluster.connect import connected
from mmf.cluster.profile import Profile
from mmf.fuse import TrainConfig
from mmf.fuse.compare import table
from mmf.fuse.compare.comparison import compare
from mmf.fuse.compare.elsewhere import Elsewhere
from mmf.fuse.compare.grid import Axes, make_rows
from mmf.fuse.compare.question import Question

TIMES = ("seconds per epoch", "milliseconds per item", "bytes on disk")


def told(answers):
    """The table but for how long things took and how large they are, which vary."""
    return [{k: v for k, v in table.numbers(a).items() if k not in TIMES} for a in answers]


def trainings():
    """The processes that train now, once they have begun: their run's folder is there."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "mmf.fuse.compare.training_process" in one.cmdline():
                found.append(one)
    return found


def kill_both(out, killed):
    """The worker of one training, then another training alone."""
    deadline = time.monotonic() + 120
    for what in ("worker", "training"):
        while time.monotonic() < deadline:
            begun = list((out / "runs").glob("*/*/config.json"))
            there = [one for one in trainings() if one.pid not in killed] if begun else []
            if there:
                with suppress(psutil.Error):
                    process = there[0].parent() if what == "worker" else there[0]
                    process.kill()
                    killed[process.pid] = what
                    killed[there[0].pid] = what
                    break
            time.sleep(0.02)


def test_what_is_lost_with_a_worker_or_a_training_is_trained_again_to_the_same_table(
    xor_store, tmp_path
):
    base = TrainConfig(store=xor_store.path, epochs=20, batch_size=16, device="cpu")
    rows = make_rows(base, Axes(fusions=("concat", "mfb"), feature_sets=(("a", "b"),)), {}, {})
    question = Question(rows=rows, seeds=1)
    undisturbed = compare(question, tmp_path / "whole")
    killed = {}
    killer = threading.Thread(target=kill_both, args=(tmp_path / "killed", killed))
    profile = Profile(scheduler="local", workers=2)
    with connected(profile) as there:
        trainer = Elsewhere(there, profile)
        killer.start()
        disturbed = compare(question, tmp_path / "killed", trainer=trainer)
        killer.join()
        handed_out = trainer._flight._number
    assert sorted(killed.values()) == ["training", "worker", "worker"]
    assert os.getpid() not in killed
    assert handed_out >= 2 + 2  # two runs were lost
    assert told(disturbed) == told(undisturbed)
