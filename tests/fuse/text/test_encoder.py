"""Token ids that become steps: what learns, what is kept, and what is refused."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmf import MmfError, UnknownName
from mmf.fuse import TrainConfig, evaluate, load, train
from mmf.fuse.network import Network
from mmf.fuse.text import weights as bert_weights
from mmf.fuse.text.bert import Bert
from mmf.fuse.text.encoder import TextEncoder, TextOptions
from mmf.fuse.text.tokens import check_tokens
from mmf.fuse.training import checkpoint, loop, step
from mmf.store import FeatureSpec, Track
from mmf.store.weights import WeightsMissing

ROWS = {"words": 6}


def encoder(folder: Path, **options) -> TextEncoder:
    return TextEncoder(str(folder), ROWS, TextOptions(**options))


def plain(folder: Path) -> Bert:
    found = bert_weights.read(str(folder))
    network = Bert(found.config).eval()
    bert_weights.fill(network, found)
    return network


def some_ids() -> tuple[torch.Tensor, torch.Tensor]:
    """Three items: of three rows and two, one of one row, none of any."""
    ids = torch.full((3, 3, 6), -1.0)
    ids[0, 0, :4] = torch.tensor([101.0, 7, 8, 102])
    ids[0, 1, :6] = torch.tensor([101.0, 9, 10, 11, 12, 102])
    ids[0, 2, :2] = torch.tensor([101.0, 102])
    ids[1, 0, :3] = torch.tensor([101.0, 7, 102])
    ids[2] = 55  # whatever stands where there is no row
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    return ids, mask


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"learn": "layernorms"}, "unknown learn of the text encoder 'layernorms'"),
        ({"layers": -2}, "layers = -2"),
        ({"layers": 3}, "layers = 3 of the text encoder: the BERT in .* has 2"),
    ],
)
def test_bad_options_are_refused(make_bert, options, sentence, no_shape_checks):
    with pytest.raises((MmfError, UnknownName), match=sentence):
        encoder(make_bert(), **options)


def test_rows_longer_than_its_positions_are_refused(make_bert):
    with pytest.raises(MmfError, match="'words' has rows of 20 tokens; .* reads 12"):
        TextEncoder(str(make_bert()), {"words": 20}, TextOptions())


def test_an_id_of_another_vocabulary_is_refused(make_bert):
    ids, mask = some_ids()
    ids[1, 0, 1] = 120
    with pytest.raises(MmfError, match="token id 120: .* knows 120 words"):
        encoder(make_bert())(ids, mask)


def test_the_steps_are_the_sub_words_of_all_rows_each_row_by_itself(make_bert):
    folder = make_bert()
    (ids, mask), alone = some_ids(), plain(folder)
    steps, there = encoder(folder).eval()(ids, mask)
    assert steps.shape == (3, 12, 8)
    assert there.sum(1).tolist() == [12, 3, 0]
    wanted = []
    for row in ids[0]:
        own = row[row >= 0].long()[None]
        wanted.append(alone(own, torch.ones_like(own, dtype=torch.bool))[0])
    assert torch.allclose(steps[0], torch.cat(wanted), atol=1e-5)
    assert there[1].tolist() == [True] * 3 + [False] * 9
    assert not steps[1, 3:].any()
    assert not steps[2].any()


def test_an_item_has_the_same_steps_alone_and_among_others(make_bert):
    text, (ids, mask) = encoder(make_bert()).eval(), some_ids()
    steps, _ = text(ids, mask)
    alone, there = text(ids[1:2], mask[1:2])
    assert there.all()
    assert torch.allclose(alone[0], steps[1, :3], atol=1e-5)


def test_by_default_embeddings_and_layer_norms_learn_and_gradients_reach_them_all(make_bert):
    text, (ids, mask) = encoder(make_bert()).train(), some_ids()
    names = {n for n, _ in text.named_parameters()}
    assert len(names) == 5 + 2 * 4
    assert all("embeddings." in n or "LayerNorm" in n for n in names)
    steps, _ = text(ids, mask)
    (steps * torch.randn_like(steps)).sum().backward()
    for name, parameter in text.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_the_gradients_are_those_of_the_whole_network_learning(make_bert):
    folder, (ids, mask) = make_bert(), some_ids()
    some, every = encoder(folder).eval(), encoder(folder, learn="everything").eval()
    for text in (some, every):
        text(ids, mask)[0].square().sum().backward()
    whole = dict(every.named_parameters())
    assert len(whole) == len(plain(folder).state_dict())
    for name, parameter in some.named_parameters():
        assert torch.allclose(parameter.grad, whole[name].grad, atol=1e-5), name


def test_where_nothing_learns_there_is_no_gradient_and_no_dropout(make_bert):
    text, (ids, mask) = encoder(make_bert(), learn="nothing").train(), some_ids()
    steps, _ = text(ids, mask)
    assert not list(text.parameters())
    assert not steps.requires_grad
    assert torch.equal(steps, text(ids, mask)[0])
    learning = encoder(make_bert("other")).train()
    assert not torch.equal(learning(ids, mask)[0], learning(ids, mask)[0])


@pytest.mark.parametrize("layers", [0, 1])
def test_fewer_layers_are_the_first_and_none_are_the_word_embeddings(make_bert, layers):
    folder, (ids, mask) = make_bert(), some_ids()
    text, whole = encoder(folder, layers=layers).eval(), plain(folder)
    steps, _ = text(ids, mask)
    own = ids[1, :1, :3].long()
    wanted = whole.embeddings.word_embeddings(own)
    if layers:
        del whole.encoder.layer[1:]
        wanted = whole(own, torch.ones_like(own, dtype=torch.bool))
    assert torch.allclose(steps[1, :3], wanted[0], atol=1e-5)
    steps.square().sum().backward()
    assert all(p.grad is not None for p in text.parameters())


def test_a_batch_without_any_row_has_no_step_and_gradients_of_zero(make_bert):
    text, (ids, mask) = encoder(make_bert()).train(), some_ids()
    steps, there = text(ids, torch.zeros_like(mask))
    assert steps.shape == (3, 1, 8)
    assert not there.any()
    steps.sum().backward()  # so that processes that learn together wait for no one
    assert all(p.grad is not None and not p.grad.any() for p in text.parameters())


def test_the_state_holds_what_learns_and_the_digest_of_the_rest(make_bert):
    folder = make_bert()
    text, other = encoder(folder), encoder(folder)
    state = text.state_dict()
    assert set(state) == {n for n, _ in text.named_parameters()} | {"_extra_state"}
    for parameter in text.parameters():
        parameter.data += 1
    other.load_state_dict(text.state_dict())
    ids, mask = some_ids()
    assert torch.equal(other.eval()(ids, mask)[0], text.eval()(ids, mask)[0])
    with pytest.raises(MmfError, match="is not the one that the run was trained with: sha256"):
        encoder(make_bert("other", seed=1)).load_state_dict(state)


def test_it_draws_nothing_from_the_random_generator(make_bert):
    folder = make_bert()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    encoder(folder)
    assert torch.equal(torch.get_rng_state(), before)


def words(shape=(6,), **more) -> FeatureSpec:
    return FeatureSpec(name="words", modality="text", shape=shape, dtype="int32", **more)


RGB = FeatureSpec(name="rgb", modality="rgb", shape=(3,))


@pytest.mark.parametrize(
    ("specs", "sentence"),
    [
        ([RGB], "reads token ids, and none of rgb holds any. Run `mmf extract"),
        ([words((2, 3))], r"int32 rows of shape \[2, 3\]"),
        ([words(recipe={"weights": "random:0"})], r"hashed for a random network \(random:0\)"),
    ],
)
def test_features_that_no_text_encoder_reads_are_refused(make_bert, specs, sentence):
    with pytest.raises(MmfError, match=sentence):
        check_tokens({s.name: s for s in specs}, str(make_bert()))


def test_token_ids_without_an_encoder_say_how_to_name_one():
    with pytest.raises(MmfError, match="--text bert:base, or choose others with --features: rgb"):
        check_tokens({"rgb": RGB, "words": words()}, "")


def test_ids_made_beside_other_weights_are_a_warning(make_bert, caplog):
    folder = make_bert()
    own = f"sha256:{bert_weights.find(str(folder)).sha256}"
    check_tokens({"words": words(recipe={"weights": own})}, str(folder))
    assert not caplog.text
    check_tokens({"words": words(recipe={"weights": "sha256:0"})}, str(folder))
    assert "ids of feature 'words' were made with the tokenizer of other weights" in caplog.text


@pytest.fixture
def config(xor_store, make_bert, tmp_path) -> TrainConfig:
    """The store's label said in words: 20 + a + b, the third of four tokens of the second row."""
    tracks = []
    for i in range(60):
        rows = np.full((2, 6), -1)
        rows[0, :3] = [101, 30 + i % 5, 102]
        rows[1, :4] = [101, 40 + i % 3, 20 + (i % 2 == i // 2 % 2), 102]
        tracks.append(Track(video_id=f"v{i:02}", values=rows, times=[0, 1]))
    xor_store.add(words(), tracks)
    return TrainConfig(
        store=xor_store.path,
        out=tmp_path / "run",
        features=("a", "words"),
        text=str(make_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)),
        batch_size=8,
        epochs=3,
        lr=1e-2,
        device="cpu",
    )


def test_what_only_words_say_is_learned(config):
    run = train(replace(config, epochs=25, lr=2e-2))
    assert evaluate(run, device="cpu")["accuracy"] == 1
    assert evaluate(run, device="cpu", zero=("words",))["accuracy"] < 0.8
    assert evaluate(run, device="cpu", zero=("a",))["accuracy"] > 0.9


def test_checkpoints_hold_no_frozen_weights(config):
    run = train(config)
    path, _ = checkpoint.newest(run / "checkpoints")
    kept = load_file(path / "best.safetensors")
    assert "text.bert.embeddings.word_embeddings.weight" in kept
    assert not [n for n in kept if ".dense." in n or ".query." in n]
    written = json.loads((run / "config.json").read_text())
    assert written["parameters"]["text"] == sum(
        t.numel() for n, t in kept.items() if n.startswith("text.") and "_extra" not in n
    )


def test_a_run_whose_published_files_are_gone_or_others_says_so(config, make_bert):
    run, folder = train(config), Path(config.text)
    network = load(run)
    assert isinstance(network, Network)
    shutil.copytree(folder, folder.with_name("kept"))
    shutil.rmtree(folder)
    with pytest.raises(WeightsMissing, match="name the local folder of a BERT"):
        load(run)
    make_bert(seed=3)
    with pytest.raises(MmfError, match="is not the one that the run was trained with"):
        load(run)
    shutil.rmtree(folder)
    folder.with_name("kept").rename(folder)
    assert load(run).state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("learn", ["embeddings+layernorms", "nothing"])
def test_a_killed_run_resumes_to_the_same_weights(config, tmp_path, monkeypatch, learn):
    config = replace(config, text_options={"learn": learn})
    wanted = train(replace(config, out=tmp_path / "whole"))

    def weights(run: Path) -> list[bytes]:
        path, _ = checkpoint.newest(run / "checkpoints")
        names = ("network", "best", "optimiser")
        return [(path / f"{name}.safetensors").read_bytes() for name in names]

    with monkeypatch.context() as patch:
        calls, good = iter(range(100)), step.LOSSES.load("ce")

        def killing(logits, labels, rated):
            if next(calls) == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            return good(logits, labels, rated)

        patch.setattr(step.LOSSES, "load", lambda name: killing)
        with pytest.raises(loop.Interrupted):
            train(config)
    torch.manual_seed(9)
    assert weights(train(config, resume=True)) == weights(wanted)


@pytest.mark.parametrize(
    "chosen",
    [
        {"fusion": "mixer", "fusion_options": {"hidden": 8, "blocks": 1}, "max_steps": 20},
        {
            "fusion": "mmf_transformer",
            "fusion_options": {"hidden": 8, "layers": 1, "heads": 2, "words": "words"},
            "text_options": {"layers": 0},
        },
        {"fusion": "early_vectors", "fusion_options": {"hidden": 8}},
    ],
)
def test_fusions_of_rows_and_of_vectors_take_its_steps(config, chosen):
    run = train(replace(config, epochs=1, **chosen))
    assert 0 <= evaluate(run, device="cpu")["accuracy"] <= 1
    logits = load(run)({"words": torch.tensor([[[101.0, 7, 102, -1, -1, -1]]])})
    assert logits.shape == (1, 2)


def test_a_row_has_the_same_bits_in_any_company_where_alike_is_asked_for(make_bert):
    sizes = {"hidden_size": 96, "num_attention_heads": 4, "max_position_embeddings": 40}
    folder = make_bert(**sizes)
    text = TextEncoder(str(folder), {"words": 40}, TextOptions()).eval()
    generator = torch.Generator().manual_seed(0)
    ids = torch.full((30, 2, 40), -1.0)
    for number, row in enumerate(ids.flatten(0, 1)):
        length = 1 + number % 40
        row[:length] = torch.randint(0, 120, (length,), generator=generator).float()
    mask = torch.ones(30, 2, dtype=torch.bool)
    with torch.no_grad():
        plainly, _ = text(ids, mask)
        text.alike = True
        steps, there = text(ids.double(), mask)
        assert steps.dtype == torch.float64
        assert torch.allclose(steps.float(), plainly, atol=1e-4)
        for i in range(30):
            alone, own = text(ids[i : i + 1].double(), mask[i : i + 1])
            assert torch.equal(alone[0], steps[i, there[i]]), i
            assert own.all()
    empty, _ = text(ids[:2].double(), torch.zeros(2, 2, dtype=torch.bool))
    assert not empty.any()
