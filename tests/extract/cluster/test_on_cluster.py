"""Jobs on Dask clusters of real processes: what they make, and what is left where one is killed."""

import os
import signal
import socket
import threading
import time
from contextlib import suppress

import psutil
import pytest

from mmf import MmfError
from mmf.cluster import batch, connect, flight
from mmf.cluster.connect import connected
from mmf.cluster.profile import Profile
from mmf.cluster.settings import warn_of
from mmf.extract import FeatureRequest, JobOptions, extract
from mmf.extract.canary import FOLDER
from mmf.store import FeatureStore

REQUESTS = [
    FeatureRequest(name="rgb", modality="rgb", backbone="hog"),
    FeatureRequest(name="audio", modality="audio", backbone="logmel"),
]
LOCAL = JobOptions(cluster=Profile(scheduler="local", workers=2, bucket_seconds=0.5))


def below(pid, mark):
    """The processes that a process has started, whose command has this mark."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for one in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                if mark in " ".join(one.cmdline()):
                    found.append(one)
    return found


def committed(store, feature="rgb"):
    with suppress(Exception):  # it may not be there yet
        return len(FeatureStore(store).state(feature))
    return 0


@pytest.mark.parametrize(("kind", "submit"), [("slurm", "sbatch"), ("pbs", "qsub")])
def test_a_batch_system_that_is_not_here_is_said_at_once(kind, submit, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(MmfError, match=f"there is no {submit!r} on this machine"),
        connected(Profile(scheduler=kind)),
    ):
        pass


@pytest.mark.parametrize("kind", ["local", "slurm"])
def test_what_dask_does_not_know_is_said_in_a_sentence(
    kind, source, tmp_path, processes, monkeypatch
):
    (tmp_path / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    (tmp_path / "cluster.toml").write_text(f"[{kind}]\nquue = 'gpu'\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    words = ("--scheduler", kind, "--profile", str(tmp_path / "cluster.toml"))
    driver = processes.extract("driver", source, tmp_path / "s.mmf", *words)
    assert driver.wait(timeout=60) == 2
    said = processes.said("driver")
    assert f"scheduler '{kind}': Dask could not start its cluster: " in said
    assert f"argument 'quue'; see [{kind}] in the profile." in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("why", "said", "passes"),
    [
        (OSError(98, "Address already in use"), "Address already in use", True),
        (TimeoutError("timed out"), "timed out", True),
        (FileNotFoundError(2, "No such file or directory", "logs"), "No such file.*'logs'", False),
    ],
)
def test_what_may_pass_is_tried_again(why, said, passes, monkeypatch):
    def failing(profile, gpu):
        raise RuntimeError("Scheduler failed to start.") from why

    monkeypatch.setattr(connect, "_local", failing)
    with (
        pytest.raises(MmfError, match=f"failed to start: .*{said}") as raised,
        connected(Profile(scheduler="local", workers=1)),
    ):
        pass
    assert isinstance(raised.value, connect.TryAgain) == passes


def test_what_slurm_has_against_a_job_is_said_at_once(tmp_path, monkeypatch, caplog):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        '#!/bin/sh\ngrep -q "queue good" && exit 0\n'
        "echo 'error: invalid partition: nope' >&2\nexit 1\n"
    )
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    batch._ask_slurm("queue good")
    assert not caplog.text
    batch._ask_slurm("queue nope")
    assert "not take a worker's job now: error: invalid partition: nope." in caplog.text


def test_the_jobs_of_pbs_are_those_that_wait_or_run(tmp_path, monkeypatch):
    qstat = tmp_path / "qstat"
    qstat.write_text(
        """#!/bin/sh
cat <<END

