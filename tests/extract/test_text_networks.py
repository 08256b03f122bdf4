"""Text encoders: pooled as their papers say, or their token ids kept, by their own tokenizer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmf import MmfError
from mmf.extract import extract, parse_feature, request_from_spec
from mmf.extract.backbones import Backbone, backbone, backbone_class
from mmf.extract.recipe import build, spec
from mmf.store import FeatureStore
from mmf.store.weights import WeightsMissing

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.usefixtures("offline")

WORDS = ["a", "cat", "dog", "sleeps", "runs", "far", "away", "on", "the", "mat", "##s", "red"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
TEXTS = ["a cat sleeps", "the red dogs", "", "the dog runs far away on the mat " * 3]
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
SMALL |= {"num_hidden_layers": 2, "vocab_size": len(VOCABULARY)}


def save_encoder(folder: Path, vocabulary=VOCABULARY, model="BertForMaskedLM", **config):
    """A small BERT with its head and its tokenizer, as published ones are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = transformers.BertTokenizer.from_pretrained(str(folder))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    network = getattr(transformers, model)(transformers.BertConfig(**SMALL, **config)).eval()
    network.save_pretrained(folder)
    return network, tokenizer


@pytest.fixture
def encoder(tmp_path):
    network, tokenizer = save_encoder(tmp_path / "bert")
    return tmp_path / "bert", network.bert, tokenizer


def alone(network, tokenizer, text: str) -> torch.Tensor:
    """The last layer over one text that stands alone, without padding."""
    with torch.inference_mode():
        given = tokenizer(text, truncation=True, max_length=16, return_tensors="pt")
        return network(**given).last_hidden_state[0]


def small(folder: Path, name: str = "bert", **options: str) -> Backbone:
    return backbone(name, weights=str(folder), batch=4, options={"tokens": "16", **options})


# bad input first


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("t=text:bert:huge", "no variant 'huge'. Its variants: bert:base, bert:large"),
        ("t=text:bert,pol=cls", "Did you mean 'pool'"),
        ("t=text:hf", "expected hf:ORG/NAME"),
        ("t=text:hf:bert", "expected hf:ORG/NAME"),
    ],
)
def test_a_text_feature_that_cannot_be_meant_is_one_sentence(text, says):
    with pytest.raises(MmfError, match=says):
        parse_feature(text)


def test_options_that_cannot_be_meant_say_what_exists(encoder):
    with pytest.raises(MmfError, match="unknown pool of bert 'max'. Known: cls, mean, tokens"):
        small(encoder[0], pool="max")
    with pytest.raises(MmfError, match="tokens=many is no length; expected 2 to"):
        small(encoder[0], tokens="many")


def test_a_network_without_its_tokenizer_is_refused(encoder):
    folder = encoder[0]
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(MmfError, match="there is no tokenizer in .*none of tokenizer.json"):
        small(folder)


def test_a_repository_that_is_not_here_names_the_place_and_the_ways_on():
    with pytest.raises(WeightsMissing, match=r"hf://org/net@v2 was looked for at .*--fetch"):
        backbone("hf:org/net@v2")


def put_in_hub(root: Path, folder: Path, repository: str) -> Path:
    home = root / "hub" / f"models--{repository.replace('/', '--')}"
    (home / "snapshots").mkdir(parents=True)
    folder.rename(home / "snapshots" / "c0ffee")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("c0ffee")
    return home / "snapshots" / "c0ffee"


