"""A run as a graph: the same logits, for any number of items and steps, or a kind refusal."""

import json

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import TrainConfig, load
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.heads import HEADS
from mmf.fuse.inference.export import CANNOT, META, export_torch, graph_of
from mmf.fuse.network import Network
from mmf.store import FeatureSpec, Track

pytestmark = pytest.mark.usefixtures("no_shape_checks")

EVERYTHING = [
    *(("fusion", name) for name in FUSIONS),
    *(("aggregate", name) for name in AGGREGATORS),
    *(("head", name) for name in HEADS),
]
CAN = [(part, name) for part, name in EVERYTHING if name not in CANNOT.get(part, ())]
TABLES = {"fusion": FUSIONS, "aggregate": AGGREGATORS, "head": HEADS}


def options(small, part, name) -> dict:
    its = small(TABLES[part], name) | ({"groups": 1} if name == "nextvlad" else {})
    return {"fusion": "concat", part: name, f"{part}_options": its, "max_steps": 9}


def batch(network, items, steps):
    """Rows and masks of which some are missing, in several items altogether."""
    generator = torch.Generator().manual_seed(items)
    features, masks = {}, {}
    for name, size, n in zip("ab", (3, 4), steps, strict=True):
        if name in network.features:
            features[name] = torch.randn(items, n, size, generator=generator)
            lengths = torch.randint(0, n + 1, (items, 1), generator=generator)
            masks[name] = torch.arange(n) < lengths
    return features, masks


def read(path):
    archive = {META: ""}
    graph = torch.export.load(path, extra_files=archive).module()
    return graph, json.loads(archive[META])


@pytest.mark.parametrize(("part", "name"), [(p, n) for p, names in CANNOT.items() for n in names])
def test_what_no_graph_is_made_of_is_refused(make_run, xor_store, small, tmp_path, part, name):
    run = make_run(xor_store, **options(small, part, name))
    with pytest.raises(MmfError, match=f"has the {part} '{name}', of which torch makes no graph"):
        export_torch(run, tmp_path / "model.pt2")


def test_a_text_encoder_is_refused(make_run, make_bert, xor_store, tmp_path):
    spec = FeatureSpec(name="words", modality="text", shape=(6,), dtype="int32")
    rows = np.array([[101, 7, 102, -1, -1, -1]])
    videos = [item.video_id for item in xor_store.items()]
    xor_store.add(spec, [Track(video_id=v, values=rows, times=[0]) for v in videos])
    run = make_run(xor_store, "concat", features=("a", "words"), text=str(make_bert()))
    with pytest.raises(MmfError, match="reads token ids of 'words' with a text encoder"):
        export_torch(run, tmp_path / "model.pt2")


def test_another_name_for_the_file_is_refused(make_run, xor_store, tmp_path):
    with pytest.raises(MmfError, match="expected a name in .pt2"):
        export_torch(make_run(xor_store), tmp_path / "model.onnx")


@pytest.mark.parametrize(("part", "name"), CAN)
def test_a_graph_gives_the_networks_logits_for_any_number_of_items_and_steps(small, part, name):
    shapes = {"a": (3,)} if name == "single" else {"a": (3,), "b": (4,)}
    torch.manual_seed(0)
    config = TrainConfig(**options(small, part, name))
    network = Network(config, shapes, ("x", "y", "z"), "bce").eval()
    agree(graph_of(network, shapes).module(), network)


@pytest.mark.parametrize(
    ("part", "name"), [("fusion", "mfb"), ("fusion", "mixer"), ("head", "moe")]
)
def test_a_run_read_back_gives_its_logits(make_run, xor_store, small, tmp_path, part, name):
    run = make_run(xor_store, **options(small, part, name))
    export_torch(run, tmp_path / "model.pt2")
    agree(read(tmp_path / "model.pt2")[0], load(run))


def agree(graph, network):
    with torch.no_grad():
        for items, steps in [(3, (5, 7)), (1, (1, 1)), (4, (9, 2)), (2, (1, 9))]:
            given = batch(network, items, steps)
            assert torch.allclose(graph(*given), network(*given), atol=1e-5), (items, steps)


def test_the_archive_says_what_goes_in_and_comes_out(make_run, xor_store, tmp_path):
    run = make_run(xor_store)
    said = export_torch(run, tmp_path / "model.pt2")
    _, found = read(tmp_path / "model.pt2")
    assert found == said
    assert found["classes"] == list(load(run).classes)
    assert found["features"]["a"]["shape"] == [3]
    assert found["features"]["b"]["scale_offset"] == [1, 0]
    assert found["probabilities"] == "softmax over the classes"
