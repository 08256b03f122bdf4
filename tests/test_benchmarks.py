"""Small forms of the long harnesses, so that they cannot rot."""

import importlib.util
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from mmf.fuse import TrainConfig, evaluate, train

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda p: p.stem)
def test_every_benchmark_says_how_it_is_run(path):
    assert f"python benchmarks/{path.name}" in load(path.stem).__doc__


def test_flow_is_timed_and_compared_with_float64(capsys):
    options = Namespace(official=None, threads=1, repeat=1, frames=1, exact=True)
    load("flow").measure("scale1", 32, 48, options)
    line, theirs, ours = capsys.readouterr().out.splitlines()
    name, size, *numbers = line.split()
    assert (name, size) == ("scale1", "32x48")
    assert all(float(number) > 0 for number in numbers)
    for form in (theirs, ours):
        assert 0 < float(form.split()[1]) < 0.1  # pixels


def test_mosi_goes_in_through_add_and_is_split_by_video(shared_data, tmp_path):
    mosi = load("mosi")
    table = mosi.read(shared_data / "features/mosi_bclstm/mosi.npz")
    store = mosi.store_features(table, tmp_path / "mosi.mmf")
    splits = store.catalog.splits("default")
    for split in ("train", "test"):
        videos = set(table["video_id"][table["split"] == split])
        given = {splits[v] for v in videos}
        assert given == {split}  # val is a part of train, taken when training begins
    assert len(store.items("test")) == 752
    (batch,) = store.batches(("text",), "test", batch_size=752, shuffle=False)
    assert set(batch.lengths["text"]) == {1}
    rows = {i.id: batch.values["text"][n, 0] for n, i in enumerate(batch.items)}
    at = np.flatnonzero(table["split"] == "test")[3]
    segment = float(table["segment"][at])
    item = f"{table['video_id'][at]}@{segment - 0.5:g}-{segment + 0.5:g}"
    np.testing.assert_array_equal(rows[item], table["text"][at])

    config = TrainConfig(
        store=str(store.path), out=str(tmp_path / "run"), fusion="concat", epochs=3
    )
    assert evaluate(train(config))["accuracy"] > 0.70


def test_the_cost_of_an_import_is_measured_without_tensorflow():
    found = load("import_youtube8m").measure(videos=3, repeat=1, tensorflow="")
    assert set(found) == {"read + parse", "raw write + fsync", "import"}
    assert all(ms > 0 for ms in found.values())


def test_the_cost_of_writing_is_measured():
    found = load("write").measure(videos=3, repeat=1)
    assert set(found) == {"raw write + fsync", "store"}
    assert all(value > 0 for row in found.values() for value in row.values())
