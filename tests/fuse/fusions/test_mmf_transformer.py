"""MMFTransformer against a composition of transformers' parts, and how it begins from BERT."""

import pytest
import torch
from torch.nn import functional

from mmf import MmfError, UnknownName
from mmf.fuse.fusions.contract import Stream
from mmf.fuse.fusions.mmf_transformer import MMFTransformer, MMFTransformerOptions
from mmf.fuse.text import weights as bert_weights
from mmf.fuse.text.bert import Bert

STREAMS = {"text": Stream(size=8, most=5), "rgb": Stream(size=3, most=7)}
STREAMS |= {"audio": Stream(size=4, most=20)}
SMALL = {"hidden": 8, "layers": 2, "heads": 2}


def build(**options) -> MMFTransformer:
    torch.manual_seed(0)
    fusion = MMFTransformer(STREAMS, MMFTransformerOptions(**SMALL | options), 1).eval()
    for parameter in fusion.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return fusion


def batch(items: int = 3) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(1)
    x = [torch.randn(items, 4 + m, s.size) for m, s in enumerate(STREAMS.values())]
    masks = [torch.ones(one.shape[:2], dtype=torch.bool) for one in x]
    masks[1][1, 2:] = False
    masks[2][2] = False
    return [a.masked_fill(~m.unsqueeze(2), 0) for a, m in zip(x, masks, strict=True)], masks


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pool": "max"}, "unknown pool of mmf_transformer 'max'"),
        ({"layers": 0}, "of 0 layers"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"heads": 3}, "8 cannot be shared among 3 heads"),
        ({"words": "txt"}, "Did you mean 'text'"),
        ({"words": "rgb"}, "rows of 'rgb' have 3 numbers; word embeddings of this encoder have 8"),
        ({"lengths": {"vid": 3}}, "unknown feature of lengths 'vid'"),
    ],
)
def test_bad_options_are_refused(options, sentence, no_shape_checks):
    with pytest.raises((MmfError, UnknownName)) as caught:
        build(**options)
    assert sentence in str(caught.value)


def embedded(fusion: MMFTransformer, m: int, x: torch.Tensor) -> torch.Tensor:
    one = fusion.embeddings[m]
    if not one.words:
        x = functional.linear(x, one.token[0].weight, one.token[0].bias)
        x = functional.layer_norm(x, (8,), one.token[1].weight, one.token[1].bias, 1e-12)
    x = x + one.positions.weight[None, : x.shape[1]] + fusion.segments.weight[m]
    return functional.layer_norm(x, (8,), one.norm.weight, one.norm.bias, 1e-12)


@pytest.mark.parametrize("pool", ["first", "token", "mean"])
@pytest.mark.parametrize("words", ["", "text"])
def test_it_is_bert_of_transformers_over_the_embedded_tokens(pool, words):
    transformers = pytest.importorskip("transformers")
    fusion, (steps, masks) = build(pool=pool, words=words), batch()
    config = transformers.BertConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    theirs = transformers.BertModel(config).eval()
    theirs.encoder.load_state_dict(fusion.encoder.state_dict())
    theirs.pooler.load_state_dict(fusion.pooler.state_dict())
    tokens = [embedded(fusion, m, x) for m, x in enumerate(steps)]
    if pool == "token":
        tokens.insert(0, fusion.token.expand(3, 1, -1))
        masks = [torch.ones(3, 1, dtype=torch.bool), *masks]
    mask = torch.cat(masks, 1)
    additive = (1 - mask[:, None, None].float()) * -10000.0  # theirs
    out = theirs.encoder(torch.cat(tokens, 1), attention_mask=additive).last_hidden_state
    if pool == "mean":
        out = torch.stack([o[m].mean(0) for o, m in zip(out, mask, strict=True)])[:, None]
    pooled = theirs.pooler(out)
    layer, last = fusion.transform[1], fusion.transform[3]
    wanted = functional.gelu(pooled @ layer.weight.T + layer.bias)
    wanted = functional.layer_norm(wanted, (8,), last.weight, last.bias, 1e-12)
    found = fusion(steps, [m for m in masks if pool != "token" or m.shape[1] > 1])
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("pool", ["first", "token", "mean"])
def test_an_item_without_any_feature_and_its_gradient_are_finite(pool):
    fusion, (steps, masks) = build(pool=pool), batch()
    nothing = [torch.zeros_like(m) for m in masks]
    out = fusion([torch.zeros_like(x) for x in steps], nothing)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())


def test_the_order_of_steps_counts_by_their_positions():
    fusion, (steps, masks) = build(), batch()
    other = [steps[0][:, [1, 0, 2, 3]], *steps[1:]]
    assert (fusion(other, masks) - fusion(steps, masks)).abs().max() > 1e-3


def test_it_begins_from_a_published_bert(make_bert):
    folder = make_bert(max_position_embeddings=6)
    found = bert_weights.read(str(folder))
    fusion = build(weights=str(folder), words="text")
    drawn = fusion.embeddings[2].positions.weight.detach().clone()
    fusion.start()
    state, theirs = fusion.state_dict(), found.tensors
    for name in state:
        if name.startswith(("encoder.", "pooler.")):
            assert torch.equal(state[name], theirs[name]), name
    positions = theirs["embeddings.position_embeddings.weight"]
    assert torch.equal(state["embeddings.0.positions.weight"], positions[:5])
    assert torch.equal(state["embeddings.2.positions.weight"][:6], positions)
    assert torch.equal(state["embeddings.2.positions.weight"][6:], drawn[6:])
    assert torch.equal(state["embeddings.0.norm.weight"], theirs["embeddings.LayerNorm.weight"])
    segments = theirs["embeddings.token_type_embeddings.weight"]
    assert torch.equal(state["segments.weight"][:2], segments)
    noise = state["segments.weight"][2] - segments.mean(0)
    assert 0 < noise.abs().max() < 0.05
    first = cls_of(found)
    assert torch.allclose(state["token"], first, atol=1e-6)


def cls_of(found) -> torch.Tensor:
    """What BERT's own embeddings make of [CLS] at its place."""
    network = Bert(found.config).eval()
    bert_weights.fill(network, found)
    return network.embeddings(torch.tensor([[101]]))[0, 0]


def test_a_bert_of_other_sizes_says_which_to_ask_for(make_bert):
    fusion = build(weights=str(make_bert(num_hidden_layers=3)))
    with pytest.raises(MmfError, match="has 3 layers, 8 units and 2 heads; .* layers=3"):
        fusion.start()


def test_without_weights_nothing_is_looked_for():
    fusion = build()
    before = {n: t.clone() for n, t in fusion.state_dict().items()}
    fusion.start()
    assert all(torch.equal(t, before[n]) for n, t in fusion.state_dict().items())
