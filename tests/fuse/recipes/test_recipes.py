"""The recipes: every row of every paper's table builds, with the sizes that the papers tell of."""

from dataclasses import replace

import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse import METRICS, TrainConfig
from mmf.fuse.compare import table
from mmf.fuse.compare.comparison import compare
from mmf.fuse.compare.grid import changed, make_row
from mmf.fuse.compare.question import Question
from mmf.fuse.network import Network
from mmf.fuse.recipes import RECIPES
from mmf.fuse.recipes.contract import recipe, recipe_row
from mmf.fuse.training.schedule import make_schedule

SIZES = {"rgb": (1024,), "audio": (128,), "flow": (512,), "text": (384,), "small": (1280,)}
CLASSES = [str(c) for c in range(3862)]
ROWS = [(name, row) for name in RECIPES for row in recipe(name, TrainConfig()).rows]


def network(config: TrainConfig) -> Network:
    """Its network at YouTube-8M's sizes, without memory for its weights."""
    config = replace(config, text="")
    if config.fusion_options.get("runs"):
        config = replace(config, fusion_options={})
    with torch.device("meta"):
        return Network(config, {n: SIZES[n] for n in config.features}, CLASSES, "bce")


def parameters(name: str) -> int:
    return network(recipe_row(name, TrainConfig()).config).parameter_counts()["total"]


def test_unknown_recipes_and_rows_suggest_the_nearest():
    with pytest.raises(UnknownName, match="unknown recipe 'mfb_men'. Did you mean .*'mfb_mean'"):
        recipe("mfb_men", TrainConfig())
    with pytest.raises(UnknownName, match="row of recipe 'mfb_mean' 'consat'. Did you mean 'conc"):
        recipe_row("mfb_mean:consat", TrainConfig())


def test_features_that_do_not_fit_are_refused():
    with pytest.raises(MmfError, match="takes 2 features, rgb, audio in this order; got a, b, c"):
        recipe("gmsa", TrainConfig(features=("a", "b", "c")))


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_every_row_builds_and_its_figures_are_of_metrics(name, row):
    found = recipe(name, TrainConfig())
    one = found.rows[row]
    assert network(one.config).parameter_counts()["total"] > 0
    make_schedule(one.config)
    assert set(one.published) <= set(METRICS)
    assert all(0 < v < 1 for v in one.published.values() if isinstance(v, float))
    assert found.main in found.rows
    assert found.source
    assert found.notes


def test_the_sizes_of_mfbs_table_are_those_of_its_arithmetic():
    experts = {n: n * 3862 * 5 + 3862 * 2 for n in (1000, 1152, 10_000)}  # 3 gates, 2 experts, bias
    projections = 1025 * 5000 + 129 * 5000
    missing = 1024 + 128  # a vector for a feature that an item lacks
    assert parameters("mfb_mean:concat") == experts[1152] + missing
    assert parameters("mfb_mean:mfb") == experts[1000] + projections
    assert parameters("mfb_mean:fc_concat") == experts[10_000] + projections + missing


def test_the_sizes_of_gmsas_table_differ_by_what_the_paper_says():
    mib = {row: parameters(f"gmsa:{row}") * 4 / 2**20 for row in recipe("gmsa", TrainConfig()).rows}
    assert mib["share_att-bd"] == mib["baseline"] == pytest.approx(48.9, abs=0.7)
    assert mib["gate_att-bd10"] - mib["baseline"] == pytest.approx(50.2 - 48.9, abs=0.1)
    assert mib["gate_op-tp30"] - mib["baseline"] == pytest.approx(61 - 48.9, abs=0.1)


def test_a_recipe_takes_over_where_it_runs_and_nothing_else():
    base = TrainConfig(store="yt8m.mmf", features=("v", "s"), seed=7, lr=0.5, device="cpu")
    config = recipe_row("mfb_netvlad:audio", base).config
    assert (config.store, config.features, config.seed) == ("yt8m.mmf", ("s",), 7)
    assert (config.lr, config.steps, config.batch_size) == (2e-4, 250_000, 128)
    assert recipe_row("mfb_netvlad", base).config.fusion == "mfb"


def test_fewer_steps_keep_the_number_of_evaluations():
    config = recipe_row("mfb_mean", TrainConfig(), 500).config
    assert (config.steps, config.eval_every) == (500, 20)
    assert recipe_row("gmsa", TrainConfig(), 500).config.eval_every is None


def test_a_table_shows_the_published_figures_beside_ours(xor_store, tmp_path):
    base = TrainConfig(store=xor_store.path, features=("a", "b"), device="cpu")
    small = {"mfb.outputs": 8, "fc_concat.outputs": 8, "batch_size": 12}
    found = recipe("mfb_mean", base, 4)
    rows = tuple(
        make_row(n, changed(r.config, small), {}, r.published) for n, r in found.rows.items()
    )
    answers = compare(Question(rows=rows, seeds=1), tmp_path / "c")
    columns, cells = table.for_people(answers)
    at = columns.index("gap@20, published")
    assert columns[at - 1] == "gap@20"
    assert [row[at] for row in cells] == ["0.381", "0.696", "0.742", "0.818", "0.833"]
    assert all(float(row[at - 1]) for row in cells)


def test_late_fusion_of_the_recipe_takes_the_rows_before_it(xor_store, tmp_path):
    base = TrainConfig(store=xor_store.path, features=("a", "b"), device="cpu")
    found = recipe("early_late", base, 3)
    rows = tuple(make_row(n, found.rows[n].config, {}) for n in ("rgb", "flow", "late"))
    answers = compare(Question(rows=rows, seeds=1), tmp_path / "c")
    assert [answer.failure for answer in answers] == ["", "", ""]
