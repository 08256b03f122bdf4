import copy

import pytest
import torch
import torchvision
from torch import nn

from mmf.extract.backbones.folding import folded


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "inception_v3"])
@torch.inference_mode()
def test_a_folded_network_gives_what_it_gave(name, with_statistics):
    torch.manual_seed(0)
    how = {"init_weights": False} if name == "inception_v3" else {}
    network = with_statistics(torchvision.models.get_model(name, weights=None, **how))
    image = torch.randn(1, 3, 96, 96)
    made = folded(copy.deepcopy(network))
    assert not [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]
    expected = network(image)
    torch.testing.assert_close(
        made(image), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()
    )
