"""Neighbourhoods, self-attention and GMSA against loops over their equations."""

import logging
import math

import pytest
import torch

from mmf import MmfError, UnknownName
from mmf.fuse.aggregators.gmsa import GMSA, GMSAOptions
from mmf.fuse.layers.batch_norm import pack, unpack
from mmf.fuse.layers.neighbourhood import Neighbourhood
from mmf.fuse.layers.self_attention import VARIANTS, SelfAttention, SelfAttentionOptions

T = 13


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mask": "toeplitz_dilate"}, "unknown mask .* Did you mean 'toeplitz_dilated'"),
        ({"extent": 0}, "extent 0 and dilation 2 among 300 steps: expected at least 1 of each"),
        ({"dilation": 0}, "dilation 0"),
        ({"blocks": "sizes"}, "unknown blocks 'sizes'"),
        ({"width": "half"}, "unknown width 'half'. .* side, total"),
        ({"variant": "gate"}, "unknown variant 'gate'"),
        ({"variant": "share_att", "heads": 3}, "share_att with 3 heads: .* an even number"),
        ({"feed_forward": -1}, "feed_forward = -1: expected 0 or more"),
    ],
)
def test_bad_options_of_gmsa_are_refused(options, match, no_shape_checks):
    with pytest.raises((MmfError, UnknownName), match=match):
        GMSAOptions(**options)


