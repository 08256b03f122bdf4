"""Configs: strict in what they take, equal after a round trip."""

import json
import subprocess
import sys

import pytest

from mmf import MmfError, UnknownName
from mmf.fuse import LOSSES, METRICS
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.config import TrainConfig
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.heads import HEADS


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fusion": "fc_conct"}, "unknown fusion 'fc_conct'. Did you mean 'fc_concat'"),
        ({"aggregate": "men"}, "Did you mean 'mean'"),
        ({"head": "logisic"}, "Did you mean 'logistic'"),
        ({"loss": "bec"}, "unknown loss 'bec'"),
        ({"lr": "0.1"}, "lr = '0.1': expected float"),
        ({"lr": 0.0}, "lr = 0.0: expected more than 0"),
        ({"lr": float("nan")}, "lr = nan"),
        ({"epochs": True}, "epochs = True: expected int"),
        ({"epochs": 0}, "epochs = 0: expected at least 1"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"steps": 0}, "steps = 0: expected at least 1"),
        ({"ema": 1.0}, "ema = 1.0"),
        ({"l2": {"haed": 1e-6}}, "Did you mean 'head'"),
        ({"l2": {"head": -1.0}}, "numbers of 0 or more"),
        ({"optimiser": "adm"}, "Did you mean 'adam'"),
        ({"sample": "frame"}, "Did you mean 'frames'"),
        ({"warmup": -1}, "warmup = -1: expected 0 or more"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0"),
        ({"fusion_options": {"x": object()}}, "expected what JSON can hold"),
        ({"features": "rgb"}, "features = 'rgb'"),
        ({"features": ("rgb", "rgb")}, "each feature once"),
        ({"fusion_options": [1]}, "fusion_options"),
    ],
)
def test_a_bad_value_is_refused_in_a_sentence(options, sentence, no_shape_checks):
    with pytest.raises(MmfError) as caught:
        TrainConfig(**options)
    assert sentence in str(caught.value)


def test_an_unknown_key_suggests_the_nearest():
    with pytest.raises(UnknownName, match="'fusio'. Did you mean 'fusion'"):
        TrainConfig.from_json({"fusio": "mfb"})


@pytest.mark.parametrize("text", ["", "[1]", "{", "\xff"])
def test_a_file_that_is_no_config_is_refused(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(MmfError):
        TrainConfig.read(path)
    with pytest.raises(MmfError, match="cannot read"):
        TrainConfig.read(tmp_path / "none.json")


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_config_equals_itself_after_json(tmp_path, fusion):
    config = TrainConfig(
        store=tmp_path / "feats", fusion=fusion, features=("rgb",), fusion_options={"x": [1, None]}
    )
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    for value in (config.to_json(), {"config": config.to_json(), "data": {}}):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(value))
        assert TrainConfig.read(path) == config


@pytest.mark.parametrize("table", [AGGREGATORS, FUSIONS, HEADS, LOSSES, METRICS])
def test_every_name_of_a_table_loads(table):
    assert all(callable(table.load(name)) for name in table)


def test_importing_the_stage_loads_no_torch():
    code = "import mmf.fuse, mmf.fuse.config, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_functions_are_functions_whatever_was_imported_first():
    import mmf.fuse.evaluation.measure
    import mmf.fuse.inference.prediction
    import mmf.fuse.training.loop
    from mmf.fuse import evaluate, load, predict, train

    assert all(callable(f) and not hasattr(f, "__path__") for f in (evaluate, load, predict, train))
    with pytest.raises(AttributeError):
        mmf.fuse.tarin  # noqa: B018
