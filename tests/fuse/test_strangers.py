"""The folder of a run from a stranger: what is not as mmf writes it is refused in a sentence."""

import json

import pytest

from mmf import MmfError
from mmf.fuse.config import TrainConfig
from mmf.fuse.run import Run


def changed(path, change):
    values = json.loads((path / "config.json").read_text())
    change(values)
    (path / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("config"),
        lambda values: values.update(data=[]),
        lambda values: values.update(data={}),
        lambda values: values["data"].update(features={"a": {"spec": {"name": "a"}}}),
        lambda values: values["data"].pop("classes"),
        lambda values: values["config"].update(no_such_key=1),
        lambda values: values["config"].update(fusion="os:system"),
        lambda values: values["config"].update(epochs="__import__('os')"),
        lambda values: values["config"].update(fusion={"a": 1}),
        lambda values: next(iter(values["data"]["features"].values()))["spec"].update(
            shape=[2**40, 2**40]
        ),
    ],
)
def test_a_config_that_mmf_does_not_write_is_refused(xor_store, make_run, change, no_shape_checks):
    path = make_run(xor_store)
    changed(path, change)
    with pytest.raises(MmfError):
        Run.open(path).network()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"fusion": "!!python/object/apply:os.system"}',
        "!!python/object/apply:os.system ['true']",
        '{"fusion": "${HOME}"}',
        '{"__class__": "os.system"}',
        '{"seed": 1e999}',
    ],
)
def test_a_hostile_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(MmfError):
        TrainConfig.read(tmp_path / "config.json")
