"""A comparison: equal budgets, chosen on validation, reported on test, killed and gone on with."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse import Interrupted, TrainConfig, evaluate, load
from mmf.fuse.compare import running, scores, table
from mmf.fuse.compare.comparison import compare
from mmf.fuse.compare.grid import Axes, make_row, make_rows
from mmf.fuse.compare.question import Question
from mmf.fuse.compare.scores import Scores, flops_per_item, scores_of
from mmf.fuse.run import Run
from mmf.fuse.training import loop, resume
from mmf.store.stored_feature import Milliseconds


@pytest.fixture
def base(xor_store) -> TrainConfig:
    return TrainConfig(store=xor_store.path, epochs=3, batch_size=16, device="cpu")


def ask(base, *fusions, grid=None, seeds=2, **axes) -> Question:
    axes = Axes(fusions=fusions, feature_sets=(("a", "b"),), **axes)
    return Question(
        rows=make_rows(base, axes, grid or {}, {"mfb.outputs": 16, "lr": 0.01}), seeds=seeds
    )


def told(answers) -> dict[str, dict]:
    """What the table says of each row, but for how long things took and how large they are."""
    found = [table.numbers(answer) for answer in answers]
    varying = ("seconds per epoch", "milliseconds per item", "bytes on disk")
    return {r["row"]: {k: v for k, v in r.items() if k not in varying} for r in found}


def test_a_row_to_differ_from_must_be_there(base, tmp_path):
    with pytest.raises(UnknownName, match="unknown row 'mbf'. Did you mean 'mfb'"):
        compare(ask(base, "concat", "mfb"), tmp_path / "c", against="mbf")
    assert not (tmp_path / "c").exists()


def test_a_store_that_is_not_there_leaves_no_folder(base, tmp_path):
    with pytest.raises(MmfError, match="none"):
        compare(ask(replace(base, store=tmp_path / "none"), "concat"), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_cell_that_cannot_be_trained_is_a_row_with_the_reason(base, tmp_path):
    asked = ask(base, "concat", "mfb", train_videos=(20, 37), seeds=1)
    answers = compare(asked, tmp_path / "c")
    failures = {a.row.name: a.failure for a in answers if a.failure}
    assert set(failures) == {"concat-37", "mfb-37"}
    assert "split 'train' has 36 videos" in failures["mfb-37"]
    assert answers[1].interval is None
    assert answers[2].interval is not None
    _, cells = table.for_people(answers)
    assert "36 videos" in cells[1][-1]
    assert cells[0][-1] == ""


def test_where_nothing_can_be_trained_the_reason_is_the_error(base, tmp_path):
    with pytest.raises(MmfError, match="no row could be trained; mfb-37: .* 36 videos"):
        compare(ask(base, "mfb", train_videos=(37, 38)), tmp_path / "c")


def test_validation_chooses_and_only_the_chosen_meets_the_test_split(base, tmp_path):
    asked = ask(base, "mfb", grid={"lr": (1e-6, 0.03)})
    (answer,) = compare(asked, tmp_path / "c")
    assert answer.cell.chosen == {"lr": 0.03}
    means = [
        np.mean([json.loads((p / "done.json").read_text())["value"] for p in cell.iterdir()])
        for cell in sorted((tmp_path / "c" / "runs").iterdir())
    ]
    assert sorted(c.name for c in (tmp_path / "c" / "runs").iterdir()) == [
        "mfb,lr=0.03",
        "mfb,lr=1e-06",
    ]
    assert means[0] > means[1]
    kept = {p.parents[1].name for p in (tmp_path / "c").rglob("test.json")}
    assert kept == {"mfb,lr=0.03"}


def test_a_setting_that_cannot_be_trained_is_not_chosen(base, tmp_path):
    said = []
    asked = ask(base, "concat", grid={"train_videos": (37, 20)}, seeds=1)
    (answer,) = compare(asked, tmp_path / "c", tell=said.append)
    assert answer.cell.chosen == {"train_videos": 20}
    assert said[0].startswith("concat,train_videos=37: train_videos = 37: split 'train' has 36")


def test_a_row_says_what_evaluate_says_of_its_runs(base, tmp_path):
    (concat, mfb) = compare(ask(base, "concat", "mfb"), tmp_path / "c")
    found = told([concat, mfb])["mfb"]
    runs = [tmp_path / "c" / "runs" / "mfb" / f"seed-{s}" for s in (0, 1)]
    measured = [evaluate(run, device="cpu") for run in runs]
    for metric in ("accuracy", "gap@20", "map", "perr"):
        values = [one[metric] for one in measured]
        assert found[metric] == pytest.approx(np.mean(values))
        assert found[f"{metric} sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    other = [evaluate(r.path, device="cpu")["accuracy"] for r in concat.runs]
    assert found["difference"] == pytest.approx(found["accuracy"] - np.mean(other))
    assert found["difference low"] <= found["difference"] <= found["difference high"]
    assert found["parameters"] == sum(p.numel() for p in load(runs[0]).parameters())
    assert found["test items"] == 12


def test_every_row_has_the_same_steps_and_seeds(base, tmp_path):
    asked = ask(replace(base, epochs=None, steps=7, eval_every=3), "concat", "mfb")
    for answer in compare(asked, tmp_path / "c"):
        steps = [[row["step"] for row in running.history(run.path)] for run in answer.runs]
        assert steps == [[3, 6, 7]] * 2
        assert [run.path.name for run in answer.runs] == ["seed-0", "seed-1"]


def test_killed_anywhere_the_same_call_goes_on_to_the_same_answer(base, tmp_path, monkeypatch):
    asked = ask(replace(base, epochs=2), "concat", "mfb", grid={"lr": (0.003, 0.03)})
    whole = told(compare(asked, tmp_path / "whole"))
    monkeypatch.setattr(resume, "_SECONDS", 0.0)
    monkeypatch.setattr(resume, "_SHARE", 1e9)
    learn, done, begun = loop.learn, [], []
    monkeypatch.setattr(
        running, "train", lambda c, *a, **o: begun.append(c.out) or loop.train(c, *a, **o)
    )

    def killed(*arguments):
        done.append(1)
        if len(done) in (4, 20, 27):
            raise KeyboardInterrupt
        return learn(*arguments)

    monkeypatch.setattr(loop, "learn", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            compare(asked, tmp_path / "cut")
    (tmp_path / "cut" / "runs" / "mfb,lr=0.03" / "seed-1").mkdir(parents=True)  # before its config
    assert told(compare(asked, tmp_path / "cut")) == whole
    assert len(begun) == len(set(begun)) + 3  # what was finished is not begun again
    assert sum(done) == 8 * 6 + 3
    monkeypatch.setattr(running, "train", None)
    assert told(compare(asked, tmp_path / "cut")) == whole


def test_a_signal_says_that_the_same_command_goes_on(base, tmp_path, monkeypatch):
    def stopped(config, *arguments, **options):
        raise Interrupted("stopped")

    monkeypatch.setattr(running, "train", stopped)
    with pytest.raises(Interrupted, match="in 'concat'; what is trained is kept") as caught:
        compare(ask(base, "concat"), tmp_path / "c")
    assert caught.value.exit_code == 75


def test_late_fusion_takes_the_runs_of_other_rows_seed_by_seed(base, tmp_path):
    single = [make_row(n, replace(base, fusion="single", features=(n,)), {}) for n in "ab"]
    both = replace(base, features=("a", "b"), fusion="late")
    late = make_row("late", replace(both, fusion_options={"runs": ["{a}", "{b}"]}), {})
    asked = Question(rows=(*single, late), seeds=2)
    a, _, fused = compare(asked, tmp_path / "c")
    for one, other in zip(a.runs, fused.runs, strict=True):
        of_one, of_other = load(one.path), load(other.path)
        assert torch.equal(of_one.head[0].linear.weight, of_other.head[0].linear.weight)
    lone = Question(rows=(late, *single), seeds=1)
    answer = compare(lone, tmp_path / "d")[0]
    assert "takes the runs of row 'a', which has none before it" in answer.failure


def test_rows_of_other_items_differ_on_those_that_both_have(base, xor_store, tmp_path):
    xor_store.label({"only": ["same"]}, name="default", split={"only": "test"})
    from mmf.store import Track

    track = Track(video_id="only", values=np.ones((2, 3)), times=np.arange(2))
    xor_store.add(xor_store.features["a"], [track])
    rows = [make_row(n, replace(base, features=(n,)), {}) for n in "ab"]
    a, b = compare(Question(rows=tuple(rows), seeds=1), tmp_path / "c")
    assert (told([a])["a"]["test items"], told([b])["b"]["test items"]) == (13, 12)
    both = [scores_of(run.path, "cpu") for run in (a.runs[0], b.runs[0])]
    shared = [one.hits[one.items != "only", 0].mean() for one in both]
    assert b.interval.difference == pytest.approx(shared[1] - shared[0])


def test_the_flops_of_a_linear_classifier_are_two_for_each_weight(base, tmp_path):
    (answer,) = compare(ask(base, "concat", seeds=1), tmp_path / "c")
    assert answer.scores[0].flops == 2 * (3 + 4) * 2


@pytest.mark.parametrize("aggregate", ["lstm", "gru"])
def test_the_flops_of_a_recurrent_layer_and_of_attention_are_not_left_out(
    base, xor_store, tmp_path, aggregate
):
    lengths = {n: [len(xor_store.read(n, f"v{i:02}").values) for i in range(8)] for n in "ab"}
    steps = {n: sum(lengths[n]) for n in "ab"}
    gates = {"lstm": 4, "gru": 3}[aggregate]
    config = replace(base, features=("a",), fusion="single", epochs=1)
    recurrent = replace(config, aggregate=aggregate, aggregate_options={"hidden": 8})
    early = replace(config, fusion="early", fusion_options={"hidden": 8, "layers": 1, "heads": 2})
    sizes = {"hidden": 8, "layers": 1, "heads": 2}
    bert = replace(config, fusion="mmf_transformer", fusion_options=sizes)
    rows = tuple(make_row(n, c, {}) for n, c in (("r", recurrent), ("e", early), ("b", bert)))
    runs = [answer.runs[0].path for answer in compare(Question(rows=rows, seeds=1), tmp_path / "c")]
    items = xor_store.items()[:8]
    found = [flops_per_item(load(run), xor_store, items, Run.open(run)) for run in runs]
    assert found[0] > 2 * gates * 8 * (3 + 8) * steps["a"] / 8
    tokens = 1 + max(lengths["a"])
    attention = 2 * 2 * tokens * tokens * 8  # Q K^T and A V of 8 numbers in all
    dense = 2 * tokens * (4 * 8 * 8 + 2 * 8 * 32) + 2 * max(lengths["a"]) * 3 * 8
    assert found[1] == attention + dense + 2 * (2 * 8 * 8 + 8 * 2)
    assert found[2] > attention + dense


def test_the_csv_has_every_number_and_markdown_the_published_figure(base, tmp_path):
    row = make_row(
        "ours", replace(base, features=("a", "b")), {}, {"accuracy": 0.861, "perr": "+3 %"}
    )
    answers = compare(Question(rows=(row,), seeds=2), tmp_path / "c")
    table.write_csv(answers, tmp_path / "t.csv")
    (line,) = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert line["published accuracy"] == "0.861"
    each = [one.metrics["accuracy"] for one in answers[0].scores]
    assert float(line["accuracy"]) == sum(each) / 2
    table.write_markdown(answers, tmp_path / "t.md", ["note"])
    text = (tmp_path / "t.md").read_text()
    assert "accuracy, published" in text
    assert "0.861" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_what_a_policy_uses_stands_before_what_that_costs(base, xor_store, tmp_path, monkeypatch):
    measured = {"a": Milliseconds(compute=2.0), "b": Milliseconds(compute=0.5, decode=1.0)}
    monkeypatch.setattr(scores, "took", lambda store, specs: {n: measured[n] for n in specs})
    options = {"decisions": "all", "segments": 2, "gflops": {"a": 3.0, "b": 0.25}}
    common = replace(base, fusion="policy", epochs=4, fusion_options=options)
    rows = [
        make_row("+".join(features), replace(common, features=features), {}, {})
        for features in (("a",), ("a", "b"))
    ]
    answers = compare(Question(rows=tuple(rows), seeds=1), tmp_path / "c")
    columns, cells = table.for_people(answers)
    at = columns.index("used_a")
    assert columns[at : at + 4] == ["used_a", "used_b", "GFLOPs used", "ms used"]
    tested = answers[0].scores[0].items.tolist()
    a, b = (np.mean([len(xor_store.read(n, v).times) for v in tested]) for n in "ab")
    assert [row[at + 3] for row in cells] == [f"{2 * a:.3g}", f"{2 * a + 1.5 * b:.3g}"]
    assert all(float(row[at + 2]) > 0 for row in cells)
    assert "milliseconds as extraction has measured them" in " ".join(table.notes(answers, "", 1))


def test_a_statistic_takes_the_items_in_the_order_asked_for():
    one = Scores(
        metrics={},
        parameters=1,
        flops=1.0,
        items=np.array(["x", "y"]),
        videos=np.array(["x", "y"]),
        scores=np.array([[0.9, 0.1], [0.8, 0.2]]),
        hits=np.array([[True, False], [False, True]]),
        positives=np.array([1, 1]),
    )
    statistic = one.statistic("accuracy", np.array(["y", "x"]))
    assert statistic.value(np.array([1.0, 0.0])) == 0
    assert statistic.value(np.array([0.0, 1.0])) == 1
