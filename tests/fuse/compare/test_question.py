"""What is asked: rows and cells with names of their own, and one question to a folder."""

import json
from dataclasses import replace

import pytest

from mmf import MmfError, UnknownName
from mmf.fuse import TrainConfig
from mmf.fuse.compare.grid import Axes, check_used, folder_name, make_row, make_rows
from mmf.fuse.compare.question import Question, begin

BASE = TrainConfig(store="feats", epochs=2)


def rows(grid=None, settings=None, **axes):
    axes = {"feature_sets": (("a", "b"),)} | axes
    return make_rows(BASE, Axes(**axes), grid or {}, settings or {})


def names(**options) -> list[str]:
    return [row.name for row in rows(**options)]


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UnknownName, match="unknown fusion 'mbf'. Did you mean .*'mfb'"):
        rows(fusions=("mbf",))
    with pytest.raises(UnknownName, match="'learning_rate'"):
        rows(grid={"learning_rate": (1, 2)})
    with pytest.raises(UnknownName, match="setting 'mbf'. Did you mean .*'mfb'"):
        rows(grid={"mbf.outputs": (1, 2)})
    with pytest.raises(MmfError, match="lr = 'fast': expected float"):
        rows(grid={"lr": ("fast",)})


def test_a_thing_asked_for_twice_and_seeds_that_are_none_are_refused():
    with pytest.raises(MmfError, match="each once"):
        Axes(fusions=("mfb", "mfb"))
    with pytest.raises(MmfError, match="two rows of a comparison are called 'concat'"):
        Question(rows=rows() + rows())
    with pytest.raises(MmfError, match="0 seeds"):
        Question(rows=rows(), seeds=0)
    with pytest.raises(MmfError, match="without a row"):
        Question(rows=())


def test_a_setting_of_a_part_that_no_row_has_is_refused():
    asked = rows(fusions=("concat", "mfb"))
    check_used(["lr", "mfb.outputs", "logistic.x", "l2.head"], asked)
    with pytest.raises(MmfError, match="setting 'netvlad.clusters': no row has 'netvlad'"):
        check_used(["netvlad.clusters"], asked)


def test_rows_are_all_combinations_called_by_what_tells_them_apart():
    assert names(fusions=("concat", "mfb")) == ["concat", "mfb"]
    assert names(fusions=("concat",), aggregates=("mean", "dbof")) == ["mean-concat", "dbof-concat"]
    assert names(feature_sets=(("a",), ("a", "b"))) == ["concat-a", "concat-a+b"]
    assert names(train_videos=(5, 10)) == ["concat-5", "concat-10"]
    assert [r.cells[0].config.train_videos for r in rows(train_videos=(5, 10))] == [5, 10]


def test_single_is_each_feature_alone_and_a_fusion_of_rows_has_no_aggregator():
    assert names(fusions=("single", "mfb")) == ["single-a", "single-b", "mfb"]
    both = names(fusions=("mixer", "mfb"), aggregates=("mean", "max"))
    assert both == ["mixer", "mean-mfb", "max-mfb"]


def test_every_point_of_the_grid_is_a_cell_and_those_of_other_fusions_are_none():
    grid = {"lr": (0.1, 0.01), "mfb.outputs": (8, 16)}
    concat, mfb = rows(fusions=("concat", "mfb"), grid=grid)
    assert [c.name for c in concat.cells] == ["concat,lr=0.1", "concat,lr=0.01"]
    assert [(c.config.lr, c.config.fusion_options) for c in mfb.cells] == [
        (lr, {"outputs": o}) for lr in (0.1, 0.01) for o in (8, 16)
    ]
    assert mfb.cells[3].chosen == {"lr": 0.01, "mfb.outputs": 16}


def test_settings_reach_mappings_by_key_and_parts_by_name():
    settings = {"head": "moe", "moe.mixtures": 4, "l2.head": 1e-6, "mfb.factors": 2}
    concat, mfb = (
        row.cells[0].config for row in rows(fusions=("concat", "mfb"), settings=settings)
    )
    assert concat.head_options == mfb.head_options == {"mixtures": 4}
    assert concat.l2 == {"head": 1e-6}
    assert (concat.fusion_options, mfb.fusion_options) == ({}, {"factors": 2})


def test_names_of_folders_are_plain_short_and_their_own():
    long = [folder_name(f"mfb,fusion_options.runs={'x' * 200}{i}") for i in range(2)]
    assert long[0] != long[1]
    assert max(map(len, long)) <= 100
    assert "/" not in folder_name("late,runs=../a/b")
    assert folder_name("a/b") != folder_name("a_b")


def test_a_folder_with_another_question_or_with_something_else_is_refused(tmp_path):
    asked = Question(rows=rows(fusions=("concat", "mfb")), seeds=2)
    begin(replace(asked, seeds=9), tmp_path / "c")
    begin(asked, tmp_path / "c")  # nothing was trained for the question before
    (tmp_path / "c" / "runs").mkdir()
    begin(asked, tmp_path / "c")
    with pytest.raises(MmfError, match=r"seeds is 2 there, and 3 is asked. Name another folder"):
        begin(replace(asked, seeds=3), tmp_path / "c")
    with pytest.raises(MmfError, match="rows is concat, mfb there, and concat is asked"):
        begin(replace(asked, rows=asked.rows[:1]), tmp_path / "c")
    slower = tuple(make_row(r.name, replace(BASE, lr=0.5), {}) for r in asked.rows)
    with pytest.raises(MmfError, match=r"row concat.cells\[0\].config.* there"):
        begin(replace(asked, rows=slower), tmp_path / "c")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(MmfError, match="holds no comparison"):
        begin(asked, tmp_path / "full")
    (tmp_path / "c" / "compare.json").write_text("{}")
    with pytest.raises(MmfError, match="holds no comparison"):
        begin(asked, tmp_path / "c")


def test_a_question_is_read_back_equal():
    published = {"gap@20": 0.833, "accuracy": "+15 %"}
    row = make_row("mfb", replace(BASE, fusion="mfb"), {"lr": (0.1, 0.2)}, published)
    asked = Question(rows=(row,), seeds=4)
    assert Question.from_json(json.loads(json.dumps(asked.to_json()))) == asked
