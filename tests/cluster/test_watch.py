"""What is said of a cluster while a job waits for it."""

from types import SimpleNamespace

from mmf.cluster import watch as watch_module
from mmf.cluster.connect import Connection
from mmf.cluster.profile import Profile
from mmf.cluster.watch import ClusterSeen, Watch
from mmf.commands.extract_report import Progress


def worker(moved, *, busy=1):
    metrics = {"mmf_moved": moved, "mmf_through": moved // 2, "task_counts": {"executing": busy}}
    return {"resources": {}, "metrics": metrics}


def test_a_busy_worker_that_does_not_move_is_named_and_an_idle_one_is_not(monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(watch_module, "time", clock)
    answers = {}
    client = SimpleNamespace(
        sync=lambda _, callback_timeout: {"workers": answers}, status="running"
    )
    client.scheduler = SimpleNamespace(identity=None)
    watch = Watch(
        Connection(client=client, scale=None, workers=0), Profile(scheduler="local"), gpu=False
    )
    assert watch.news() is None
    for clock.now in (10.0, 50.0, 90.0):
        moves = int(clock.now)
        answers.update(a=worker(moves), b=worker(4), c=worker(6, busy=0))
        watch.look(busy=True)
    assert watch.news() == ClusterSeen(
        workers=3, through={"a": 45, "b": 2, "c": 3}, still={"b": 80.0}
    )
    assert watch.news() is None


def test_progress_shows_the_workers_and_the_one_that_hangs(capsys, monkeypatch):
    monkeypatch.setattr("mmf.commands.extract_report.EVERY_SECONDS", -1.0)
    with Progress() as progress:
        progress(SimpleNamespace(todo=9))
        progress(SimpleNamespace(dashboard="http://here:8787/status"))
        progress(ClusterSeen(workers=2, through={"a": 3, "b": 9}, still={"a": 75.0}))
    dashboard, line = capsys.readouterr().err.splitlines()
    assert dashboard == "mmf: what the cluster does: http://here:8787/status"
    assert "0 failed · 2 workers (3 to 9 videos each) · a not moving for 75 s" in line
