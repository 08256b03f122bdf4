"""The loop: it learns, it is repeatable, and it goes on exactly where it was stopped."""

import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import LOSSES, Interrupted, TrainConfig, evaluate, load, train
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.training import checkpoint, loop, resume
from mmf.store import FeatureStore


@pytest.fixture
def config(xor_store, tmp_path) -> TrainConfig:
    return TrainConfig(
        store=xor_store.path,
        out=tmp_path / "run",
        fusion="mfb",
        fusion_options={"outputs": 16},
        epochs=4,
        batch_size=8,
        lr=1e-2,
        device="cpu",
    )


@pytest.fixture
def often(monkeypatch) -> None:
    """A checkpoint after every step."""
    monkeypatch.setattr(resume, "_SECONDS", 0.0)
    monkeypatch.setattr(resume, "_SHARE", 1e9)


def contents(run: Path) -> dict[str, bytes]:
    """All tensors and the whole state of the newest checkpoint, and the metrics."""
    path, state = checkpoint.newest(run / "checkpoints")
    files = {n: (path / n).read_bytes() for n in state["files"] if n != "generators.safetensors"}
    kept = {k: v for k, v in state.items() if k not in ("files", "generators")}
    return files | {
        "state": json.dumps(kept).encode(),
        "metrics": (run / "metrics.jsonl").read_bytes(),
        "generator": checkpoint.load_tensors(path, "generators")["cpu"].numpy().tobytes(),
    }


def at_step(monkeypatch, number: int, act) -> None:
    """Call `act` while step `number` is being computed."""
    learn, steps = loop.learn, iter(range(1, 1000))

    def counting(*arguments):
        if next(steps) == number:
            act()
        return learn(*arguments)

    monkeypatch.setattr(loop, "learn", counting)


def test_a_run_that_is_there_is_not_overwritten(config):
    Path(config.out).mkdir()
    with pytest.raises(
        MmfError, match="exists. Choose another --out, or continue it with --resume"
    ):
        train(config)


def test_bad_input_leaves_no_run_behind(config):
    with pytest.raises(MmfError, match="Run `mmf extract --modality rgb` first"):
        train(replace(config, features=("a",)))
    with pytest.raises(MmfError, match="unknown key of the options of 'mfb' 'outptus'"):
        train(replace(config, fusion_options={"outptus": 1}))
    assert not Path(config.out).exists()


def test_a_store_that_is_not_there_is_refused(config, tmp_path):
    with pytest.raises(MmfError, match="none"):
        train(replace(config, store=tmp_path / "none"))


def test_resuming_says_which_run_and_with_what(config):
    with pytest.raises(MmfError, match="Name it with --out"):
        train(replace(config, out=""), resume=True)
    with pytest.raises(MmfError, match="is not a run"):
        train(config, resume=True)
    train(replace(config, epochs=1))
    with pytest.raises(MmfError, match="begun with lr 0.01; this asks for 0.1"):
        train(replace(config, epochs=1, lr=0.1), resume=True)


