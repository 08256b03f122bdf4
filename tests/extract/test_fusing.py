"""Convolutions fused by oneDNN give what the plain network gives, whatever hangs on their maps."""

import copy
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from mmf.extract.backbones import fusing
from mmf.extract.backbones.fusing import fused, onednn_convolves

needs_onednn = pytest.mark.skipif(
    not onednn_convolves(torch.float32), reason="oneDNN has no fused convolutions here"
)


class Counted(TorchDispatchMode):
    """Counts the operations that are run."""

    def __init__(self):
        super().__init__()
        self.ran = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.ran[str(function)] += 1
        return function(*args, **(kwargs or {}))


class Net(nn.Module):
    """A small network in two or three dimensions; `end` says what comes after its convolutions."""

    def __init__(self, end, axes: int = 2):
        super().__init__()
        convolution = (nn.Conv2d, nn.Conv3d)[axes - 2]
        norm = (nn.BatchNorm2d, nn.BatchNorm3d)[axes - 2]
        self.stem = convolution(3, 8, 3, padding=1, bias=False)
        self.norm = norm(8)
        self.deep = convolution(8, 8, 3, padding=1, groups=8)
        self.point = convolution(8, 8, 1)
        self.end = end
        for p in (self.norm.running_mean, self.norm.bias):
            nn.init.normal_(p)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.end(self, functional.relu(self.norm(self.stem(images))))


ENDS = {
    "relu6": lambda net, x: functional.relu6(net.deep(x)),
    "silu": lambda net, x: functional.silu(net.point(x)),
    "sum": lambda net, x: functional.relu(x + net.point(net.deep(x))),
    "sum in place": lambda net, x: net.point(net.deep(x)).add_(x).relu_(),
    "sum into the shortcut": lambda net, x: x.add_(net.point(x)) * x,
    "shortcut needed again": lambda net, x: (net.point(x) + x) * x,
    "shortcut needed as a view": lambda net, x: _view_after_sum(net, x),
    "twice itself": lambda net, x: (lambda y: y + y)(net.point(x)),
    "sum scaled": lambda net, x: torch.add(net.point(x), x, alpha=2),
    "sum of another shape": lambda net, x: net.point(x) + x.mean(dim=(2, 3), keepdim=True),
    "map needed twice": lambda net, x: (lambda y: y.relu() - y)(net.point(x)),
    "sum of two convolutions": lambda net, x: (net.deep(x) + net.point(x)).relu(),
    "sum then tanh": lambda net, x: torch.tanh(net.point(x) + x),
}


def _view_after_sum(net: Net, x: Tensor) -> Tensor:
    view = x.flatten(2)
    made = net.point(x) + x
    return made.flatten(2) + view


@needs_onednn
@pytest.mark.parametrize("end", ENDS)
@torch.inference_mode()
def test_a_fused_network_gives_what_it_gave(end):
    torch.manual_seed(0)
    network = Net(ENDS[end]).eval()
    images = torch.randn(2, 3, 7, 9)
    given = images.clone()
    made = fused(network, images)(images)
    assert torch.equal(images, given)  # nothing is written over
    expected = copy.deepcopy(network).double()(images.double())
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-5)


@needs_onednn
@torch.inference_mode()
def test_fused_again_it_gives_the_same_bits():
    torch.manual_seed(0)
    network = Net(ENDS["sum"]).eval()
    images = torch.randn(2, 3, 7, 9)
    again = copy.deepcopy(network)
    assert torch.equal(fused(network, images)(images), fused(again, images)(images))


@needs_onednn
@torch.inference_mode()
def test_in_three_dimensions_too():
    torch.manual_seed(0)
    network = Net(ENDS["sum"], axes=3).eval()
    clips = torch.randn(1, 3, 4, 7, 9)
    expected = copy.deepcopy(network).double()(clips.double())
    made = fused(network, clips)(clips)
    torch.testing.assert_close(made.double(), expected, rtol=1e-5, atol=1e-5)


@needs_onednn
@torch.inference_mode()
def test_norm_sum_and_activation_are_no_passes_of_their_own():
    network = Net(ENDS["sum"]).eval()
    images = torch.randn(2, 3, 7, 9)
    run = fused(network, images)
    with Counted() as counted:
        run(images)
    convolutions = {k: n for k, n in counted.ran.items() if "convolution" in k}
    assert convolutions == {
        "mkldnn._convolution_pointwise.default": 2,
        "mkldnn._convolution_pointwise_.binary": 1,  # into the shortcut, which nothing needs more
    }
    left = counted.ran.keys() - convolutions.keys()
    assert not [name for name in left if any(k in name for k in ("norm", "add", "relu"))]


@torch.inference_mode()
def test_without_such_operations_the_network_stays_as_it_is(monkeypatch):
    images = torch.randn(2, 3, 7, 9)
    network = Net(ENDS["sum"]).eval()
    with monkeypatch.context() as patched:
        patched.setattr(fusing, "onednn_convolves", lambda dtype: False)
        assert fused(network, images) is network
    nothing_behind = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 8, 3)).eval()
    assert fused(nothing_behind, images) is nothing_behind
    one = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval()
    assert fused(one, images) is one


def test_what_is_not_exact_is_not_used(monkeypatch):
    class Wrong:
        class _convolution_pointwise:  # noqa: N801
            @staticmethod
            def binary(maps, other, *_):
                return maps + other

        @staticmethod
        def _reorder_convolution_weight(weight, *_):
            return weight

    monkeypatch.setattr(fusing, "_onednn", Wrong)
    assert not onednn_convolves.__wrapped__(torch.float32)
    monkeypatch.setattr(fusing, "_onednn", object())
    assert not onednn_convolves.__wrapped__(torch.float32)
