"""The sequence head: each item from its video, and batches of whole videos for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import TrainConfig, evaluate, load, predict, train
from mmf.fuse.config import build_options
from mmf.fuse.heads.sequence import SequenceHead, SequenceOptions
from mmf.store import FeatureSpec, FeatureStore, Track

VIDEOS = torch.tensor([0, 0, 0, 1, 2, 2])


def build(**options) -> SequenceHead:
    torch.manual_seed(0)
    its = {"hidden": 5, "units": 6} | options
    return SequenceHead(3, 2, SequenceOptions(**its)).eval()


@pytest.mark.parametrize(
    "options", [{"cell": "rnn"}, {"hidden": 0}, {"units": 0}, {"dropout": 1.0}]
)
def test_bad_options_are_refused(options, no_shape_checks):
    with pytest.raises(MmfError):
        build_options(SequenceOptions, options, "sequence")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_each_video_is_read_by_itself_from_both_ends(cell):
    head, x = build(cell=cell), torch.randn(6, 3)
    found = head(x, VIDEOS)
    for part in (slice(0, 3), slice(3, 4), slice(4, 6)):
        hidden, _ = head.recurrent(x[part].unsqueeze(1))  # (T, 1, 2 h)
        assert torch.allclose(head.dense(hidden[:, 0]), found[part], atol=1e-6)


def test_an_item_hears_of_all_items_of_its_video_and_of_no_other():
    head, x = build(), torch.randn(6, 3, requires_grad=True)
    logits = head(x, VIDEOS)
    for i in range(6):
        (heard,) = torch.autograd.grad(logits[i].sum(), x, retain_graph=True)
        assert torch.equal(heard.abs().sum(1) > 0, VIDEOS[i] == VIDEOS)


def test_without_videos_each_item_is_alone():
    head, x = build(), torch.randn(4, 3)
    assert torch.allclose(head(x), torch.cat([head(x[i : i + 1]) for i in range(4)]), atol=1e-6)
    assert torch.equal(head(x), head(x, torch.arange(4)))


def test_a_video_may_stand_beside_one_of_the_same_number_only_as_one():
    head, x = build(), torch.randn(4, 3)
    apart = head(x, torch.tensor([0, 0, 1, 1]))
    assert torch.allclose(apart, head(x, torch.tensor([5, 5, 2, 2])), atol=1e-6)
    assert not torch.allclose(apart, head(x, torch.tensor([0, 0, 0, 0])), atol=1e-3)


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    """40 videos of 2 to 6 rows ±1; the class of an item is the sign of the one before it."""
    store = FeatureStore.create(tmp_path / "feats")
    generator = np.random.default_rng(0)
    tracks, labels, split = [], {}, {}
    for v in range(40):
        signs = generator.choice([-1.0, 1.0], size=2 + v % 5)
        name = f"v{v:02}"
        tracks.append(Track(video_id=name, values=signs[:, None], times=np.arange(len(signs))))
        for t, before in enumerate([1.0, *signs[:-1]]):
            labels[(name, t - 0.5, t + 0.5)] = ["up" if before > 0 else "down"]
        split[name] = ("train", "train", "val", "test")[v % 4]
    store.add(FeatureSpec(name="a", modality="a", shape=(1,), dtype="float32"), tracks)
    store.label(labels, split=split)
    return store


@pytest.fixture
def config(store, tmp_path) -> TrainConfig:
    return TrainConfig(
        store=store.path, out=tmp_path / "run", fusion="single", head="sequence",
        head_options={"hidden": 8, "units": 8, "dropout": 0.0}, dropout=0.0,
        epochs=60, batch_size=4, lr=2e-2, device="cpu",
    )  # fmt: skip


def test_what_stood_before_is_learned_from_the_sequence_and_not_from_the_item(config, tmp_path):
    assert evaluate(train(config), device="cpu")["accuracy"] == 1
    alone = replace(config, head="logistic", head_options={}, out=tmp_path / "alone", epochs=20)
    assert evaluate(train(alone), device="cpu")["accuracy"] < 0.8


def test_scores_are_those_of_whole_videos_whatever_is_asked_for(config, store):
    run = train(replace(config, epochs=2))
    table = predict(run, store.path, "test")
    network, rows = load(run).double(), table.to_pylist()
    for video in {row["video_id"] for row in rows}:
        values = torch.from_numpy(store.read("a", video).values).double()
        number = torch.zeros(len(values), dtype=torch.long)
        wanted = network({"a": values[:, None]}, None, number).softmax(1)
        mine = sorted((r for r in rows if r["video_id"] == video), key=lambda r: r["start"])
        for row, p in zip(mine, wanted, strict=True):
            scores = dict(zip(row["classes"], row["scores"], strict=True))
            assert [scores[c] for c in network.classes] == pytest.approx(p.tolist(), abs=1e-6)


def test_training_by_video_goes_on_exactly_where_it_was_stopped(config, tmp_path):
    whole = load(train(replace(config, epochs=4, out=tmp_path / "whole"))).state_dict()
    first = train(replace(config, epochs=4))
    again = load(train(replace(config, epochs=4), resume=True)).state_dict()
    assert first.exists()
    assert all(torch.equal(whole[n], again[n]) for n in whole)
