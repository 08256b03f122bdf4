"""The Mixer against a loop in float64 and a transcription of its equations."""

import math

import pytest
import torch
from torch.nn import functional

from mmf import MmfError, UnknownName
from mmf.fuse.fusions.contract import Stream
from mmf.fuse.fusions.mixer import Mixer, MixerOptions

STREAMS = {"rgb": Stream(size=5, most=6), "audio": Stream(size=4, most=3)}
SMALL = {"hidden": 8, "blocks": 2}


def build(streams=STREAMS, **options) -> Mixer:
    torch.manual_seed(0)
    return Mixer(streams, MixerOptions(**SMALL | options), 1).eval()


def batch(items: int = 4, steps=(6, 3)) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(1)
    x = [torch.randn(items, t, s.size) for t, s in zip(steps, STREAMS.values(), strict=True)]
    return x, [torch.ones(one.shape[:2], dtype=torch.bool) for one in x]


@pytest.mark.parametrize(
    ("lengths", "sentence"),
    [
        ({"video": 3}, "unknown feature of lengths 'video'"),
        ({"rgb": 0}, "lengths of 'rgb' is 0; expected a whole number from 1 on"),
        ({"rgb": 2.5}, "lengths of 'rgb' is 2.5"),
        ({"rgb": True}, "lengths of 'rgb' is True"),
    ],
)
def test_lengths_that_are_none_are_refused(lengths, sentence, no_shape_checks):
    with pytest.raises((MmfError, UnknownName)) as caught:
        build(lengths=lengths)
    assert sentence in str(caught.value)


def test_more_tokens_than_anyone_meant_are_refused_with_the_way_to_ask_for_fewer():
    streams = {"rgb": Stream(size=5, most=300), "grid": Stream(size=4, most=300 * 49)}
    with pytest.raises(MmfError, match="rgb has 300, grid has 14700 .* lengths='{\"grid\": 490}'"):
        build(streams)
    assert build(streams, lengths={"grid": 98}).lengths == (300, 98)


@pytest.mark.parametrize("options", [{"hidden": 1}, {"blocks": 0}, {"tokens_mlp": -1}])
def test_sizes_that_are_none_are_refused(options):
    with pytest.raises(MmfError, match="a Mixer with"):
        MixerOptions(**options)


def test_the_sizes_are_those_of_the_paper():
    """Half of hidden over tokens, four times over channels: Mixer-B/16's blocks on 196 tokens."""
    with torch.device("meta"):
        mixer = Mixer({"rgb": Stream(size=768, most=196)}, MixerOptions(), 1)
    counts = [sum(p.numel() for p in block.parameters()) for block in mixer.blocks]
    token, channel = 2 * 196 * 384 + 196 + 384, 2 * 768 * 3072 + 768 + 3072
    assert counts == [token + channel + 4 * 768] * 12


