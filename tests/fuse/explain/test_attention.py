"""What a run attends to: its weights give the layer's output back, and the figures are right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmf import MmfError
from mmf.fuse import TrainConfig, train
from mmf.fuse.explain.maps.attention import attentions, sparsity, weights
from mmf.fuse.explain.maps.given import calls, each_item
from mmf.fuse.explain.maps.layers import TOKEN, attention_layers
from mmf.fuse.explain.maps.pictures import attention_alt
from mmf.fuse.explain.maps.similarity import similarities
from mmf.fuse.explain.subject import open_subject
from mmf.fuse.layers.batch_norm import unpack
from mmf.fuse.layers.self_attention import SelfAttention
from mmf.fuse.text.bert import Attention as BertAttention
from mmf.fuse.text.bert import BertConfig
from mmf.store import FeatureSpec, FeatureStore, Track

SMALL = {"heads": 2, "extent": 2, "steps": 15}


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory):
    """Runs of every kind that attends, each trained for a step."""
    folder = tmp_path_factory.mktemp("attending")
    for name, options in {
        "gate_att": {"fusion": "gmsa", "fusion_options": SMALL | {"variant": "gate_att"}},
        "gmsa": {"fusion": "concat", "aggregate": "gmsa", "aggregate_options": SMALL},
        "pooling": {"fusion": "concat", "aggregate": "attention"},
        "framewise": {
            "fusion": "framewise",
            "fusion_options": {
                "fusion": "concat", "aggregate": "gmsa", "aggregate_options": SMALL,
            },
        },
        "transformer": {
            "fusion": "mmf_transformer",
            "max_steps": 15,
            "fusion_options": {"hidden": 8, "layers": 2, "heads": 2, "lengths": {"audio": 4}},
        },
    }.items():  # fmt: skip
        kinds = {"steps": 1, "batch_size": 8, "device": "cpu"} | options
        train(TrainConfig(store=store.path, out=folder / name, **kinds))
    return folder


def attended(run, *arguments, **options):
    return list(attentions(open_subject(run, *arguments, device="cpu", **options)))


def test_a_run_without_attention_says_what_has_it(store, tmp_path):
    config = TrainConfig(
        store=store.path, out=tmp_path / "mean", fusion="concat", steps=1, device="cpu"
    )
    with pytest.raises(MmfError, match="'concat' and .* no attention between .*aggregate gmsa"):
        attended(train(config))


@pytest.mark.parametrize("name", ["gate_att", "gmsa", "framewise", "pooling", "transformer"])
def test_the_weights_are_those_of_the_forward_pass(runs, name):
    """What a layer gives is its weights times its values, in a batch that is padded."""
    subject = open_subject(runs / name, device="cpu")
    given = next(each_item(subject))
    short = {n: x.clone() for n, x in given.features.items()}
    features = {n: torch.cat([x, short[n]]) for n, x in given.features.items()}
    masks = {n: torch.ones(x.shape[:2], dtype=torch.bool) for n, x in features.items()}
    for n, x in features.items():
        masks[n][1, 3:] = False
        x[1, 3:] = 1e3  # padding is never looked at
    layers = attention_layers(subject)
    called = calls(subject, replace(given, features=features), layers, masks)
    for layer, (arguments, output) in called.items():
        module = layers[layer]
        if isinstance(module, SelfAttention):
            rows, mask = arguments
            assert rows.shape[0] == mask.sum() < mask.numel()
            _, _, v = module._heads(rows, mask)
            maps = module.maps(unpack(rows, mask), mask)
            seen = {level: (A @ v).transpose(1, 2).flatten(2)[mask] for level, A in maps.items()}
            if module.variant == "gate_att":
                wanted = module.out(seen["gated"])
            else:
                far, gate_far = module.from_global(seen["global"]).chunk(2, 1)
                near, gate_near = module.from_local(seen["local"]).chunk(2, 1)
                gate = (gate_far - gate_near).sigmoid()
                wanted = gate * far + (1 - gate) * near
        elif name == "pooling":
            x, mask = arguments
            wanted = (module.weights(x, mask).unsqueeze(1) @ x).squeeze(1)
        else:
            x, seen = arguments
            v = module._heads(module.value, x)
            wanted = (module.weights(x, seen) @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(output, wanted, atol=1e-5, rtol=1e-5)


def test_one_item_alone_has_the_weights_it_has_in_a_padded_batch():
    torch.manual_seed(0)
    config = BertConfig(hidden_size=8, num_attention_heads=2)
    layer = BertAttention(config).eval().self
    x, seen = torch.randn(2, 6, 8), torch.ones(2, 1, 1, 6, dtype=torch.bool)
    seen[1, ..., 4:] = False
    alone = weights(layer, x[1:, :4], seen[1:, ..., :4])["attention"]
    torch.testing.assert_close(alone, weights(layer, x[1:], seen[1:])["attention"])
    torch.testing.assert_close(alone.sum(3), torch.ones(1, 2, 4))


def test_tokens_are_of_their_features_and_shares_are_what_they_give_each_other(runs, odd):
    found = {of[0].item.id: of for of in attended(runs / "transformer", odd.path)}
    whole = found["whole"][0].steps
    assert [one.layer for one in found["whole"]] == ["layer 1", "layer 2"]
    rows = len(odd.read("rgb", "whole").times)
    assert whole.features == (TOKEN, *["audio"] * 4, *["rgb"] * rows)
    np.testing.assert_array_equal(whole.times[5:], odd.read("rgb", "whole").times)
    assert set(found["silent"][0].steps.features) == {TOKEN, "rgb"}
    assert found["short"][0].steps.features == (TOKEN, "audio", "rgb")
    (one, _) = found["whole"]
    shares, of = one.shares("attention"), np.array(whole.features)
    A = one.maps["attention"].mean(0)
    by_hand = np.mean([A[i][of == "audio"].sum() for i in np.flatnonzero(of == "rgb")])
    assert shares["rgb", "audio"] == pytest.approx((by_hand, 4 / len(of)))
    assert sum(share for (a, _), (share, _) in shares.items() if a == "rgb") == pytest.approx(1)
    assert found["silent"][0].shares("attention").keys() == {
        (a, b) for a in (TOKEN, "rgb") for b in (TOKEN, "rgb")
    }


def test_gmsa_has_its_levels_by_feature_and_an_item_of_one_row_has_no_sparsity(runs, odd):
    found = {of[0].item.id: of for of in attended(runs / "gate_att", odd.path)}
    assert [one.layer for one in found["whole"]] == ["audio", "rgb"]
    assert [one.layer for one in found["silent"]] == ["rgb"]
    rgb = found["whole"][1]
    T = len(rgb.steps)
    shapes = {level: A.shape for level, A in rgb.maps.items()}
    assert shapes == dict.fromkeys(("global", "local", "gated"), (2, T, T))
    np.testing.assert_allclose(rgb.profile("gated").sum(), 1)
    np.testing.assert_allclose(rgb.profile("global"), rgb.maps["global"].mean((0, 1)), atol=1e-6)
    assert (rgb.sparsity("local") > rgb.sparsity("global")).all()
    assert rgb.shares("global") == {}
    short = found["short"][0]
    assert np.isnan(short.sparsity("global")).all()
    assert short.distance("global").tolist() == [0, 0]
    said = attention_alt(found["whole"])
    assert "\n" not in said
    assert f"{T} steps of rgb" in said


def test_sparsity_is_zero_when_even_and_one_when_single():
    one = np.eye(5)[None]
    assert sparsity(np.full((1, 5, 5), 0.2)) == pytest.approx([0], abs=1e-12)
    assert sparsity(one) == pytest.approx([1])
    half = np.zeros((1, 2, 4))
    half[..., :2] = 3  # rows that do not sum to one are divided by their sums
    assert sparsity(half) == pytest.approx([0.5])


def test_the_fused_steps_of_framewise_and_pooling_have_profiles(runs):
    (one,) = attended(runs / "framewise", items=["test0000020"])[0]
    assert one.layer == "fused steps"
    assert one.maps["global"].shape[1:] == (len(one.steps),) * 2
    audio, rgb = attended(runs / "pooling", items=["test0000020"])[0]
    assert (audio.layer, rgb.layer) == ("audio", "rgb")
    assert rgb.maps["pooling"].shape == (1, 1, len(rgb.steps))
    np.testing.assert_allclose(rgb.profile("pooling"), rgb.maps["pooling"][0, 0], atol=1e-6)


def test_cells_of_a_grid_and_sub_words_have_the_seconds_of_their_rows(tmp_path, make_bert):
    store = FeatureStore.create(tmp_path / "feats")
    times = {"grid": [0.5, 1.5, 2.5], "words": [1.0, 4.0]}
    ids = np.array([[5, 6, 7, -1], [8, 9, -1, -1]])  # 3 and 2 sub-words
    grid = np.random.default_rng(0).normal(size=(3, 2, 2, 3))
    for name, rows, dtype in (("grid", grid, "float32"), ("words", ids, "int32")):
        shape = rows.shape[1:]
        spec = FeatureSpec(name=name, modality=name, shape=shape, dtype=dtype)
        videos = ("v", "w", "x")
        store.add(spec, [Track(video_id=v, values=rows, times=times[name]) for v in videos])
    store.label({"v": ["a"], "w": ["b"], "x": ["a"]}, split={"v": "train", "w": "val", "x": "test"})
    options = {"hidden": 8, "layers": 1, "heads": 2, "lengths": {"grid": 9}}
    run = train(
        TrainConfig(
            store=store.path, out=tmp_path / "run", fusion="mmf_transformer", steps=1,
            fusion_options=options, text=str(make_bert()), device="cpu",
        )
    )  # fmt: skip
    ((one,),) = attended(run)
    assert one.steps.features == (TOKEN, *["grid"] * 9, *["words"] * 5)
    cells, words = one.steps.times[1:10], one.steps.times[10:]
    assert cells.tolist() == [0.5] * 4 + [1.5] * 4 + [2.5]
    assert words.tolist() == [1.0] * 3 + [4.0] * 2
    assert one.maps["attention"].shape == (2, 15, 15)
    ((of_grid, of_words),) = similarities(open_subject(run, device="cpu"))
    assert of_grid.cosine.shape == (3, 3)  # a row is all of its cells
    assert of_grid.steps.times.tolist() == times["grid"]
    assert of_words.steps.times.tolist() == words.tolist()