def test_resuming_on_other_labels_is_refused(config, xor_store):
    train(config)
    xor_store.label({"v00": ["other"], "v01": ["same"]})
    with pytest.raises(MmfError, match="not those that run .* was begun with"):
        train(config, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_with_the_items(config, monkeypatch):
    def broken(logits, labels, rated):
        return logits.sum() * float("nan")

    calls = iter(range(100))
    good = LOSSES.load("ce")
    monkeypatch.setattr(LOSSES, "load", lambda name: broken if next(calls) == 7 else good)
    with pytest.raises(loop.NonFinite, match="loss nan") as caught:
        train(config)
    written = json.loads((Path(config.out) / "nonfinite.json").read_text())
    assert len(written["items"]) == 8
    assert repr(written["items"][0]) in str(caught.value)
    assert (written["epoch"], written["step"]) == (2, 7)
    assert written["replay"] in str(caught.value)


def test_the_step_that_was_not_finite_is_repeated_by_resuming(config, tmp_path, monkeypatch):
    wanted = train(replace(config, out=tmp_path / "whole"))
    learn, seen = LOSSES.load("ce"), []

    def broken(logits, labels, rated):
        seen.append(logits.detach().clone())
        return learn(logits, labels, rated) * (float("nan") if len(seen) == 9 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(LOSSES, "load", lambda name: broken)
        with pytest.raises(loop.NonFinite):
            train(config)
        failed = seen[8]
        train(config, resume=True)
        assert torch.equal(seen[9], failed)
    assert contents(Path(config.out)) == contents(wanted)


def test_a_gradient_that_is_not_finite_stops_the_run_too(config, monkeypatch):
    def steep(logits, labels, rated):
        return (logits * 0).abs().sqrt().sum()  # 0, with a gradient of 0 / 0

    monkeypatch.setattr(LOSSES, "load", lambda name: steep)
    with pytest.raises(loop.NonFinite, match="gradient norm nan in epoch 1, step 1"):
        train(config)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_trains_evaluates_and_loads(config, fusion, small):
    features = ("a",) if fusion == "single" else ()
    run = train(
        replace(
            config,
            fusion=fusion,
            features=features,
            fusion_options=small(FUSIONS, fusion),
            epochs=2,
        )
    )
    assert 0 <= evaluate(run, device="cpu")["accuracy"] <= 1
    network = load(run)
    assert network.features == (features or ("a", "b"))
    assert network.classes == ("other", "same")
    assert not network.training
    logits = network({"a": torch.randn(2, 3, 3)})
    assert logits.shape == (2, 2)


def test_the_product_learns_what_needs_both_features_and_the_sum_does_not(config, tmp_path):
    wanted = replace(config, epochs=40)
    assert evaluate(train(wanted), device="cpu")["accuracy"] == 1
    concat = replace(wanted, fusion="concat", fusion_options={}, out=tmp_path / "concat")
    assert evaluate(train(concat), device="cpu")["accuracy"] < 0.8


@pytest.mark.parametrize("options", [{"head": "moe"}, {"precision": "bf16"}, {"normalise": "l2"}])
def test_other_settings_learn_it_too(config, options):
    run = train(replace(config, epochs=40, lr=2e-2, **options))
    assert evaluate(run, device="cpu")["accuracy"] >= 0.9


def test_several_labels_per_item_are_learned_with_bce(config, xor_store):
    bits = {f"v{i:02}": (i % 2, i // 2 % 2) for i in range(60)}
    xor_store.label(
        {v: ["a"] * a + ["b"] * b for v, (a, b) in bits.items()},
        split={v: ("train", "train", "train", "val", "test")[i % 5] for i, v in enumerate(bits)},
        name="bits",
    )
    concat = replace(config, label_set="bits", fusion="concat", fusion_options={}, epochs=20)
    found = evaluate(train(concat), device="cpu")
    assert found["gap@20"] > 0.95
    assert "accuracy" not in found


def test_the_default_folder_is_the_next_free_number(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = replace(config, epochs=1, out="")
    assert train(short) == Path("runs/mfb-1")
    Path("runs/mfb-7").mkdir()
    Path("runs/mfb-x").mkdir()
    assert train(short) == Path("runs/mfb-8")


def test_a_runs_config_repeats_it(config, tmp_path):
    run = train(config)
    again = TrainConfig.read(run / "config.json")
    assert again.features == ("a", "b")
    other = train(replace(again, out=tmp_path / "again"))
    assert contents(other) == contents(run)


def test_another_seed_gives_other_weights(config, tmp_path):
    other = train(replace(config, seed=1, out=tmp_path / "other"))
    assert contents(other)["best.safetensors"] != contents(train(config))["best.safetensors"]


def test_progress_gets_every_epoch_as_it_stands_in_the_metrics(config):
    rows = []
    run = train(config, rows.append)
    assert rows == [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows] == [1, 2, 3, 4]
    assert {"step", "train_loss", "val_loss", "val_accuracy"} < set(rows[0])


def test_training_stops_when_validation_stays_and_keeps_the_best(config):
    run = train(replace(config, epochs=200, patience=3, lr=0.05))
    rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    ranks = [(r["val_accuracy"], -r["val_loss"]) for r in rows]
    assert len(rows) == ranks.index(max(ranks)) + 1 + 3 < 200
    assert evaluate(run, split="val", device="cpu")["loss"] == pytest.approx(-max(ranks)[1])


def rows_of(run: Path) -> list[dict]:
    return [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]


def test_steps_end_a_run_and_evaluations_come_every_so_often(config):
    rows = rows_of(train(replace(config, epochs=None, steps=12, eval_every=5)))
    assert [r["step"] for r in rows] == [5, 10, 12]
    assert [r["epoch"] for r in rows] == [1, 2, 3]


def test_what_comes_first_ends_a_run(config, tmp_path):
    rows = rows_of(train(replace(config, epochs=2, steps=1000)))
    assert [r["step"] for r in rows] == [5, 10]
    rows = rows_of(train(replace(config, epochs=2, steps=7, out=tmp_path / "b")))
    assert [r["step"] for r in rows] == [5, 7]


def test_patience_counts_evaluations(config):
    rows = rows_of(train(replace(config, epochs=None, eval_every=2, patience=3, lr=0.05)))
    ranks = [(r["val_accuracy"], -r["val_loss"]) for r in rows]
    assert len(rows) == ranks.index(max(ranks)) + 1 + 3


def test_a_fixed_part_of_validation_serves_where_it_is_asked_for(config, tmp_path, monkeypatch):
    seen = []
    measure = loop.measure

    def watched(network, store, items, run, **options):
        seen.append(items)
        return measure(network, store, items, run, **options)

    monkeypatch.setattr(loop, "measure", watched)
    train(replace(config, epochs=2, eval_videos=5))
    train(replace(config, epochs=1, eval_videos=5, seed=1, out=tmp_path / "b"))
    ids = [[i.id for i in part] for part in seen]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]
    assert len(ids[0]) == len({*ids[0]}) == len(ids[2]) == 5


def test_a_batch_in_parts_has_the_gradient_of_the_whole(config, tmp_path):
    options = {"dropout": 0.0, "fusion_options": {"outputs": 16, "dropout": 0.0}, "lr": 1e-3}
    whole = load(train(replace(config, **options))).state_dict()
    parts = load(train(replace(config, **options, parts=4, out=tmp_path / "parts"))).state_dict()
    assert all(torch.allclose(parts[n], whole[n], rtol=1e-3, atol=1e-6) for n in whole)


ALL = {
    "optimiser": "sgd",
    "lr": 0.05,
    "schedule": "cosine",
    "warmup": 3,
    "l2": {"head": 1e-3, "fusion": 1e-4},
    "clip": "tensor",
    "clip_norm": 0.5,
    "ema": 0.9,
    "parts": 2,
    "balance": True,
    "modality_dropout": 0.3,
    "sample": "sequence",
    "max_steps": 4,
    "normalise": "l2_joint",
    "eval_every": 3,
    "eval_videos": 8,
    "precision": "bf16",
}


@pytest.mark.parametrize("number", [1, 6, 8, 15])
def test_with_everything_asked_for_a_run_that_was_stopped_goes_on_to_the_same_bits(
    config, tmp_path, monkeypatch, number
):
    config = replace(config, **ALL)
    wanted = train(replace(config, out=tmp_path / "whole"))
    with monkeypatch.context() as patch:
        at_step(patch, number, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted, match=f"after step {number};"):
            train(config)
    assert contents(train(config, resume=True)) == contents(wanted)


def test_the_average_of_the_weights_is_evaluated_and_kept(config):
    run = train(replace(config, epochs=3, ema=0.9))
    path, _ = checkpoint.newest(run / "checkpoints")
    average, network = (checkpoint.load_tensors(path, n) for n in ("average", "network"))
    kept, best = load(run).state_dict(), rows_of(run)
    assert not torch.equal(average["head.0.linear.weight"], network["head.0.linear.weight"])
    if best[-1] == max(best, key=lambda r: (r["val_accuracy"], -r["val_loss"])):
        assert all(torch.equal(kept[n], average[n]) for n in kept)
    assert torch.equal(average["normalise.0.mean"], network["normalise.0.mean"])


def test_every_step_is_told_with_its_loss_and_rate(config):
    told = []
    train(replace(config, epochs=2), on_step=told.append)
    assert [t["step"] for t in told] == list(range(1, 11))
    assert all(t["items_per_second"] > 0 and 0 <= t["waiting"] <= 1 for t in told)


def test_scalars_go_to_tensorboard_where_it_is_installed(config):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(replace(config, epochs=2))
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("val_loss")] == [5, 10]
    assert events.Scalars("val_loss")[1].value == pytest.approx(rows_of(run)[1]["val_loss"])


def test_a_project_without_its_package_is_refused_before_anything_is_written(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MmfError, match="project 'mine' .* is not installed"):
        train(replace(config, wandb="mine"))
    assert not Path(config.out).exists()


def test_statistics_come_from_the_training_split_alone(config, xor_store, tmp_path):
    def without(split: str) -> FeatureStore:
        other = FeatureStore.create(tmp_path / "other")
        for name, spec in xor_store.features.items():
            tracks = [xor_store.read(name, v) for v in xor_store.state(name)]
            held = {i.video_id for i in xor_store.items(split)}
            tracks = [
                replace(t, values=t.values + (1000 if t.video_id in held else 0)) for t in tracks
            ]
            other.add(spec, tracks)
        classes = xor_store.classes()
        items = xor_store.items()
        other.label(
            {i.video_id: [classes[c] for c in i.labels] for i in items},
            split={i.video_id: i.split for i in items},
        )
        return other

    wanted = load(train(replace(config, epochs=1))).state_dict()
    other = without("test")
    found = load(
        train(replace(config, epochs=1, store=other.path, out=tmp_path / "b"))
    ).state_dict()
    rows = np.concatenate(
        [xor_store.read("a", i.video_id).values for i in xor_store.items("train")]
    )
    assert np.allclose(wanted["normalise.0.mean"], rows.mean(0), atol=1e-6)
    assert all(torch.equal(found[n], wanted[n]) for n in wanted)


def test_a_missing_feature_trains_without_it(config, xor_store, caplog):
    extra = replace(xor_store.features["a"], name="c", modality="c")
    xor_store.add(extra, [replace(xor_store.read("a", "v00"))])
    run = train(replace(config, epochs=1))
    assert "1 of 60 items have c" in caplog.text
    assert load(run).features == ("a", "b", "c")


@pytest.mark.parametrize("step", [1, 5, 7, 10])  # 5 steps an epoch
def test_sigterm_writes_a_checkpoint_and_resuming_gives_the_same_run(
    config, tmp_path, monkeypatch, step
):
    wanted = train(replace(config, out=tmp_path / "whole"))
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted, match=f"after step {step};.*--resume") as caught:
            train(config)
    assert caught.value.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    torch.manual_seed(123)  # the states come from the checkpoint, and not from this process
    assert contents(train(config, resume=True)) == contents(wanted)


@pytest.mark.parametrize("step", [1, 8])
def test_a_crash_between_checkpoints_loses_nothing(config, tmp_path, monkeypatch, often, step):
    wanted = train(replace(config, out=tmp_path / "whole"))

    def crash():
        raise RuntimeError("power")

    with monkeypatch.context() as patch:
        at_step(patch, step, crash)
        with pytest.raises(RuntimeError, match="power"):
            train(config)
    assert contents(train(config, resume=True)) == contents(wanted)


KILLED = """
import os, sys
import torch._dynamo  # which an optimiser imports, for seconds: once for all children
from mmf.fuse import TrainConfig
from mmf.fuse.training import resume
from mmf.fuse.training.loop import train

resume._SECONDS = 0

def progress(row):
    if row["epoch"] == 3:
        os.kill(os.getpid(), 9)

for path in sys.argv[1:]:
    if os.fork() == 0:
        train(TrainConfig.read(path), progress)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_sigkill_and_resume_give_the_weights_of_a_whole_run(config, tmp_path, small):
    changes = {
        "moe": {"ema": 0.9, "head": "moe"},
        # with batch norm
        "netvlad": {"fusion": "concat", "aggregate": "netvlad", "optimiser": "sgd"},
        "gmsa": {"fusion": "gmsa", "sample": "frames", "parts": 2},
    }
    asked = {}
    for name, options in changes.items():
        options = {"fusion_options": small(FUSIONS, options.get("fusion", "mfb"))} | options
        asked[name] = replace(config, **options, out=tmp_path / name)
        (tmp_path / f"{name}.json").write_text(json.dumps(asked[name].to_json()))
    arguments = [sys.executable, "-c", KILLED, *(str(tmp_path / f"{name}.json") for name in asked)]
    died = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    assert died.split() == [str(-signal.SIGKILL.value)] * 3
    for name, one in asked.items():
        assert len(rows_of(Path(one.out))) == 3
        wanted = train(replace(one, out=tmp_path / "whole" / name))
        assert contents(train(one, resume=True)) == contents(wanted), name


def test_resuming_a_finished_run_changes_nothing(config):
    before = contents(train(config))
    assert contents(train(config, resume=True)) == before


def test_a_broken_checkpoint_is_passed_over_for_the_one_before(config, tmp_path, often, caplog):
    wanted = train(replace(config, out=tmp_path / "whole"))
    run = train(config)
    path, _ = checkpoint.newest(run / "checkpoints")
    data = bytearray((path / "network.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "network.safetensors").write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert contents(train(config, resume=True)) == contents(wanted)
    assert "network.safetensors does not match" in caplog.text


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_smoothed_labels_are_learned_from_and_not_measured_with(config, tmp_path, loss):
    sure = train(replace(config, epochs=10, loss=loss, out=tmp_path / "sure"))
    smooth = train(replace(config, epochs=10, loss=loss, label_smoothing=0.4))
    spread = [
        load(run).double()({"a": torch.ones(1, 1, 3).double(), "b": torch.ones(1, 1, 4).double()})
        for run in (sure, smooth)
    ]
    assert spread[1].abs().max() < spread[0].abs().max()
    rows = [json.loads(x) for x in (smooth / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train_loss"] > rows[-1]["val_loss"]
