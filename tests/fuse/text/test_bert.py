"""BERT against transformers' own, and what its files may and may not hold."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmf import MmfError
from mmf.extract.backbones.text_transformer import Bert as Backbone
from mmf.fuse.text import weights as bert_weights
from mmf.fuse.text.bert import Bert, BertConfig
from mmf.store.weights import WeightsMissing


@pytest.fixture
def official(tmp_path):
    """A small BERT that transformers made and saved, with all heads of the pretraining."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3}
    config = transformers.BertConfig(
        vocab_size=50, num_hidden_layers=2, max_position_embeddings=16, **sizes
    )
    network = transformers.BertForPreTraining(config).eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    network.save_pretrained(tmp_path / "official")
    return tmp_path / "official", network.bert


def loaded(folder) -> Bert:
    found = bert_weights.read(str(folder))
    network = Bert(found.config).eval()
    bert_weights.fill(network, found)
    return network


def test_a_published_bert_loads_strictly_and_gives_what_transformers_gives(official):
    folder, theirs = official
    ours = loaded(folder)
    ids, mask = torch.randint(0, 50, (3, 9)), torch.ones(3, 9, dtype=torch.bool)
    mask[1, 4:] = False
    with torch.no_grad():
        wanted = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        found = ours(ids, mask)
    assert torch.allclose(found[mask], wanted[mask], atol=1e-5)
    assert found.isfinite().all()


def test_its_gradients_are_those_of_transformers(official):
    folder, theirs = official
    ours = loaded(folder)
    ids, mask = torch.randint(1, 50, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    direction = torch.randn(2, 7, 24)
    (ours(ids, mask) * direction).sum().backward()
    (theirs(input_ids=ids).last_hidden_state * direction).sum().backward()
    own = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        if not name.startswith("pooler."):
            assert torch.allclose(own[name].grad, parameter.grad, atol=1e-4), name


def test_the_names_and_shapes_are_those_of_bert_base():
    with torch.device("meta"):
        shapes = {n: tuple(t.shape) for n, t in Bert(BertConfig()).state_dict().items()}
    assert len(shapes) == 5 + 12 * 16
    assert sum(torch.Size(s).numel() for s in shapes.values()) == 108_891_648
    assert shapes["embeddings.word_embeddings.weight"] == (30522, 768)
    assert shapes["encoder.layer.11.attention.self.query.weight"] == (768, 768)
    assert shapes["encoder.layer.11.attention.output.LayerNorm.bias"] == (768,)
    assert shapes["encoder.layer.0.intermediate.dense.weight"] == (3072, 768)


def test_stage_two_looks_for_the_berts_of_stage_one_where_that_looks():
    for name, location in bert_weights.PUBLISHED.items():
        assert location == Backbone.published(name)


def test_what_is_not_attended_to_does_not_count_and_nothing_is_no_nan(make_bert):
    network = loaded(make_bert())
    ids, mask = torch.randint(0, 120, (2, 6)), torch.ones(2, 6, dtype=torch.bool)
    mask[0, 3:] = False
    mask[1] = False
    other = torch.where(mask, ids, 7)
    assert torch.equal(network(other, mask)[0, :3], network(ids, mask)[0, :3])
    assert torch.allclose(network(ids[:1, :3], mask[:1, :3]), network(ids, mask)[:1, :3], atol=1e-5)
    out = network(ids, mask)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_a_bert_that_is_not_here_says_where_it_was_looked_for_and_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with pytest.raises(WeightsMissing) as caught:
        bert_weights.read("bert:base")
    assert "models--google-bert--bert-base-uncased" in str(caught.value)
    assert "mmf weights --fetch" in str(caught.value)
    assert "name the local folder of a BERT" in str(caught.value)
    assert "MODALITY" not in str(caught.value)


def change(folder, **changes):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, tensor in changes.pop("tensors").items():
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"bert.embeddings.LayerNorm.beta": None}, "embeddings.LayerNorm.bias is missing"),
        ({"bert.encoder.extra": torch.zeros(2)}, "encoder.extra is not in the network"),
        (
            {"bert.embeddings.token_type_embeddings.weight": torch.zeros(3, 8)},
            r"has shape \(3, 8\), expected \(2, 8\). They are of a BERT of 2 layers, 8 units and 2",
        ),
    ],
)
def test_tensors_that_are_not_the_networks_are_named(make_bert, tensors, sentence):
    folder = make_bert()
    change(folder, tensors=tensors)
    with pytest.raises(MmfError, match=sentence):
        loaded(folder)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta', expected 'bert'"),
        ({"model_type": "bert", "hidden_act": "relu"}, "hidden_act 'relu', expected 'gelu'"),
        ({"model_type": "bert", "hidden_size": 10}, "10 cannot be shared among 12 heads"),
        ({"model_type": "bert", "hidden_size": "8"}, "does not say a BERT's sizes"),
        ([1], "is of another network"),
    ],
)
def test_a_config_of_another_network_is_refused(make_bert, values, sentence):
    folder = make_bert()
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(MmfError, match=sentence):
        loaded(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_that_is_no_checkpoint_is_refused(make_bert, name):
    folder = make_bert()
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"nothing")
    with pytest.raises(MmfError, match="cannot be read as weights"):
        loaded(folder)