NEIGHBOURHOODS = [
    ({"mask": "block_diagonal", "extent": 4}, lambda i, j: i // 4 == j // 4),
    ({"mask": "block_diagonal", "extent": 3, "blocks": "number"}, lambda i, j: i // 5 == j // 5),
    ({"mask": "toeplitz", "extent": 4}, lambda i, j: abs(i - j) <= 4),
    ({"mask": "toeplitz", "extent": 5, "width": "total"}, lambda i, j: abs(i - j) <= 2),
    ({"mask": "toeplitz", "extent": 50}, lambda i, j: True),
    (
        {"mask": "toeplitz_dilated", "extent": 7, "dilation": 3},
        lambda i, j: abs(i - j) in (0, 3, 6),
    ),
    ({"mask": "toeplitz_dilated", "extent": 2, "dilation": 3}, lambda i, j: i == j),
]


@pytest.mark.parametrize(("options", "rule"), NEIGHBOURHOODS)
def test_a_neighbourhood_is_symmetric_holds_each_step_and_follows_its_rule(options, rule):
    near = Neighbourhood(steps=T, **options)
    pairs = near.pairs(T)
    assert pairs.tolist() == [[rule(i, j) for j in range(T)] for i in range(T)]
    assert torch.equal(pairs, pairs.T)
    assert pairs.diagonal().all()
    assert torch.equal(near.sizes(T), pairs.sum(1))


def plain_head(q, k, v, there, neighbours):
    """A head by definition: each step's softmax over those that it may look at."""
    A = torch.zeros(T, T).double()
    for i in range(T):
        chosen = [j for j in range(T) if there[j] and neighbours(i, j)]
        if not there[i]:
            continue
        scores = torch.stack([q[i] @ k[j] / math.sqrt(len(q[i])) for j in chosen])
        A[i, chosen] = scores.exp() / scores.exp().sum()
    return A


def anywhere(i, j):
    return True


def heads_of(attention: SelfAttention, x):
    """Q, K, V of each head of one item."""
    weight = attention.queries_keys_values.weight.double()
    d = len(weight) // 3 // attention.heads
    Q, K, V = (x @ part.T for part in weight.chunk(3))
    return [tuple(m[:, h * d : h * d + d] for m in (Q, K, V)) for h in range(attention.heads)]


def plain(attention: SelfAttention, x, there, rule):
    """The layer by its equations, for one item; and A of its heads, where there is one."""
    variant, heads = attention.variant, heads_of(attention, x)
    far = [plain_head(q, k, v, there, anywhere) for q, k, v in heads]
    near = [plain_head(q, k, v, there, rule) for q, k, v in heads]
    values = [v for _, _, v in heads]
    if variant == "gate_op":
        O_far = torch.cat([a @ v for a, v in zip(far, values, strict=True)], 1)
        O_near = torch.cat([a @ v for a, v in zip(near, values, strict=True)], 1)
        Wog, Wgg = attention.from_global.weight.chunk(2)
        Wol, Wgl = attention.from_local.weight.chunk(2)
        pair = torch.stack([O_far @ Wgg.T, O_near @ Wgl.T]).exp()
        R = pair / pair.sum(0)
        return R[0] * (O_far @ Wog.T) + R[1] * (O_near @ Wol.T)
    A = list(far)
    if variant == "share_att":
        half = len(heads) // 2
        A = far[:half] + near[half:]
    if variant == "gate_att":
        Wg, Wl = attention.gates[:, :T, :T]
        for h, (a, b) in enumerate(zip(far, near, strict=True)):
            pair = torch.stack([a @ Wg, b @ Wl]).exp()
            R = pair / pair.sum(0)
            A[h] = R[0] * a + R[1] * b
            if attention.options.renormalise:
                A[h] = A[h] / A[h].sum(1, keepdim=True)
    return torch.cat([a @ v for a, v in zip(A, values, strict=True)], 1) @ attention.out.weight.T


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("options", "rule"), [NEIGHBOURHOODS[n] for n in (0, 2, 5)])
@pytest.mark.parametrize("renormalise", [False, True])
def test_self_attention_is_its_equations_head_by_head(variant, options, rule, renormalise):
    if renormalise and variant != "gate_att":
        return
    torch.manual_seed(0)
    chosen = {"variant": variant, "heads": 2, "steps": T + 2, "renormalise": renormalise}
    attention = SelfAttention(6, SelfAttentionOptions(**chosen, **options)).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter *= 3  # so that attention is far from even
    x, mask = torch.randn(3, T, 6).double(), torch.arange(T) < torch.tensor([[T], [9], [1]])
    found = unpack(attention(pack(x, mask), mask), mask)
    for i in range(3):
        wanted = plain(attention, x[i], mask[i], rule)
        assert torch.allclose(found[i][mask[i]], wanted[mask[i]], atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_maps_are_what_each_head_attends_to(variant):
    torch.manual_seed(0)
    rule = NEIGHBOURHOODS[2][1]
    options = SelfAttentionOptions(variant=variant, heads=4, extent=4, steps=T)
    attention = SelfAttention(6, options).double()
    x, mask = torch.randn(2, T, 6).double(), torch.arange(T) < torch.tensor([[T], [9]])
    maps = attention.maps(x, mask)
    half = 2 if variant == "share_att" else 0
    for i in range(2):
        heads = heads_of(attention, x[i])
        far = [plain_head(*qkv, mask[i], anywhere) for qkv in heads[: half or 4]]
        assert torch.allclose(maps["global"][i], torch.stack(far), atol=1e-12)
        if variant != "baseline":
            near = [plain_head(*qkv, mask[i], rule) for qkv in heads[half:]]
            assert torch.allclose(maps["local"][i], torch.stack(near), atol=1e-12)
    wanted = {"global"} if variant == "baseline" else {"global", "local"}
    assert maps.keys() == wanted | ({"gated"} if variant == "gate_att" else set())


def test_a_huge_negative_score_does_not_open_a_masked_pair():
    """Equation 1 to the letter multiplies it with -inf, which makes it the largest."""
    attention = SelfAttention(2, SelfAttentionOptions(variant="share_att", heads=2, extent=1))
    with torch.no_grad():
        q, k, _ = attention.queries_keys_values.weight.chunk(3)
        q.copy_(50 * torch.eye(2))
        k.copy_(-50 * torch.eye(2))
    x, mask = torch.randn(1, 6, 2), torch.ones(1, 6, dtype=torch.bool)
    maps, pairs = attention.maps(x, mask), attention.options.pairs(6)
    assert maps["local"][0, 0][~pairs].abs().max() == 0
    assert torch.allclose(maps["local"].sum(3), torch.ones(1, 1, 6))
    assert attention(pack(x, mask), mask).isfinite().all()


def test_the_rows_of_gated_attention_sum_to_about_one_and_renormalised_to_one():
    sums = {}
    for renormalise in (False, True):
        torch.manual_seed(0)
        options = SelfAttentionOptions(
            variant="gate_att", heads=2, extent=2, steps=6, renormalise=renormalise
        )
        attention = SelfAttention(4, options)
        torch.nn.init.normal_(attention.gates, std=3)
        maps = attention.maps(3 * torch.randn(2, 6, 4), torch.ones(2, 6, dtype=torch.bool))
        sums[renormalise] = maps["gated"].sum(3)
    assert ((sums[False] - 1).abs() > 0.01).any()
    assert ((sums[False] > 0.2) & (sums[False] < 2)).all()
    assert torch.allclose(sums[True], torch.ones_like(sums[True]), atol=1e-5)


def test_gated_attention_over_more_steps_than_its_gates_says_what_to_do():
    gmsa = GMSA(4, GMSAOptions(variant="gate_att", heads=2, steps=5))
    with pytest.raises(MmfError, match="gates of 5 steps, and an item has 6: .* steps=6"):
        gmsa(torch.randn(1, 6, 4), torch.ones(1, 6, dtype=torch.bool))


def test_heads_need_not_divide_the_features_size():
    gmsa = GMSA(5, GMSAOptions(heads=4, extent=2))
    assert gmsa(torch.randn(2, 3, 5), torch.ones(2, 3, dtype=torch.bool)).shape == (2, 5)


def test_gmsa_is_a_transformer_layer_normalised_behind_and_averaged():
    torch.manual_seed(0)
    gmsa = GMSA(6, GMSAOptions(variant="baseline", heads=2)).double()
    layer = torch.nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0, batch_first=True).double()
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(gmsa.attention.queries_keys_values.weight)
        layer.self_attn.out_proj.weight.copy_(gmsa.attention.out.weight)
        for bias in (layer.self_attn.in_proj_bias, layer.self_attn.out_proj.bias):
            bias.zero_()
        for ours, theirs in ((0, layer.linear1), (2, layer.linear2)):
            theirs.load_state_dict(gmsa.feed_forward[ours].state_dict())
    x, mask = torch.randn(3, 7, 6).double(), torch.arange(7) < torch.tensor([[7], [4], [1]])
    steps = layer(x, src_key_padding_mask=~mask)
    wanted = torch.stack([steps[i][mask[i]].mean(0) for i in range(3)])
    assert torch.allclose(gmsa(x, mask), wanted, atol=1e-10)


def test_the_mean_neighbourhood_is_there_and_is_logged(caplog):
    with caplog.at_level(logging.INFO):
        gmsa = GMSA(4, GMSAOptions(mask="block_diagonal", extent=20))
    assert gmsa.mean_neighbours == 20
    assert "block_diagonal looks at 20.0 of 300 steps" in caplog.text


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_differ_as_the_papers_sizes_on_disk_do():
    def total(variant: str) -> int:
        options = SelfAttentionOptions(variant=variant)
        return sum(count(SelfAttention(size, options)) for size in (1024, 128))

    mebibyte = 2**20 / 4  # parameters
    baseline = total("baseline")
    assert baseline == 4 * (1024**2 + 128**2)
    assert total("share_att") == baseline
    assert total("gate_att") - baseline == 2 * 2 * 300**2
    assert (total("gate_att") - baseline) / mebibyte == pytest.approx(
        1.373, abs=1e-3
    )  # 50.2 - 48.9
    assert total("gate_op") - baseline == 3 * (1024**2 + 128**2)
    assert (total("gate_op") - baseline) / mebibyte == pytest.approx(12.19, abs=5e-3)  # 61 - 48.9


LONG = [
    {"mask": "block_diagonal", "extent": 7},
    {"mask": "block_diagonal", "extent": 150},
    {"mask": "toeplitz", "extent": 9},
    {"mask": "toeplitz", "extent": 400},
    {"mask": "toeplitz_dilated", "extent": 11, "dilation": 3},
    {"mask": "toeplitz_dilated", "extent": 2, "dilation": 500},
]


@pytest.mark.parametrize("options", LONG)
@pytest.mark.parametrize("steps", [1, 60, 199])
def test_parts_have_every_step_once_and_all_its_neighbours(options, steps):
    near = Neighbourhood(steps=steps, **options)
    pairs, seen, reached = near.pairs(steps), [], torch.zeros(steps, steps, dtype=torch.bool)
    for queries, keys in near.parts(steps):
        seen += range(steps)[queries]
        reached[queries, keys] = True
    assert sorted(seen) == [*range(steps)]
    assert (reached | ~pairs).all()
    if steps == 199 and options["extent"] < 15:
        assert reached.sum() < 0.5 * steps**2  # or nothing is saved


@pytest.mark.parametrize("options", LONG)
@pytest.mark.parametrize("variant", ["share_att", "gate_op"])
def test_local_attention_by_parts_is_that_over_all_pairs_with_its_gradients(
    options, variant, monkeypatch
):
    torch.manual_seed(0)
    attention = SelfAttention(4, SelfAttentionOptions(variant=variant, heads=2, **options)).double()
    mask = torch.arange(199) < torch.tensor([[199], [61], [0]])
    mask[0, 20:90] = False
    x = torch.randn(3, 199, 4, dtype=torch.float64)

    def outcome() -> list[torch.Tensor]:
        attention.zero_grad()
        out = attention(3 * pack(x, mask), mask)
        out.square().sum().backward()
        return [out.detach(), *(p.grad.clone() for p in attention.parameters())]

    def over_all_pairs(self, q, k, v, mask):
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        return scores.masked_fill(~self._nearby(mask), -float("inf")).softmax(3) @ v

    found = outcome()
    monkeypatch.setattr(SelfAttention, "_attend_nearby", over_all_pairs)
    pairs = zip(found, outcome(), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in pairs)
