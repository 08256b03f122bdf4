"""Four workers, one of which has another file of weights: no row is of it, and the job is done."""

import socket

import pytest
import torch
import torchvision

from mmf.cluster.connect import connected
from mmf.cluster.profile import Profile
from mmf.extract import FeatureRequest, JobOptions, extract
from mmf.extract.backbones.imagenet import Imagenet
from mmf.store import FeatureStore
from mmf.store.weights import place

NETWORK = "mobilenet_v2"
REQUESTS = [FeatureRequest(name="rgb", modality="rgb", backbone=NETWORK)]
WORKERS, WRONG = 4, 2


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """A cache of weights for each worker, all under the published name; one has a tensor changed.

    The last is the driver's own.
    """
    torch.manual_seed(0)
    state = torchvision.models.get_model(NETWORK, weights=None).state_dict()
    found = [tmp_path / f"cache-{i}" for i in range(WORKERS + 1)]
    for number, cache in enumerate(found):
        monkeypatch.setenv("TORCH_HOME", str(cache))
        path = place(Imagenet.published(NETWORK))
        assert path.is_relative_to(cache)
        path.parent.mkdir(parents=True)
        changed = {"features.0.0.weight": 1.01 * state["features.0.0.weight"]}
        torch.save(state | (changed if number == WRONG else {}), path)
    return found


def test_a_worker_with_other_weights_is_refused_and_the_other_three_do_the_job(
    source, tmp_path, processes, caches, caplog
):
    half = JobOptions(shard=(0, 2))
    extract(source, tmp_path / "whole.mmf", REQUESTS, half)
    address = processes.scheduler(**processes.settings)
    for number in range(WORKERS):
        processes.worker(f"worker-{number}", address, TORCH_HOME=str(caches[number]))
    profile = Profile(scheduler=address, bucket_seconds=0.2, no_workers_timeout=120)
    with connected(profile) as there:
        there.client.wait_for_workers(WORKERS, timeout=120)
        options = JobOptions(shard=(0, 2), cluster=profile)
        assert extract(source, tmp_path / "s.mmf", REQUESTS, options).exit_code == 0
        assert len(there.client.scheduler_info(n_workers=-1)["workers"]) == WORKERS - 1
    (refused,) = [r.getMessage() for r in caplog.records if "is refused" in r.getMessage()]
    assert f"a worker on {socket.gethostname()} is refused" in refused
    assert "weights" in refused
    assert "Closing" not in "".join(processes.said(f"worker-{n}") for n in (0, 1, 3))
    store, whole = FeatureStore(tmp_path / "s.mmf"), FeatureStore(tmp_path / "whole.mmf")
    assert store.failures().num_rows == 0
    assert store.content_hash() == whole.content_hash()
