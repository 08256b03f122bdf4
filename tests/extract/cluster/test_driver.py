"""The driver with a scheduler made of a list: what it hands out, and what it makes of losses."""

import time
from collections import Counter
from concurrent.futures import CancelledError

import pytest
from distributed.scheduler import KilledWorker

from mmf import MmfError
from mmf.cluster import watch as watch_module
from mmf.cluster.connect import Connection, TryAgain
from mmf.cluster.profile import Profile
from mmf.extract.cluster import driver as driver_module
from mmf.extract.cluster.driver import LOSSES, Driver
from mmf.extract.lanes import Work
from mmf.extract.manifest import Input
from mmf.extract.pipeline import BUCKET_VIDEOS, Task
from mmf.extract.stopping import Stop
from mmf.extract.tally import BucketEnded

WORK = Work(store="s.mmf", requests=())
FAST = Profile(scheduler="local", no_workers_timeout=0.3, stall_timeout=0.3)


class Future:
    def __init__(self, key, status, value):
        self.key, self.status, self.value = key, status, value
        self.released = self.withdrawn = False

    def add_done_callback(self, call):
        if self.status != "pending":
            call(self)

    def result(self, timeout):
        if isinstance(self.value, Lost):
            raise self.value.error
        return self.value

    def exception(self, timeout):
        return self.value

    def release(self):
        self.released = True

    def cancel(self):
        self.withdrawn = True


class Lost:
    """What was finished, and went with the worker that had it before it was fetched."""

    def __init__(self, error):
        self.error = error


class Scheduler:
    """Answers each bucket with what `answer` makes of its number and tasks; keeps all."""

    def __init__(self, answer=None, workers=2, resources=None):
        self.answer = answer or (lambda number, tasks: done(tasks))
        self.status, self.scheduler = "running", self
        self.there, self.resources = workers, resources or {}
        self.buckets, self.futures, self.retired, self.scaled = [], [], [], []

    identity = None

    def sync(self, _call, callback_timeout):
        one = {"resources": self.resources, "metrics": {}}
        return {"workers": {f"w{i}": one for i in range(self.there)}}

    def submit(self, _run, work, tasks, *, key, pure, resources):
        assert key not in {future.key for future in self.futures}
        self.buckets.append([task.source.video_id for task in tasks])
        found = self.answer(len(self.buckets), tasks)
        status = found if isinstance(found, str) else "finished"
        value = found
        if isinstance(found, BaseException):
            status = "error"
        self.futures.append(Future(key, status, value))
        return self.futures[-1]

    def who_has(self, futures):
        return {future.key: ("w0",) for future in futures}

    def retire_workers(self, workers, close_workers, remove):
        self.retired += workers
        self.there -= 1

    def processing(self):
        return {"w0": ()}

    def run(self, call, wait):
        for future in self.futures:
            if future.status == "pending":
                future.status = "cancelled"


def done(tasks, **more):
    return BucketEnded(tried=len(tasks), host="here", **more)


def tasks(number):
    return [Task(source=Input(video_id=str(i), path=f"{i}.mp4")) for i in range(number)]


def run(scheduler, number=100, profile=FAST, stop=None, scale=None, work=WORK):
    ended = []
    connection = Connection(client=scheduler, scale=scale, workers=0)
    Driver(connection, profile, work, ended.append, stop or Stop()).run(iter(tasks(number)), number)
    return [one for one in ended if isinstance(one, BucketEnded)]


def killed():
    class Worker:
        address = name = "w"

    return KilledWorker("key", Worker(), 1)


def test_every_video_is_handed_out_once_and_nothing_is_held():
    scheduler = Scheduler()
    ended = run(scheduler, 1000)
    assert [v for bucket in scheduler.buckets for v in bucket] == [str(i) for i in range(1000)]
    assert sum(one.tried for one in ended) == 1000
    assert all(future.released for future in scheduler.futures)


def test_buckets_grow_to_their_time_and_shrink_at_the_end():
    scheduler = Scheduler()
    run(scheduler, 5000)
    sizes = [len(bucket) for bucket in scheduler.buckets]
    assert sizes[0] == driver_module.FIRST_VIDEOS
    assert max(sizes) == BUCKET_VIDEOS
    assert sizes[-1] == 1


def test_a_bucket_that_is_lost_with_its_worker_is_handed_out_again_and_blames_nobody():
    scheduler = Scheduler(lambda number, tasks: killed() if number % 3 == 1 else done(tasks))
    ended = run(scheduler, 200)
    assert sum(one.tried for one in ended) == 200
    assert sum(one.failed for one in ended) == 0
    assert Counter(v for b in scheduler.buckets for v in b).keys() == set(map(str, range(200)))


@pytest.mark.parametrize("error", [TimeoutError("timed out after 10 s."), None])
def test_a_result_that_its_worker_takes_along_is_handed_out_again_and_dask_lets_go_of_it(error):
    lost = Lost(error or killed())
    scheduler = Scheduler(lambda number, tasks: lost if number in (1, 3) else done(tasks))
    assert sum(one.tried for one in run(scheduler, number=40)) == 40
    assert [future.withdrawn for future in scheduler.futures[:4]] == [True, False, True, False]


