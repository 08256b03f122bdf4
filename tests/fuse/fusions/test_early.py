"""Early fusion against torch's own transformer."""

import pytest
import torch
from torch import nn

from mmf import MmfError
from mmf.fuse.fusions.contract import Stream
from mmf.fuse.fusions.early import Early, EarlyOptions, EarlyVectors

SIZES = {"rgb": 5, "audio": 4}


def build(**options) -> Early:
    torch.manual_seed(0)
    streams = {name: Stream(size=size, most=9) for name, size in SIZES.items()}
    fusion = Early(streams, EarlyOptions(**{"hidden": 8, "heads": 2} | options), 1).eval()
    for parameter in fusion.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return fusion


def batch(items: int = 4) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    torch.manual_seed(1)
    x = [torch.randn(items, 6, 5), torch.randn(items, 3, 4)]
    masks = [torch.ones(one.shape[:2], dtype=torch.bool) for one in x]
    masks[0][1, 2:] = False
    masks[1][2] = False
    return x, masks


@pytest.mark.parametrize("options", [{"layers": 0}, {"heads": 0}, {"hidden": 9}, {"dropout": 1.0}])
def test_sizes_that_are_none_are_refused(options):
    with pytest.raises(MmfError):
        build(**options)


def torchs(fusion: Early) -> nn.TransformerEncoder:
    """The same weights in torch's own encoder."""
    layer = nn.TransformerEncoderLayer(8, 2, 32, 0.1, "gelu", 1e-5, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    for own, theirs in zip(fusion.tokens.encoder.layer, encoder.layers, strict=True):
        attention = own.attention
        parts = [getattr(attention.self, n) for n in ("query", "key", "value")]
        theirs.self_attn.in_proj_weight.data = torch.cat([p.weight for p in parts])
        theirs.self_attn.in_proj_bias.data = torch.cat([p.bias for p in parts])
        pairs = [
            (theirs.self_attn.out_proj, attention.output.dense),
            (theirs.norm1, attention.output.LayerNorm),
            (theirs.linear1, own.intermediate.dense),
            (theirs.linear2, own.output.dense),
            (theirs.norm2, own.output.LayerNorm),
        ]
        for there, here in pairs:
            there.load_state_dict(here.state_dict())
    return encoder.train()  # and no shortcut for inference


def test_it_is_torchs_encoder_over_the_item_and_the_rows():
    fusion, (steps, masks) = build(dropout=0.0), batch()
    encoder = torchs(fusion)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    tokens = [p(x) for p, x in zip(fusion.tokens.projections, steps, strict=True)]
    x = torch.cat([fusion.tokens.item.expand(4, 1, 8), *tokens], 1)
    there = torch.cat([torch.ones(4, 1, dtype=torch.bool), *masks], 1)
    wanted = fusion.tokens.mlp(encoder(x, src_key_padding_mask=~there)[:, 0])
    assert torch.allclose(fusion(steps, masks), wanted, atol=1e-5)


def test_the_order_of_rows_does_not_count():
    fusion, (steps, masks) = build(), batch()
    order = torch.randperm(6)
    other = [steps[0][:, order], steps[1]], [masks[0][:, order], masks[1]]
    assert torch.allclose(fusion(*other), fusion(steps, masks), atol=1e-5)


def test_one_vector_of_each_feature_is_one_row_of_each():
    torch.manual_seed(0)
    vectors = EarlyVectors(SIZES, EarlyOptions(hidden=8, heads=2), 1).eval()
    rows = build()
    rows.load_state_dict(vectors.state_dict())
    x, present = [torch.randn(4, 5), torch.randn(4, 4)], torch.rand(4, 2) < 0.6
    wanted = rows([v.unsqueeze(1) for v in x], [present[:, :1], present[:, 1:]])
    assert torch.equal(vectors(x, present), wanted)
