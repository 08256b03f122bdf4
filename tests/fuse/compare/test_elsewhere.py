"""Trainings on a cluster made of a list: what is handed out, and what is made of losses."""

from types import SimpleNamespace

import pytest
from distributed.scheduler import KilledWorker

from mmf import MmfError
from mmf.cluster.connect import Connection, TryAgain
from mmf.cluster.profile import Profile
from mmf.fuse import TrainConfig
from mmf.fuse.compare import elsewhere
from mmf.fuse.compare.elsewhere import LOSSES, Elsewhere
from mmf.fuse.compare.worker import Ended

BEST = {"metric": "accuracy", "value": 0.5, "loss": 1.0, "step": 3}


class Scheduler:
    """Answers each training with what `answer` makes of its number."""

    status, identity = "running", None

    def __init__(self, answer):
        self.answer, self.scheduler, self.trained = answer, self, []
        self.most = self.held = 0

    def sync(self, _call, callback_timeout):
        one = {"resources": {}, "metrics": {}}
        return {"workers": {"w0": one, "w1": one}}

    def submit(self, _run, training, *, key, pure, resources):
        self.trained.append(training.config.out)
        self.held += 1
        self.most = max(self.most, self.held)
        found = self.answer(len(self.trained))
        status = found if isinstance(found, str) else "finished"
        status = "error" if isinstance(found, BaseException) else status
        return SimpleNamespace(
            key=key,
            status=status,
            result=lambda timeout: found,
            exception=lambda timeout: found,
            release=lambda: None,
            add_done_callback=lambda call: call(future_of(self, key, status, found)),
        )

    def run(self, _call, wait):
        pass

    def processing(self):
        return {}


def future_of(scheduler, key, status, found):
    def release():
        scheduler.held -= 1

    return SimpleNamespace(
        key=key,
        status=status,
        result=lambda timeout: found,
        exception=lambda timeout: found,
        release=release,
    )


def trainer(answer):
    scheduler = Scheduler(answer)
    connection = Connection(client=scheduler, scale=None, workers=0)
    return scheduler, Elsewhere(connection, Profile(scheduler="local"))


def runs(path, number):
    return [TrainConfig(store="s", out=str(path / f"seed-{n}")) for n in range(number)]


def killed():
    return KilledWorker("key", SimpleNamespace(address="w", name="w"), 1)


def test_every_run_is_trained_once_and_few_are_on_their_way(tmp_path):
    scheduler, train = trainer(lambda number: Ended(best=BEST))
    train.ahead(configs := runs(tmp_path, 30))
    train.ahead(configs)
    assert scheduler.trained == [config.out for config in configs]
    assert scheduler.most <= 4
    assert vars(train(configs[7])) == {"path": tmp_path / "seed-7", **BEST}


def test_a_run_that_cannot_be_trained_says_so_when_it_is_asked_for(tmp_path):
    _, train = trainer(lambda number: Ended(failure="no video has it"))
    train.ahead(configs := runs(tmp_path, 2))
    with pytest.raises(MmfError, match="no video has it"):
        train(configs[1])


@pytest.mark.parametrize("loss", [killed(), Ended(died="code -9"), Ended(stopped=True)])
def test_a_run_that_was_lost_is_handed_out_again(tmp_path, loss):
    scheduler, train = trainer(lambda number: loss if number == 2 else Ended(best=BEST))
    train.ahead(runs(tmp_path, 3))
    assert len(scheduler.trained) == 4
    assert len(set(scheduler.trained)) == 3


def test_a_run_that_every_worker_dies_of_ends_the_comparison_by_its_name(tmp_path):
    scheduler, train = trainer(lambda number: killed())
    with pytest.raises(TryAgain, match=f"seed-0' was lost {LOSSES} times.*its worker died"):
        train.ahead(runs(tmp_path, 1))
    assert len(scheduler.trained) == LOSSES


def test_a_scheduler_that_is_gone_is_said_with_the_way_on(tmp_path):
    _, train = trainer(lambda number: "cancelled")
    with pytest.raises(TryAgain, match="Run the same command again") as raised:
        train.ahead(runs(tmp_path, 2))
    assert raised.value.exit_code == 75


def test_an_error_of_the_disk_ends_the_comparison_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "LEAVING", 0.1)
    _, train = trainer(lambda number: OSError(28, "No space left"))
    with pytest.raises(OSError, match="No space left"):
        train.ahead(runs(tmp_path, 2))
