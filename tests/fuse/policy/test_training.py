"""A policy's training: it finds what is planted, and goes on exactly where it was stopped."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import Interrupted, TrainConfig, evaluate, load, train
from mmf.fuse.inference.scoring import score
from mmf.fuse.run import Run
from mmf.fuse.synthetic import make
from mmf.fuse.training import checkpoint, loop, resume
from mmf.store import FeatureStore

OPTIONS = {
    "layers": [16],
    "hidden": 8,
    "segments": 5,
    "cost": {"rgb": 0.3, "audio": 0.1},
    "epochs": {"single": 1, "warm_up": 1, "alternate": 2, "tune": 1},
    "gflops": {"rgb": 14.1, "audio": 0.38, "policy": 0.76},
}
STEPS = 3  # of an epoch


@pytest.fixture(scope="module")
def store(small_segments, tmp_path_factory) -> FeatureStore:
    """24 videos to learn from, and no label wrong."""
    clear = {"options": {"segments": 5, "strength": 2.0}, "flips": 0.0}
    made = replace(small_segments, train=24, val=10, test=20, **clear)
    return make(made, tmp_path_factory.mktemp("made") / "feats")


@pytest.fixture
def config(store, tmp_path) -> TrainConfig:
    return TrainConfig(
        store=store.path,
        out=tmp_path / "run",
        fusion="policy",
        fusion_options=OPTIONS,
        batch_size=8,
        lr=1e-2,
        device="cpu",
    )


def contents(run: Path) -> dict[str, bytes]:
    """All tensors and the whole state of the newest checkpoint, and the metrics."""
    path, state = checkpoint.newest(run / "checkpoints")
    files = {n: (path / n).read_bytes() for n in state["files"] if n != "generators.safetensors"}
    kept = {k: v for k, v in state.items() if k not in ("files", "generators")}
    metrics = (run / "metrics.jsonl").read_bytes()
    return files | {"state": json.dumps(kept).encode(), "metrics": metrics}


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def stopped_at(step: int, config: TrainConfig, monkeypatch) -> None:
    """Train until this step, in which SIGTERM comes."""
    learn, steps = loop.learn, iter(range(1, 100))

    def stopping(*arguments):
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learn", stopping)
        with pytest.raises(Interrupted):
            train(config)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "run"
    return contents(
        train(
            TrainConfig(
                store=store.path,
                out=out,
                fusion="policy",
                fusion_options=OPTIONS,
                batch_size=8,
                lr=1e-2,
                device="cpu",
            )
        )
    )


def test_a_sequence_of_items_and_a_training_too_short_are_refused(config):
    with pytest.raises(MmfError, match="takes each item alone"):
        train(replace(config, head="sequence"))
    with pytest.raises(MmfError, match="of 2 epochs has no room"):
        train(replace(config, epochs=2))
    assert not Path(config.out).exists()


def test_every_stage_is_trained_and_told(config):
    found = rows(train(config))
    assert [row["stage"] for row in found] == ["single", "warm_up", *["alternate"] * 4, "tune"]
    assert all(0 <= row[f"val_used_{m}"] <= 1 for row in found for m in ("rgb", "audio"))
    used = [(row["val_used_rgb"], row["val_used_audio"]) for row in found]
    assert len(set(used[:3])) == 1  # nobody has moved the policy yet
    assert used[3] == used[4]  # the networks' turn
    measured = evaluate(config.out, device="cpu")
    gflops = 5 * (14.1 * measured["used_rgb"] + 0.38 * measured["used_audio"] + 0.76)
    assert measured["gflops"] == pytest.approx(gflops)


def test_the_best_weights_are_chosen_once_the_policy_learns(config, monkeypatch):
    """However well the first stages seem to do, their weights are of no finished run."""
    calls, measured = iter(range(100)), loop.measure

    def falling(*given, **more):
        return {**measured(*given, **more), "accuracy": 0.9 - 0.1 * next(calls)}

    monkeypatch.setattr(loop, "measure", falling)
    run = Run.open(train(config))
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert run.best() == next(row for row in rows if row["stage"] == "alternate")


def test_weights_chosen_by_loss_and_cost_are_those_of_the_smallest_sum(config):
    options = OPTIONS | {"best": "objective", "consensus": "attention"}
    run = Run.open(train(replace(config, fusion_options=options)))
    counted = [row for row in rows(run.path) if row["stage"] in ("alternate", "tune")]
    for row in counted:
        cost = 0.3 * row["val_used_rgb"] ** 2 + 0.1 * row["val_used_audio"] ** 2
        assert row["val_cost"] == pytest.approx(cost)
    assert run.best() == min(counted, key=lambda row: row["val_loss"] + row["val_cost"])
    plain = Run.open(train(replace(config, out=Path(config.out).with_name("plain"))))
    assert "val_cost" not in plain.best()


@pytest.mark.parametrize("step", [2, 11, 19])  # single, the policy's turn, the last
def test_with_attention_too_it_goes_on_to_the_same_bits(config, monkeypatch, step):
    options = OPTIONS | {"best": "objective", "consensus": "attention"}
    whole = replace(config, fusion_options=options)
    parts = replace(whole, out=Path(config.out).with_name("parts"))
    stopped_at(step, parts, monkeypatch)
    assert contents(train(parts, resume=True)) == contents(train(whole))


def test_a_stage_changes_what_it_learns_and_nothing_else(config, monkeypatch):
    seen = []
    learn = loop.learn

    def watching(what, batches, state, stop):
        before = {n: p.detach().clone() for n, p in what.network.named_parameters()}
        learned = learn(what, batches, state, stop)
        now = dict(what.network.named_parameters())
        changed = {n for n in before if not torch.equal(before[n], now[n])}
        seen.append((what.stage(state.step), changed))
        return learned

    monkeypatch.setattr(loop, "learn", watching)
    train(config)
    for stage, changed in seen:
        agent = {n for n in changed if n.startswith("fusion.agent")}
        if "policy" in stage.learns:
            assert changed == agent
        else:
            assert not agent
            assert any("recognise" in n for n in changed)
            assert ("fusion.weights" in changed) == (stage.name != "single")


def test_learning_rates_fall_in_each_stage(config, monkeypatch):
    epochs = {"single": 2, "alternate": 2, "tune": 1}
    options = OPTIONS | {"epochs": epochs, "milestones": {"single": [1], "alternate": [1]}}
    rates, learn = [], loop.learn

    def watching(what, *arguments):
        learned = learn(what, *arguments)
        by_part = {group["part"]: group["lr"] for group in what.optimiser.param_groups}
        rates.append((by_part["main"], by_part["policy"]))
        return learned

    monkeypatch.setattr(loop, "learn", watching)
    train(replace(config, fusion_options=options | {"policy_lr": 0.5}))
    wanted = [1.0, 0.1, 1.0, 1.0, 0.1, 0.1, 1.0]
    found = rates[::STEPS]
    assert [main for main, _ in found] == pytest.approx([1e-2 * x for x in wanted])
    assert [policy for _, policy in found] == pytest.approx([0.5 * x for x in wanted])


def test_tuning_goes_on_from_the_best_of_the_alternating(config, monkeypatch):
    entered, learn = {}, loop.learn

    def watching(what, batches, state, stop):
        stage = what.stage(state.step)
        if stage.takes_best:
            entered["weights"] = {n: t.clone() for n, t in what.network.state_dict().items()}
            entered["best"] = state.best["step"]
        return learn(what, batches, state, stop)

    kept = []
    keep = resume.Saver.keep_best

    def keeping(self):
        keep(self)
        kept.append(dict(self._best))

    monkeypatch.setattr(loop, "learn", watching)
    monkeypatch.setattr(resume.Saver, "keep_best", keeping)
    train(config)
    assert entered["best"] > 2 * STEPS  # no row before the alternating counts
    weights = entered["weights"]
    assert any(all(torch.equal(w[n], t) for n, t in weights.items()) for w in kept)


@pytest.mark.parametrize("step", [1, 3, 4, 6, 7, 9, 10, 14, 18, 19, 21])  # of 7 epochs of 3
def test_stopped_in_any_stage_it_goes_on_to_the_same_bits(config, whole, monkeypatch, step):
    stopped_at(step, config, monkeypatch)
    assert contents(train(config, resume=True)) == whole


@pytest.mark.parametrize("step", [2, 6, 7, 17, 19])
def test_a_crash_between_checkpoints_loses_nothing(config, whole, monkeypatch, step):
    monkeypatch.setattr(resume, "_SECONDS", 0.0)
    monkeypatch.setattr(resume, "_SHARE", 1e9)

    def crash(told):
        if told["step"] == step:
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        train(config, on_step=crash)
    assert contents(train(config, resume=True)) == whole


def test_a_batch_in_parts_has_the_decisions_and_the_gradient_of_the_whole(config, tmp_path):
    options = OPTIONS | {"epochs": {"alternate": 2}}
    plain = replace(config, fusion_options=options, dropout=0.0, optimiser="sgd")
    found = [load(train(plain)), load(train(replace(plain, out=tmp_path / "p", parts=2)))]
    for one, other in zip(*(net.parameters() for net in found), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"ema": 0.9}, {"precision": "bf16", "head": "moe"}])
def test_other_settings_train_too(config, options):
    run = train(replace(config, **options))
    assert 0 <= evaluate(run, device="cpu")["accuracy"] <= 1


def test_several_labels_of_an_item_are_learned(config):
    run = train(replace(config, task="multi"))
    assert 0 <= evaluate(run, device="cpu")["gap@20"] <= 1


def test_a_random_policy_takes_the_rates_of_a_run_and_repeats_itself(config, tmp_path):
    of = train(config)
    options = {k: v for k, v in OPTIONS.items() if k not in ("layers", "hidden")}
    options |= {"decisions": "random", "runs": [str(of)]}
    run = train(replace(config, out=tmp_path / "random", fusion_options=options))
    best = checkpoint.newest(of / "checkpoints")[1]["best"]
    rates = torch.sigmoid(Run.open(run).trained().fusion.odds)
    wanted = [best["val_used_audio"], best["val_used_rgb"]]  # the features' order
    assert rates.tolist() == pytest.approx(wanted, abs=1e-4)
    assert evaluate(run, device="cpu") == evaluate(run, device="cpu")
    none = replace(
        config, out=tmp_path / "none", fusion_options=options | {"runs": [str(run.parent)]}
    )
    with pytest.raises(MmfError, match="notes no rate of 'audio'"):
        train(none)


def test_decisions_come_with_the_scores_and_do_not_hang_on_the_batch(config, store):
    run = Run.open(train(replace(config, fusion_options=OPTIONS | {"sampled": True})))
    items, network = store.items("test"), run.trained()
    together = next(score(network, store, items, run.specs, run.config, label_set=None))
    for i in (0, 7):
        alone = next(score(network, store, items[i : i + 1], run.specs, run.config, label_set=None))
        np.testing.assert_array_equal(alone.decisions.used[0], together.decisions.used[i])
        np.testing.assert_array_equal(alone.scores("ce")[0], together.scores("ce")[i])
    decisions = together.decisions
    assert decisions.used.shape == (20, 5, 2)
    assert not decisions.used[~decisions.valid].any()
    for name, each in decisions.rows.items():
        lengths = [len(store.read(name, item.video_id).values) for item in items]
        assert each.sum(1).tolist() == lengths


def test_what_features_cost_is_asked_for_where_nothing_says_it(config, caplog):
    options = {name: value for name, value in OPTIONS.items() if name != "gflops"}
    found = evaluate(train(replace(config, fusion_options=options)), device="cpu")
    assert "gflops" not in found
    assert "no GFLOPs: not every feature of run" in caplog.text


def test_decisions_are_drawn_in_evaluation_where_that_is_asked_for(config):
    run = train(config)
    with_chance, likelier = (evaluate(run, device="cpu", sampled=s) for s in (True, False))
    assert with_chance["used_rgb"] != likelier["used_rgb"]
    assert evaluate(run, device="cpu", sampled=True) == with_chance
    plain = train(replace(config, out=f"{config.out}-2", fusion="concat", fusion_options={}))
    with pytest.raises(MmfError, match="of fusion 'concat', which decides nothing"):
        evaluate(plain, device="cpu", sampled=True)


def test_items_that_lack_a_modality_train_and_are_measured(config):
    run = train(replace(config, modality_dropout=0.4))
    assert evaluate(run, without=["rgb"], device="cpu")["used_rgb"] == 0