def test_first_weights_have_the_variance_of_their_inputs_and_no_bias():
    mlp = build(hidden=512, blocks=1).blocks[0].mix_channels
    assert mlp.inner.weight.std().item() * 512**0.5 == pytest.approx(1, abs=0.01)
    assert mlp.inner.weight.abs().max() * 512**0.5 <= 2 / 0.8796
    assert not mlp.inner.bias.any()


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def norm(row: list[float], layer) -> list[float]:
    mean = sum(row) / len(row)
    var = sum((v - mean) ** 2 for v in row) / len(row)
    each = zip(row, layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [(v - mean) / math.sqrt(var + 1e-6) * w + b for v, w, b in each]


def dense(row: list[float], layer) -> list[float]:
    each = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [sum(w * v for w, v in zip(ws, row, strict=True)) + b for ws, b in each]


def mlp(row: list[float], layers) -> list[float]:
    return dense([gelu(v) for v in dense(row, layers.inner)], layers.outer)


def by_hand(mixer: Mixer, steps, masks) -> list[float]:
    """One item, number by number, as the paper's equations stand."""
    tokens: list[list[float] | None] = []
    for x, mask, length, layer in zip(steps, masks, mixer.lengths, mixer.projections, strict=True):
        for t in range(length):
            there = t < len(x) and bool(mask[t])
            tokens.append(dense(x[t].tolist(), layer) if there else None)
    for block in mixer.blocks:
        normed = [norm(t, block.norm_tokens) if t else [0.0] * mixer.out_size for t in tokens]
        mixed = [mlp(list(channel), block.mix_tokens) for channel in zip(*normed, strict=True)]
        for s, token in enumerate(tokens):
            if token:
                u = [v + mixed[c][s] for c, v in enumerate(token)]
                more = mlp(norm(u, block.norm_channels), block.mix_channels)
                tokens[s] = [a + b for a, b in zip(u, more, strict=True)]
    last = [norm(t, mixer.norm) for t in tokens if t]
    return [sum(channel) / len(last) for channel in zip(*last, strict=True)]


def perturbed(mixer: Mixer) -> Mixer:
    for parameter in mixer.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return mixer


def test_it_is_the_papers_equations_number_by_number_with_padding_and_cuts():
    mixer = perturbed(build(lengths={"rgb": 4})).double()
    steps, masks = batch(steps=(6, 2))
    masks[0][1, 3:] = False
    masks[1][2] = False
    steps = [x.double().masked_fill(~m.unsqueeze(2), 0) for x, m in zip(steps, masks, strict=True)]
    found = mixer(steps, masks)
    for i in range(4):
        wanted = by_hand(mixer, [x[i] for x in steps], [m[i] for m in masks])
        assert found[i].tolist() == pytest.approx(wanted, abs=1e-12)


def plain(mixer: Mixer, steps) -> torch.Tensor:
    """Where every token is there: the block as Google's code has it, by transposes alone."""
    x = torch.cat([p(s) for p, s in zip(mixer.projections, steps, strict=True)], 1)
    size = x.shape[2:]
    for b in mixer.blocks:
        y = functional.layer_norm(x, size, b.norm_tokens.weight, b.norm_tokens.bias, 1e-6).mT
        y = torch.einsum("bhs,ks->bhk", y, b.mix_tokens.inner.weight) + b.mix_tokens.inner.bias
        y = functional.gelu(y, approximate="tanh")
        y = torch.einsum("bhk,sk->bhs", y, b.mix_tokens.outer.weight) + b.mix_tokens.outer.bias
        x = x + y.mT
        y = functional.layer_norm(x, size, b.norm_channels.weight, b.norm_channels.bias, 1e-6)
        y = functional.gelu(
            y @ b.mix_channels.inner.weight.T + b.mix_channels.inner.bias, approximate="tanh"
        )
        x = x + y @ b.mix_channels.outer.weight.T + b.mix_channels.outer.bias
    return functional.layer_norm(x, size, mixer.norm.weight, mixer.norm.bias, 1e-6).mean(1)


def test_it_agrees_with_a_transcription_forward_and_backward():
    mixer, (steps, masks) = perturbed(build(hidden=16)), batch()
    wanted = plain(mixer, steps)
    found = mixer(steps, masks)
    assert torch.allclose(found, wanted, atol=1e-5)
    direction = torch.randn_like(found)
    grads = [
        torch.autograd.grad((out * direction).sum(), list(mixer.parameters()))
        for out in (found, wanted)
    ]
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_another_order_of_the_steps_is_another_input():
    mixer, (steps, masks) = perturbed(build()), batch()
    other = [steps[0][:, [1, 0, 2, 3, 4, 5]], steps[1]]
    assert (mixer(other, masks) - mixer(steps, masks)).abs().max() > 1e-3


def test_steps_behind_the_length_are_cut_off_and_padding_counts_nowhere():
    mixer, (steps, masks) = build(lengths={"rgb": 4}), batch()
    short = [steps[0][:, :4], steps[1]], [masks[0][:, :4], masks[1]]
    assert torch.equal(mixer(*short), mixer(steps, masks))
    masks[1][:, 1:] = False
    steps[1][:, 1:] = 0
    one = [steps[0], steps[1][:, :1]], [masks[0], masks[1][:, :1]]
    assert torch.allclose(mixer(*one), mixer(steps, masks), atol=1e-6)


def test_an_item_without_a_step_gives_zeros():
    mixer, (steps, masks) = perturbed(build()), batch()
    nothing = [torch.zeros_like(m) for m in masks]
    assert not mixer([torch.zeros_like(x) for x in steps], nothing).any()
