"""`mmf status --watch`: what comes into a store while others fill it."""

import json
import signal
import subprocess
import sys
import time
from datetime import datetime

import numpy as np
import pytest

from mmf import MmfError, cli
from mmf.commands import watching
from mmf.commands.watching import watch_store
from mmf.store import FeatureSpec, FeatureStore, Track

SPEC = FeatureSpec(name="rgb", modality="rgb", shape=(2,), dtype="float32")


def add(path, *videos):
    """Commit as another process would."""
    tracks = [Track(video_id=v, values=np.zeros((1, 2)), times=[0.0]) for v in videos]
    FeatureStore(path).add(SPEC, tracks)


@pytest.fixture
def path(tmp_path):
    FeatureStore.create(tmp_path / "features.mmf")
    return tmp_path / "features.mmf"


def test_failures_and_watch_exclude_each_other(path):
    with pytest.raises(MmfError, match="leave --failures out"):
        cli.cli.main(["status", str(path), "--watch", "--failures"], standalone_mode=False)


def test_a_look_shows_what_others_committed_since_and_how_fast(path, capsys):
    coming = iter([["a"], ["b", "c"]])
    store, began = FeatureStore(path), time.time()
    code = watch_store(store, as_json=True, looks=3, wait=lambda _: add(path, *next(coming)))
    assert code == 0
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [look["features"].get("rgb", {}).get("done") for look in looks] == [None, 1, 3]
    assert looks[0]["last_commit"] is None
    last = looks[2]["features"]["rgb"]
    assert last.pop("per_minute") > 0
    assert last == {"done": 3, "failed": 0, "skipped": 0}
    committed = datetime.fromisoformat(looks[2]["last_commit"]).timestamp()
    assert began - 2 < committed < time.time() + 2


def test_a_rate_is_of_the_last_looks_alone():
    rates = watching._Rates()
    assert rates.add(-60.0, {}) == {}
    assert rates.add(-30.0, {"rgb": 4}) == {"rgb": 8.0}
    for look in range(30):
        found = rates.add(look * 5.0, {"rgb": min(look, 10)})
    assert found == {"rgb": 0.0}


def test_without_a_terminal_it_is_a_line_every_so_often(path, capsys):
    add(path, "a")
    waits = []
    watch_store(FeatureStore(path), as_json=False, looks=2, wait=waits.append)
    first, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("rgb 1 done + 0 failed + 0 skipped, 0 a minute · at ")
    assert waits == [10.0]


def test_on_a_terminal_it_is_a_table_in_its_place(path, capsys, monkeypatch):
    add(path, "a")
    monkeypatch.setattr(watching.sys.stdout, "isatty", lambda: True, raising=False)
    watch_store(FeatureStore(path), as_json=False, looks=2, wait=lambda _: None)
    assert "videos a minute" in capsys.readouterr().out


def test_interrupted_it_ends_without_a_complaint(path):
    add(path, "a")
    line = [sys.executable, "-m", "mmf.cli", "status", str(path), "--watch", "--json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert json.loads(run.stdout.readline())["features"]["rgb"]["done"] == 1
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (130, "")
