"""Jobs on a real SLURM, which is started for these tests on this machine.

Those of PBS go to it too, by the qsub, qdel and qstat that SLURM has for users of PBS.
"""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmf.cluster import batch, watch
from mmf.cluster.profile import read_profile
from mmf.extract import FeatureRequest, JobOptions, extract

SCRIPT = Path(__file__).with_name("slurm")
REQUESTS = [
    FeatureRequest(name="rgb", modality="rgb", backbone="hog"),
    FeatureRequest(name="audio", modality="audio", backbone="logmel"),
]

pytestmark = [
    pytest.mark.skipif(
        not all(map(shutil.which, ("sbatch", "slurmctld", "slurmd", "munged"))),
        reason="needs SLURM: apt-get install munge slurmctld slurmd slurm-client",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start SLURM's daemons"),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """SLURM's environment; `CPUS` more than there are: jobs that end keep theirs for a while."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run(
        ["bash", str(SCRIPT), "start", str(folder)],
        env={**os.environ, "SLURM_CPUS": "8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert started.returncode == 0, started.stderr
    name, _, value = started.stdout.strip().removeprefix("export ").partition("=")
    assert name == "SLURM_CONF"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        yield folder
    subprocess.run(["bash", str(SCRIPT), "stop", str(folder)], check=True, capture_output=True)


SYSTEMS = [
    "slurm",
    pytest.param(
        "pbs",
        marks=pytest.mark.skipif(
            shutil.which("qsub") is None,
            reason="needs SLURM's commands of PBS: apt-get install slurm-wlm-torque",
        ),
    ),
]


@pytest.fixture
def profile(tmp_path):
    """That of both; where PBS has its logs is the folder that a job is submitted from."""
    path = tmp_path / "cluster.toml"
    path.write_text(
        "[cluster]\nbucket_seconds = 1\nno_workers_timeout = 120\n"
        + "".join(f"[{system}]\n{lines}" for system, lines in _sections(tmp_path).items())
    )
    return path


def _sections(folder):
    common = (
        f"memory = '1GiB'\nwalltime = '00:20:00'\n"
        f"local_directory = '{folder}'\nshared_temp_directory = '{folder}'\n"
        "scheduler_options = {host = '127.0.0.1'}\n"
        "worker_extra_args = ['--host', '127.0.0.1']\n"
    )
    return {"slurm": f"log_directory = '{folder}'\n{common}", "pbs": common}


def jobs(states="RUNNING"):
    """The numbers of the jobs that run, or are in these states."""
    line = ["squeue", "-h", "-o", "%A", "-t", states]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_job_on_a_batch_system_makes_what_one_without_it_makes(
    slurm, system, profile, source, tmp_path, processes, is_whole, eventually
):
    words = ("--scheduler", system, "--profile", str(profile), "--workers", "2")
    driver = processes.extract("driver", source, tmp_path / "s.mmf", *words)
    assert driver.wait(timeout=300) == 0, processes.said("driver")
    assert is_whole(tmp_path / "s.mmf")
    eventually(lambda: not jobs("PENDING,RUNNING,COMPLETING"))  # nothing is left in the queue
    logs = [*tmp_path.glob("mmf-*.err"), *tmp_path.glob("*.sh.e*")]  # of SLURM, of PBS
    joined = [said for log in logs if "Registered to" in (said := log.read_text())]
    assert joined
    for said in joined:  # it ended by itself
        assert "End worker" in said
        assert "Received signal" not in said


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_cancelled_job_is_asked_for_again(
    slurm, system, profile, source, tmp_path, monkeypatch, is_whole, eventually
):
    monkeypatch.setattr(watch, "SCALE_AFTER", 5.0)
    monkeypatch.chdir(tmp_path)  # where PBS writes what jobs say
    cancelled = []

    def cancel():
        there = eventually(jobs)
        assert there[0] in batch._queued(system)
        subprocess.run(["scancel", there[0]], check=True)
        cancelled.append(there[0])  # before its worker came, which Dask would never notice

    canceller = threading.Thread(target=cancel)
    canceller.start()
    options = JobOptions(cluster=read_profile(system, str(profile), workers=1))
    result = extract(source, tmp_path / "s.mmf", REQUESTS, options)
    canceller.join()
    assert cancelled
    assert (result.exit_code, result.failed) == (0, 0)
    assert is_whole(tmp_path / "s.mmf")


def test_an_array_of_jobs_needs_no_scheduler(slurm, source, tmp_path, is_whole, eventually):
    words = ["--modality", "rgb", "--backbone", "rgb=hog"]
    words += ["--modality", "audio", "--backbone", "audio=logmel"]
    command = [sys.executable, "-m", "mmf.cli", "extract", str(source), *words]
    script = tmp_path / "array.sh"
    script.write_text(
        "#!/bin/bash\n#SBATCH --array=0-1\n#SBATCH --mem=1G\n"
        f"exec {' '.join(command)} --store {tmp_path}/s.mmf --shard $SLURM_ARRAY_TASK_ID/2 "
        "--workers 1\n"
    )
    log = tmp_path / "array-%a.log"
    line = ["sbatch", "--parsable", "-o", str(log), str(script)]
    number = subprocess.run(line, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    eventually(lambda: not jobs("PENDING,RUNNING"))  # sbatch --wait may sleep half a minute longer
    said = "".join(path.read_text() for path in tmp_path.glob("array-*.log"))
    show = ["scontrol", "show", "job", number.strip()]
    told = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    assert told.count("ExitCode=0:0") == 2, told + said
    assert is_whole(tmp_path / "s.mmf")
