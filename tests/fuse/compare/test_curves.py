"""The pictures: lines are the seeds' means, and a curve over videos needs more than one number."""

import importlib.util
from dataclasses import replace

import pytest

from mmf.fuse import TrainConfig
from mmf.fuse.compare.comparison import compare
from mmf.fuse.compare.curves import draw, over_steps, over_videos
from mmf.fuse.compare.grid import Axes, make_rows
from mmf.fuse.compare.question import Question
from mmf.fuse.compare.running import history


@pytest.fixture
def answers(xor_store, tmp_path):
    base = TrainConfig(store=xor_store.path, steps=4, eval_every=2, batch_size=16, device="cpu")
    axes = Axes(fusions=("concat",), feature_sets=(("a", "b"),), train_videos=(20, 36, 37))
    rows = make_rows(base, axes, {}, {})
    return compare(Question(rows=rows, seeds=2), tmp_path / "c")


def test_without_matplotlib_nothing_is_drawn(answers, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert draw(answers, tmp_path) == []


def test_both_pictures_are_written_in_both_formats(answers, tmp_path):
    pytest.importorskip("matplotlib")
    written = draw(answers, tmp_path)
    names = ("curves", "learning_curve")
    assert written == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    assert all((tmp_path / name).stat().st_size > 3000 for name in written)
    assert draw(answers[:1], tmp_path) == ["curves.png", "curves.svg"]


def test_a_curve_is_the_mean_of_the_seeds_at_the_steps_that_all_reached(answers):
    line = over_steps(answers)[0]
    one, other = ([row["val_accuracy"] for row in history(run.path)] for run in answers[0].runs)
    assert line.x == (2, 4)
    assert line.mean == pytest.approx([(a + b) / 2 for a, b in zip(one, other, strict=True)])
    spread = [abs(a - b) / 2**0.5 for a, b in zip(one, other, strict=True)]
    assert line.sd == pytest.approx(spread)
    metrics = answers[0].runs[1].path / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0] + "\n")  # it stopped early
    assert over_steps(answers)[0].x == (2,)


def test_a_learning_curve_has_a_point_for_each_number_that_was_trained(answers):
    (line,) = over_videos(answers)
    assert (line.name, line.x) == ("concat", (20, 36))
    means = [sum(one.metrics["accuracy"] for one in a.scores) / 2 for a in answers[:2]]
    assert line.mean == pytest.approx(means)
    assert over_videos([replace(answers[2])]) == over_videos(answers[:1]) == []