pbs01:
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
1234.pbs01        mmf              ann               00:01:07 R workq
1235.pbs01        mmf              ann                      0 Q workq
1236.pbs01        mmf              ann               00:00:02 C workq
END
"""
    )
    qstat.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert batch._queued("pbs") == {"1234", "1235"}
    assert batch._queued("kubernetes") is None
    qstat.write_text("#!/bin/sh\necho '1234.pbs01 half an answer'\nexit 1\n")
    assert batch._queued("pbs") is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert batch._queued("pbs") is None


def test_a_result_that_its_worker_does_not_give_is_lost_and_the_next_one_comes(monkeypatch):
    monkeypatch.setattr(flight, "_ANSWER", 1.0)
    with connected(Profile(scheduler="local", workers=1)) as there:
        up = flight.Flight(there.client, gpu=False)
        (worker,) = there.client.run(os.getpid).values()
        up.send("first", abs, -1)
        finished = up.next(60)
        assert finished.status == "finished"
        os.kill(worker, signal.SIGSTOP)
        try:
            assert up.land(finished) == flight.Landed(one="first", result=None)
        finally:
            os.kill(worker, signal.SIGCONT)
        up.send("second", abs, -2)
        assert up.land(up.next(60)) == flight.Landed(one="second", result=2)


@pytest.mark.parametrize(
    ("system", "walltime", "seconds"),
    [
        ("slurm", "24:00:00", 86400),
        ("slurm", "90", 5400),
        ("slurm", "90:30", 5430),
        ("slurm", "2-12", 216000),
        ("slurm", "1-00:30", 88200),
        ("slurm", "1-01:01:01", 90061),
        ("slurm", "UNLIMITED", 0),
        ("slurm", "", 0),
        ("slurm", "-3", 0),
        ("slurm", "1:2:3:4", 0),
        ("pbs", "24:00:00", 86400),
        ("pbs", "5400", 5400),
        ("pbs", "90:30", 5430),
    ],
)
def test_workers_end_before_the_queue_ends_them(system, walltime, seconds):
    wanted = ["--lifetime", f"{seconds - 300}s", "--lifetime-stagger", "4m"] if seconds else []
    assert batch._lifetime(system, walltime) == wanted


def test_a_worker_whose_rows_are_others_is_refused_by_its_host_and_none_is_left(source, tmp_path):
    store = FeatureStore.create(tmp_path / "s.mmf")
    extract(source, store, REQUESTS, JobOptions(shard=(0, 1000)))  # makes the features alone
    array = store.stored("rgb").array
    other = {"rows": [[1.0] * 256] * 2, "host": "another-machine"}
    assert store.files.publish(store.files.root / FOLDER / array, other, after=0)
    with pytest.raises(MmfError, match="no worker is left.*the rows of mmf's known") as raised:
        extract(source, store, REQUESTS, LOCAL)
    assert f"on {socket.gethostname()!r}" in str(raised.value)
    assert "another-machine" in str(raised.value)
    assert committed(store.path) == 0


def test_weights_that_differ_on_one_worker_cost_that_worker_alone(
    source, tmp_path, processes, is_whole, caplog
):
    (tmp_path / "site").mkdir()
    # stands for other weights: on this worker, the network computes something else
    (tmp_path / "site/sitecustomize.py").write_text(
        "import sys\n"
        "if any('lane_process' in a for a in sys.orig_argv):\n"
        "    from mmf.extract import canary\n"
        "    before = canary.canary_rows\n"
        "    canary.canary_rows = lambda features: [rows + 9 for rows in before(features)]\n"
    )
    address = processes.scheduler(**processes.settings)
    processes.worker("one", address)
    store = tmp_path / "s.mmf"
    profile = Profile(scheduler=address, bucket_seconds=0.5, no_workers_timeout=60)
    some = JobOptions(cluster=profile, shard=(0, 4))
    assert extract(source, store, REQUESTS, some).exit_code == 0  # the first rows are kept
    processes.worker("other", address, PYTHONPATH=str(tmp_path / "site"))
    with connected(profile) as there:
        there.client.wait_for_workers(2, timeout=60)
    assert extract(source, store, REQUESTS, JobOptions(cluster=profile)).exit_code == 0
    assert f"a worker on {socket.gethostname()} is refused" in caplog.text
    assert "the rows of mmf's known clip are" in caplog.text
    assert is_whole(store)


def test_a_scheduler_with_other_settings_is_warned_of_by_their_names(processes, caplog):
    address = processes.scheduler()
    with connected(Profile(scheduler=address)):
        pass
    assert "distributed.scheduler.allowed-failures = 3; 0 is safe" in caplog.text
    assert "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=0" in caplog.text


def test_a_scheduler_with_the_settings_is_not_warned_of(processes, caplog):
    address = processes.scheduler(**processes.settings)
    with connected(Profile(scheduler=address)) as there:
        warn_of(there.client)
    assert "is safe" not in caplog.text


def test_a_local_cluster_makes_what_a_job_without_one_makes(source, tmp_path, is_whole):
    result = extract(source, tmp_path / "s.mmf", REQUESTS, LOCAL)
    assert (result.exit_code, result.tried, result.spent.lanes) == (0, 40, 2)
    assert is_whole(tmp_path / "s.mmf")


def test_a_local_cluster_listens_on_this_machine_alone():
    mine = psutil.Process()
    with connected(Profile(scheduler="local", workers=1)) as there:
        there.client.wait_for_workers(1, timeout=60)
        listening = [
            c.laddr.ip
            for process in [mine, *mine.children(recursive=True)]
            for c in process.net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        ]
        assert there.dashboard.startswith("http://127.0.0.1:")
    assert len(listening) >= 2
    assert set(listening) == {"127.0.0.1"}


def test_a_worker_and_a_lane_that_are_killed_cost_nothing_and_nobody_is_blamed(
    source, tmp_path, is_whole, eventually
):
    killed = []

    def kill():
        for mark in ("lane_process", "spawn_main"):
            there = eventually(lambda mark=mark: below(os.getpid(), mark))
            there[0].kill()
            killed.append(mark)

    killer = threading.Thread(target=kill)
    killer.start()
    result = extract(source, tmp_path / "s.mmf", REQUESTS, LOCAL)
    killer.join()
    assert len(killed) == 2
    assert (result.exit_code, result.failed) == (0, 0)
    assert is_whole(tmp_path / "s.mmf")


def test_sigterm_ends_a_job_with_75_and_the_same_command_goes_on(
    source, tmp_path, processes, is_whole, eventually
):
    store = tmp_path / "s.mmf"
    words = ("--scheduler", "local", "--workers", "1")
    driver = processes.extract("driver", source, store, *words)
    eventually(lambda: committed(store))
    driver.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert driver.wait(timeout=120) == 75, processes.said("driver")
    assert time.monotonic() - began < 25 * slowness()
    before = committed(store)
    assert before > 0
    again = processes.extract("again", source, store, *words)
    assert again.wait(timeout=200) == 0, processes.said("again")
    assert is_whole(store)


def slowness():
    """How much more is asked of this machine than it has."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_a_scheduler_that_is_killed_ends_the_job_with_the_way_on(
    source, tmp_path, processes, eventually
):
    store = tmp_path / "s.mmf"
    address = processes.scheduler(**processes.settings)
    scheduler = processes.started[-1]
    processes.worker("worker", address)
    driver = processes.extract("driver", source, store, "--scheduler", address)
    eventually(lambda: committed(store))
    scheduler.kill()
    assert driver.wait(timeout=120) == 75, processes.said("driver")
    assert "same command" in processes.said("driver")
    assert 0 < committed(store) <= 40
