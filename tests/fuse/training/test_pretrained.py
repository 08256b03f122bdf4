"""Late fusion of trained runs: their weights come along once, and stay."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmf import MmfError
from mmf.fuse import TrainConfig, evaluate, load, train


@pytest.fixture
def base(xor_store, tmp_path) -> TrainConfig:
    return TrainConfig(
        store=xor_store.path, features=("a",), fusion="single", out=tmp_path / "a",
        epochs=2, batch_size=16, lr=1e-2, device="cpu",
    )  # fmt: skip


@pytest.fixture
def singles(base, tmp_path) -> tuple[Path, Path]:
    return train(base), train(replace(base, features=("b",), out=tmp_path / "b"))


def late(base: TrainConfig, runs, fusion: str = "late", **options) -> TrainConfig:
    its = {"runs": tuple(runs)} | ({"hidden": 8} if fusion == "late" else {})
    out = Path(base.out).parent / "late"
    return replace(base, features=(), fusion=fusion, fusion_options=its, out=out, **options)


@pytest.mark.parametrize("fusion", ["late", "weighted"])
def test_what_the_runs_learned_is_kept_and_gives_the_logits(base, singles, fusion):
    run = train(late(base, singles, fusion))
    learned = load(singles[0]).head[0].linear.weight
    for path in singles:
        shutil.rmtree(path)  # the checkpoints hold all of it
    network = load(run)
    assert torch.equal(network.head[0].linear.weight, learned)
    assert not network.head[0].linear.weight.requires_grad
    assert 0 <= evaluate(run, device="cpu")["accuracy"] <= 1


def test_each_feature_is_normalised_and_classified_as_in_its_run(base, singles):
    network = load(train(late(base, singles)))
    for number, path in enumerate(singles):
        single = load(path)
        for part in ("normalise", "aggregate", "head"):
            mine = getattr(network, part)[number].state_dict()
            theirs = getattr(single, part)[0].state_dict()
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_only_the_mlp_learns_and_what_was_taken_stays_in_eval_mode(base, singles):
    network = load(train(late(base, singles))).train()
    learning = {n for n, p in network.named_parameters() if p.requires_grad}
    assert learning
    assert all(name.startswith("fusion.") for name in learning)
    assert network.fusion.training
    assert not any(m.training for m in (*network.head, *network.aggregate))
    assert network.dropout.p == 0


def test_without_runs_everything_learns(base):
    network = load(train(late(base, ())))
    assert all(p.requires_grad for p in network.parameters())


def test_resuming_needs_the_runs_no_more(base, singles):
    config = late(base, singles)
    run = train(config)
    wanted = load(run).state_dict()
    for path in singles:
        shutil.rmtree(path)
    found = load(train(config, resume=True)).state_dict()
    assert all(torch.equal(found[n], wanted[n]) for n in wanted)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"head": "moe"}, "trained with head 'logistic'; this asks for 'moe'"),
        ({"normalise": "l2"}, "trained with normalise 'standardise'; this asks for 'l2'"),
        ({"loss": "bce"}, "other classes, or with another loss"),
    ],
)
def test_a_run_that_differs_in_what_its_weights_depend_on_is_refused(
    base, singles, change, sentence
):
    with pytest.raises(MmfError) as caught:
        train(late(base, singles, **change))
    assert sentence in str(caught.value)
    assert not (Path(base.out).parent / "late").exists()


def test_runs_that_are_not_one_of_each_feature_are_refused(base, singles, tmp_path):
    first, _ = singles
    with pytest.raises(MmfError, match="no run of b among .*--features b --fusion single"):
        train(late(base, [first]))
    with pytest.raises(MmfError, match="are both of 'a'"):
        train(late(base, [first, first]))
    with pytest.raises(MmfError, match="is of 'b', which is none of the features"):
        train(replace(late(base, singles), features=("a",)))
    both = train(replace(base, features=(), fusion="concat", out=tmp_path / "both"))
    with pytest.raises(MmfError, match="of fusion 'concat' on a, b; expected runs of --fusion sin"):
        train(late(base, [first, both]))
    with pytest.raises(MmfError, match="is not a run"):
        train(late(base, [first, tmp_path / "none"]))