def test_a_scheduler_that_goes_with_a_result_is_said():
    with pytest.raises(TryAgain, match="the scheduler is gone"):
        run(Scheduler(lambda number, tasks: Lost(CancelledError())))


def test_a_bucket_that_every_worker_dies_of_ends_the_job_and_names_a_video():
    scheduler = Scheduler(lambda number, tasks: killed())
    with pytest.raises(TryAgain, match=f"lost with its worker {LOSSES} times, the first .*'0'"):
        run(scheduler, 1)
    assert len(scheduler.buckets) == LOSSES


def test_an_error_of_the_store_ends_the_job_as_such():
    with pytest.raises(OSError, match="No space left"):
        run(Scheduler(lambda number, tasks: OSError(28, "No space left")))


def test_a_scheduler_that_is_gone_is_said_with_the_way_on():
    with pytest.raises(TryAgain, match="Run the same command again") as raised:
        run(Scheduler(lambda number, tasks: "cancelled"))
    assert raised.value.exit_code == 75


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(watch_module, "EVERY", 0.05)
    monkeypatch.setattr(driver_module, "_LOOK", 0.05)


def test_no_worker_at_all_is_said(often):
    with pytest.raises(TryAgain, match="no worker has been there for 0 s"):
        run(Scheduler(workers=0))


def test_no_worker_with_a_gpu_is_said_by_its_name(often):
    work = Work(store="s.mmf", requests=(), device="cuda")
    with pytest.raises(TryAgain, match="no worker that offers GPU=1"):
        run(Scheduler(), work=work)
    scheduler = Scheduler(resources={"GPU": 1.0})
    assert sum(one.tried for one in run(scheduler, work=work)) == 100


def test_workers_that_all_go_while_there_is_work_are_said(often):
    scheduler = Scheduler()

    def answer(number, tasks):
        scheduler.there = 0
        return "pending"

    scheduler.answer = answer
    with pytest.raises(TryAgain, match="no worker has been there"):
        run(scheduler)


def test_a_job_in_which_nothing_moves_ends(often):
    with pytest.raises(TryAgain, match="nothing has moved for 0 s on 2 workers"):
        run(Scheduler(lambda number, tasks: "pending"))


def test_workers_that_dask_forgot_are_asked_for_again(often, monkeypatch):
    monkeypatch.setattr(watch_module, "SCALE_AFTER", 0.1)
    scheduler, asked = Scheduler(workers=1), []

    def answer(number, tasks):
        if not asked:
            return "pending"
        return done(tasks)

    scheduler.answer = answer
    connection = Connection(client=scheduler, scale=asked.append, workers=3)
    profile = Profile(scheduler="local", stall_timeout=1.0)
    with pytest.raises(TryAgain):
        Driver(connection, profile, WORK, lambda _: None, Stop()).run(iter(tasks(9)), 9)
    assert asked[0] == 3


def test_a_worker_that_computes_something_else_is_refused_by_name_and_the_others_go_on(caplog):
    def answer(number, tasks):
        if number == 2:
            return BucketEnded(refused="other weights", host="node7")
        return done(tasks)

    scheduler = Scheduler(answer, workers=4)
    ended = run(scheduler, 100)
    assert sum(one.tried for one in ended) == 100
    assert scheduler.retired == ["w0"]
    assert "a worker on node7 is refused: other weights" in caplog.text


def test_a_job_that_every_worker_refuses_ends_with_the_reason():
    scheduler = Scheduler(lambda number, tasks: BucketEnded(refused="no such weights", host="n"))
    with pytest.raises(MmfError, match="no worker is left that can do this: on n, no such weights"):
        run(scheduler)


def test_a_wish_to_stop_hands_out_no_more_and_takes_what_is_done(monkeypatch):
    monkeypatch.setattr(driver_module, "LEAVING", 1.0)
    stop = Stop()

    def answer(number, tasks):
        if number == 3:
            stop.request("SIGTERM")
            return "pending"
        return done(tasks)

    scheduler, began = Scheduler(answer), time.monotonic()
    ended = run(scheduler, 1000, stop=stop)
    assert sum(one.tried for one in ended) == sum(map(len, scheduler.buckets)) - len(
        [
            v
            for b, f in zip(scheduler.buckets, scheduler.futures, strict=True)
            for v in b
            if f.status != "finished"
        ]
    )
    assert len(scheduler.buckets) < 10
    assert time.monotonic() - began < driver_module.LEAVING + 5


def test_workers_that_are_refused_and_come_back_end_the_job():
    """A cluster that keeps its number starts another one for each that is sent away."""

    class Kept(Scheduler):
        def retire_workers(self, workers, close_workers, remove):
            self.retired += workers

    scheduler = Kept(answer=lambda number, tasks: BucketEnded(refused="other rows", host="h"))
    with pytest.raises(MmfError, match="no worker is left that can do this: on h, other rows"):
        run(scheduler, 10)
    assert len(scheduler.retired) == 2 + watch_module.REFUSALS
