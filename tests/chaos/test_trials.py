"""Small forms of the trials, as `mmf chaos` runs them, and that they can find a fault."""

import os
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mmf import UnknownName
from mmf.chaos import mutated as mutated_module
from mmf.chaos import poison as poison_module
from mmf.chaos.names import drawn
from mmf.chaos.opened import Opened
from mmf.chaos.poison import blamed, make_files, poison
from mmf.chaos.trial import Found, Setting
from mmf.chaos.trials import TRIALS, run
from mmf.chaos.tricks import _Traps
from mmf.cli import cli
from mmf.store import FeatureSpec, FeatureStore, Outcome

FORKING = ("points", "errno", "racing", "reading", "flips")
SMALL = Setting(small=True)


def test_an_unknown_trial_says_which_exist():
    with pytest.raises(UnknownName, match="unknown trial 'flip'.*flips"):
        list(run(SMALL, ["flip"]))


def test_a_folder_that_is_not_empty_is_not_written_to(tmp_path):
    (tmp_path / "mine").touch()
    done = CliRunner().invoke(cli, ["chaos", "--out", str(tmp_path), "--only", "flips"])
    assert "is there and not empty" in str(done.exception)


def test_a_fault_is_told_with_its_seed_and_gives_exit_code_1(monkeypatch):
    monkeypatch.setitem(TRIALS, "flips", lambda *_: Found(n=3, faults=["a \x1b[2J tear"]))
    done = CliRunner().invoke(
        cli, ["chaos", "--only", "flips", "--seed", "7"], standalone_mode=False
    )
    assert done.return_value == 1
    assert "  flips, seed 7: a \N{REPLACEMENT CHARACTER}[2J tear" in done.output


@pytest.mark.parametrize("trial", FORKING)
def test_no_fault_loses_doubles_or_tears_anything(trial):
    # in a process of its own: it forks, and tests load libraries that have threads
    command = [sys.executable, "-m", "mmf.cli", "chaos", "--small", "--only", trial]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{trial}: 0 faults in " in done.stdout


@pytest.mark.parametrize("trial", ["tricks", "names", "mutated"])
def test_no_input_costs_another_or_reaches_beyond_itself(trial, monkeypatch, tmp_path):
    monkeypatch.setattr(mutated_module, "SMALL", 200)
    (tried,) = run(SMALL, [trial], tmp_path / "out")
    assert tried.found.faults == []
    assert tried.found.n >= 100


def test_poison_fails_alone_and_for_its_own_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(poison_module, "SMALL", (4, 60))
    found = poison(tmp_path, SMALL)
    assert found.faults == []
    assert (found.n, found.bound) == (60, 0.05)
    assert "MMF_CHAOS" not in os.environ


def test_an_innocent_that_is_blamed_is_a_fault(tmp_path):
    paths = list(make_files(tmp_path, 2, 5, seed=0))
    store = FeatureStore.create(tmp_path / "s.mmf")
    store.create_feature(FeatureSpec(name="rgb", modality="rgb", shape=(1,), dtype="float32"))
    writer = store.writer()
    for path in paths:
        outcome = Outcome(video_id=path.name, status="failed", reason="signal_11", message="x")
        writer.mark("rgb", outcome)
    writer.commit()
    faults = blamed(FeatureStore(store.path), paths)
    assert sum(fault.endswith("signal_11, not done") for fault in faults) == 3


def test_a_file_that_is_opened_and_a_server_that_is_reached_are_noticed(tmp_path):
    path = tmp_path / "secret"
    path.touch()
    with _Traps() as traps, Opened([path]) as opened:
        path.read_bytes()
        with socket.create_connection(("127.0.0.1", traps.port)):
            traps.look_at(os.getpid())
    if sys.platform == "linux":
        assert opened.paths == [str(path)]
        assert traps.sockets
    assert traps.hits == 1


def test_names_are_the_same_for_a_seed_and_different():
    assert drawn(3, 400) == drawn(3, 400) != drawn(4, 400)
    assert len(set(drawn(3, 400))) == 400