def test_a_repository_that_wants_its_own_code_run_is_refused(encoder, offline):
    snapshot = put_in_hub(offline, encoder[0], "org/evil")
    config = json.loads((snapshot / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (snapshot / "config.json").write_text(json.dumps(config))
    (snapshot / "evil.py").write_text(f"open({str(offline / 'ran')!r}, 'w')")
    with pytest.raises(MmfError, match="code of others is never run"):
        backbone("hf:org/evil")
    assert not (offline / "ran").exists()


# rows


def test_the_mean_is_over_the_tokens_that_are_there(encoder):
    folder, network, tokenizer = encoder
    rows = small(folder)(TEXTS)
    expected = np.stack([alone(network, tokenizer, text).mean(dim=0).numpy() for text in TEXTS])
    assert rows.shape == (4, 32)
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)


def test_the_class_token_is_the_first(encoder):
    folder, network, tokenizer = encoder
    expected = np.stack([alone(network, tokenizer, text)[0].numpy() for text in TEXTS])
    np.testing.assert_allclose(small(folder, pool="cls")(TEXTS), expected, rtol=1e-4, atol=1e-5)


def test_a_sentence_encoder_gives_rows_of_length_1_and_every_other_not(encoder):
    folder, network, tokenizer = encoder
    mean = alone(network, tokenizer, TEXTS[0]).mean(dim=0)
    rows = small(folder, "minilm")(TEXTS[:1])
    np.testing.assert_allclose(rows[0], mean / mean.norm(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_text_has_the_same_bits_whatever_its_neighbours(encoder, precision):
    long = TEXTS[3]
    setup = {"weights": str(encoder[0]), "batch": 4, "precision": precision}
    built = backbone("bert", **setup, options={"tokens": "16"})
    batches = [["a cat", long, long, long], ["a cat", "", "", ""], ["a cat", "dogs", long, "a"]]
    first = [built.rows(np.array(batch, dtype=object))[0] for batch in batches]
    assert all(np.array_equal(first[0], row) for row in first[1:])
    full = [built.rows(np.array([long, *rest], object))[0] for rest in (["a"] * 3, [long] * 3)]
    assert np.array_equal(full[0], full[1])


def test_token_ids_are_kept_as_they_are(encoder):
    folder, _, tokenizer = encoder
    built = small(folder, pool="tokens")
    rows = built(TEXTS)
    assert rows.shape == (4, 16)
    for row, text in zip(rows, TEXTS, strict=True):
        ids = tokenizer(text, truncation=True, max_length=16)["input_ids"]
        assert row.tolist() == ids + [-1] * (16 - len(ids))


def test_broken_text_is_tokenized_all_the_same(encoder):
    rows = small(encoder[0])(["\ud800 \x00 cat", "\n"])
    assert np.isfinite(rows).all()


# recipe


def request(folder: Path, more: str = "pool=tokens,tokens=16"):
    return parse_feature(f"words=text:bert,weights={folder},{more}")


def test_the_recipe_has_the_tokenizers_fingerprint_and_ids_are_int32(encoder, tmp_path):
    asked = request(encoder[0])
    made = spec(asked, build(asked))
    assert made.dtype == "int32"
    assert made.recipe["options"] == {"pool": "tokens", "tokens": "16"}
    swapped = [*VOCABULARY[:5], *reversed(WORDS)]
    save_encoder(tmp_path / "other", vocabulary=swapped)
    other = spec(request(tmp_path / "other"), build(request(tmp_path / "other")))
    assert other.recipe["details"]["tokenizer"] != made.recipe["details"]["tokenizer"]
    assert made.recipe["details"]["tokenizer"].startswith("sha256:")
    again = request_from_spec(made)
    assert spec(again, build(again)).fingerprint == made.fingerprint


def test_any_encoder_of_the_hub_is_a_backbone_by_its_name(encoder, offline):
    _, network, tokenizer = encoder
    expected = alone(network, tokenizer, TEXTS[0]).mean(dim=0)
    put_in_hub(offline, encoder[0], "org/net")
    asked = parse_feature("t=text:hf:org/net,tokens=16")
    built = build(asked)
    np.testing.assert_allclose(built(TEXTS[:1])[0], expected, rtol=1e-4, atol=1e-5)
    made = spec(asked, built)
    assert made.recipe["backbone"] == "hf:org/net"
    again = request_from_spec(made)
    assert spec(again, build(again)).fingerprint == made.fingerprint


def test_an_encoder_with_a_pooler_of_its_own_needs_no_weights_for_it(offline):
    save_encoder(offline / "x", model="BertForMaskedLM")
    put_in_hub(offline, offline / "x", "org/headless")
    assert backbone("hf:org/headless", options={"tokens": "8"}).row_shape == (32,)


def test_layer_norms_of_the_first_checkpoints_are_known_by_their_old_names(encoder, tmp_path):
    folder, network, _ = encoder
    expected = small(folder)(TEXTS)
    old = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor.clone()
        for name, tensor in network.state_dict().items()
    }
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    np.testing.assert_array_equal(small(folder)(TEXTS), expected)


@pytest.mark.parametrize(
    ("name", "millions"), [("bert:base", 108.9), ("bert:large", 334.1), ("minilm", 22.6)]
)
def test_every_size_has_the_parameters_that_were_published(name, millions):
    published = backbone_class(name, "text").entry(name).network
    model = getattr(transformers, published.model)
    with torch.device("meta"):
        network = model(model.config_class(**published.config), **published.build)
    count = sum(tensor.numel() for tensor in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.06)


def test_token_ids_of_captions_come_out_of_the_store_as_they_went_in(encoder, clip, tmp_path):
    folder, _, tokenizer = encoder
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(clip("said.mp4", frames=50).read_bytes())
    cue = "1\n00:00:00,500 --> 00:00:01,000\nthe red cat\n"
    (tmp_path / "clips" / "a.srt").write_text(cue)
    extract(tmp_path / "clips", tmp_path / "store.mmf", [request(folder)])
    rows = FeatureStore(tmp_path / "store.mmf").read("words", "a.mp4").values
    ids = tokenizer("the red cat")["input_ids"]
    assert rows.dtype == np.int32
    assert rows.tolist() == [ids + [-1] * (16 - len(ids))]
