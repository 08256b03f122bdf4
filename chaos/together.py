"""Trial `together`: several jobs at once on one store over the same videos, and SIGKILLs.

Every second job is `mmf extract` with lanes in processes of their own; the others have one lane and
commit every few videos (`mmf.chaos.often`), so that commits meet. Jobs, lanes and decoders are
killed at random, and a job that is gone is started again. At last a job runs that nobody disturbs.
"""

import contextlib
import random
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil

from mmf.chaos.jobs import (
    DEADLINE,
    VIDEOS,
    Tended,
    below,
    command,
    faults_of,
    kill_one,
    make_reference,
    make_source,
    role,
)
from mmf.chaos.trial import Found, Setting

SMALL, FULL = (2, 3), (8, 20)  # jobs at once, and kills for each of them
ROLES = {"job": 2, "lane": 1, "decoder": 1}  # how often each is killed
PAUSE = (0.2, 4.0)  # seconds between two kills: a job takes some to start


def together(folder: Path, setting: Setting) -> Found:
    """Kill until there were enough; as many stores as that takes."""
    jobs, each = SMALL if setting.small else FULL
    found, rng, roles = Found(), random.Random(setting.seed), Counter[str]()
    source = make_source(folder)
    reference = make_reference(source, folder / "reference.mmf")
    stores = 0
    while found.n < jobs * each and not found.faults:
        name, store = f"store {stores}", folder / f"{stores}.mmf"
        commands = _commands(source, store, jobs)
        with Tended(commands, folder / f"logs-{stores}", ends=frozenset(commands)) as running:
            roles += _disturb(running, jobs * each - found.n, rng, found)
            found.faults += [f"{name}: {fault}" for fault in running.faults()]
        found.n, stores = roles.total(), stores + 1
        last = subprocess.run(command(source, store), capture_output=True, text=True, check=False)
        if last.returncode:
            found.faults.append(f"{name}: the last job ended with {last.returncode}: {last.stderr}")
        found.faults += faults_of(store, reference, name)
        if not found.faults:
            shutil.rmtree(store)
    killed = ", ".join(f"{n} {role}" for role, n in roles.most_common())
    found.said = f"{killed}; {stores} stores, each filled by {jobs} jobs of {VIDEOS} videos"
    return found


def _commands(source: Path, store: Path, jobs: int) -> dict[str, list[str]]:
    often = command(source, store, "--workers", "1", module="mmf.chaos.often")
    lanes = command(source, store, "--workers", "2")
    return {f"job {i}": lanes if i % 2 else often for i in range(jobs)}


def _disturb(running: Tended, most: int, rng: random.Random, found: Found) -> Counter[str]:
    """Kill until the jobs are done; then they were disturbed enough."""
    roles, quiet_since = Counter[str](), time.monotonic()
    chosen: str | None = None
    struck = set[str]()  # files at which a decoder was killed
    while not running.is_done():
        if chosen is None and roles.total() < most:
            chosen = rng.choices(list(ROLES), list(ROLES.values()))[0]
        time.sleep(rng.uniform(*PAUSE))
        if chosen is not None and kill_one(
            _of(chosen, running, struck), rng
        ):  # else there is none yet
            roles[chosen] += 1
            chosen, quiet_since = None, time.monotonic()
        if time.monotonic() - quiet_since > DEADLINE:
            names = sorted(running.running.keys() - running.ended.keys())
            found.faults.append(f"{', '.join(names)} hang: {running.said(names[0])}")
            break
    return roles


def _of(wanted: str, running: Tended, struck: set[str]) -> list[psutil.Process]:
    """The processes of this role that are at work, of jobs that have not ended.

    Of decoders one alone, at a file at which none was killed yet: who starts, or decodes one file,
    and dies of it again and again, is rightly taken for one that cannot.
    """
    jobs = {
        process.pid: list(below(process.pid))
        for name, process in running.running.items()
        if name not in running.ended
    }
    if wanted == "job":
        return [psutil.Process(pid) for pid, others in jobs.items() if any(map(role, others))]
    there = [one for others in jobs.values() for one in others if role(one) == wanted]
    if wanted == "lane":
        return there
    for one in there:
        if (file := _decoded_by(one)) and file not in struck:
            struck.add(file)
            return [one]
    return []


def _decoded_by(process: psutil.Process) -> str:
    """The video that a decoder has open now, or ''."""
    with contextlib.suppress(psutil.Error):
        return next((f.path for f in process.open_files() if f.path.endswith(".mp4")), "")
    return ""
