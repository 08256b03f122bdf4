import copy

import pytest
import torch
import torchvision
from torch import nn

from mmf.extract.backbones.folding import folded


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "inception_v3"])
@torch.inference_mode()
def test_a_folded_network_gives_what_it_gave(name):
    torch.manual_seed(0)
    how = {"init_weights": False} if name == "inception_v3" else {}
    network = torchvision.models.get_model(name, weights=None, **how).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    image = torch.randn(1, 3, 96, 96)
    made = folded(copy.deepcopy(network))
    assert not [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]
    expected = network(image)
    torch.testing.assert_close(
        made(image), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()
    )
