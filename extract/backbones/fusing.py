"""Convolutions on a CPU with what follows them in one pass over the maps, by oneDNN.

A convolution takes in the batch norm behind it (a scale and a shift of each channel, so a part of
the weights), the map that is added to it, and its ReLU, ReLU6 or Swish: oneDNN computes them while
the result is in registers. The maps lie with their channels last. It is what torch.compile does to
these networks, without a C++ compiler. Rows differ from the plain network's in rounding.
"""

import threading
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

# operations by name: one of mmf's own is there only once its network is
_CONVOLUTIONS = ("aten.conv2d.default", "aten.conv3d.default")
_NORMS = ("aten.batch_norm.default",)
_SUMS = ("aten.add.Tensor", "aten.add_.Tensor")
_ACTIVATIONS = {  # → as oneDNN calls them
    "aten.relu.default": "relu",
    "aten.relu_.default": "relu",
    "aten.hardtanh.default": "hardtanh",
    "aten.hardtanh_.default": "hardtanh",
    "aten.silu.default": "swish",
    "aten.silu_.default": "swish",
    "mmf.swish.default": "swish",
}
_AFTER_SUM = ("aten.relu.default", "aten.relu_.default")  # oneDNN has no other there
_POOLS = ("aten.max_pool2d.default", "aten.max_pool3d.default")
_FUSED = (
    "mkldnn._convolution_pointwise.default",
    "mkldnn._convolution_pointwise.binary",
    "mkldnn._convolution_pointwise_.binary",
)
_onednn = torch.ops.mkldnn
_EXPORTING = threading.Lock()  # torch.export fails where two threads are in it
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_FEWEST = 2  # convolutions: the one of a transformer, into its patches, is not worth an export
_SLACK = 4.0  # times the error of torch's own convolution
_GEOMETRY = ([0, 0], [1, 1], [1, 1], 1)  # padding, stride, dilation, groups


def fused(network: nn.Module, given: Float[Tensor, "B ..."]) -> Callable[[Tensor], Tensor]:
    """The network for inputs of this shape and type, its convolutions fused; weights are copied.

    The network itself, where oneDNN cannot do that here as exactly as torch does without, or where
    no convolution has anything behind it.
    """
    if given.dim() not in _CHANNELS_LAST or not onednn_convolves(given.dtype):
        return network
    if sum(isinstance(m, nn.Conv2d | nn.Conv3d) for m in network.modules()) < _FEWEST:
        return network
    with _EXPORTING:
        made = torch.export.export(network, (given,), strict=False).module(check_guards=False)
    assert isinstance(made, GraphModule)
    convolutions = [node for node in made.graph.nodes if str(node.target) in _CONVOLUTIONS]
    if sum(_fuse(made, convolution) for convolution in convolutions) == 0:
        return network
    made.recompile()
    channels_last = _CHANNELS_LAST[given.dim()]
    return lambda images: made(images.contiguous(memory_format=channels_last))


@cache
def onednn_convolves(dtype: torch.dtype) -> bool:
    """Whether oneDNN has fused convolutions of this type here, as exact as torch's; tried once."""
    generator = torch.Generator().manual_seed(0)
    maps, weight = (torch.randn(s, generator=generator) for s in ((2, 64, 9, 9), (64, 64, 1, 1)))
    exact = (functional.conv2d(maps.double(), weight.double()) + maps.double()).relu()
    maps, weight = maps.to(dtype), weight.to(dtype)
    try:
        plain = (functional.conv2d(maps, weight) + maps).relu()
        packed = _onednn._reorder_convolution_weight(weight, *_GEOMETRY, list(maps.shape))
        behind: Any = ("add", 1.0, "relu", [], None)
        made = _onednn._convolution_pointwise.binary(maps, maps, packed, None, *_GEOMETRY, *behind)
    except (AttributeError, RuntimeError):  # another build of torch, or a CPU without that type
        return False
    errors = [(found.double() - exact).abs().max().item() for found in (plain, made)]
    return errors[1] <= _SLACK * errors[0]


def _fuse(made: GraphModule, convolution: Node) -> bool:
    """One operation for a convolution and what follows it; False where nothing does."""
    maps, weight, bias, *geometry = _arguments(convolution)
    weight, bias = _tensor(made, weight), _tensor(made, bias)
    chain, other = [convolution], None
    activation: str | None = None
    scalars: list[Any] = []
    if norm := _follower(chain[-1], _NORMS):
        weight, bias = _with_norm(made, norm, weight, bias)
        chain.append(norm)
    if (total := _follower(chain[-1], _SUMS)) and (other := _other(total, chain[-1])):
        chain.append(total)
    if after := _follower(chain[-1], _AFTER_SUM if other else _ACTIVATIONS):
        activation, scalars = _ACTIVATIONS[str(after.target)], [*after.args[1:]]
        chain.append(after)
    weight = _laid_out(weight, geometry, maps)
    with made.graph.inserting_before(chain[-1]):
        held = [_held(made, f"{convolution.name}_{k}", t) for k, t in enumerate((weight, bias))]
        inputs: list[Any] = [maps]
        behind: list[Any] = [activation or "none", scalars]
        operation = _onednn._convolution_pointwise.default
        if other and total:
            inputs, behind = [maps, other], ["add", 1.0, activation, []]
            operation = _onednn._convolution_pointwise.binary
            if _is_spent(other, total):  # the sum takes its place
                inputs, operation = [other, maps], _onednn._convolution_pointwise_.binary
        node = made.graph.call_function(operation, (*inputs, *held, *geometry, *behind, None))
    node.meta["val"] = chain[-1].meta["val"]
    chain[-1].replace_all_uses_with(node)
    for replaced in reversed(chain):  # those that work in place would count as needed
        made.graph.erase_node(replaced)
    return len(chain) > 1


def _arguments(convolution: Node) -> list[Any]:
    """Maps, weight, bias, padding, stride, dilation, groups: in oneDNN's order, none left out."""
    given: list[Any] = list(convolution.args)
    axes = given[0].meta["val"].dim() - 2
    defaults = [None, [1] * axes, [0] * axes, [1] * axes, 1]
    maps, weight, bias, stride, *rest = given + defaults[len(given) - 2 :]
    return [maps, weight, bias, rest[0], stride, *rest[1:]]


def _follower(node: Node, operations: Collection[str]) -> Node | None:
    """What alone needs the node's result, where that is one of these operations on it."""
    if len(node.users) != 1:
        return None
    (user,) = node.users
    return user if str(user.target) in operations else None


def _other(total: Node, part: Node) -> Node | None:
    """What is added to `part`, where that has its very shape."""
    given: tuple[Any, ...] = total.args
    others = [node for node in given if isinstance(node, Node) and node is not part]
    if len(given) != 2 or total.kwargs or len(others) != 1:
        return None
    (other,) = others
    alike = other.meta["val"].shape == part.meta["val"].shape
    in_place = str(total.target) == "aten.add_.Tensor" and given[0] is other
    return other if alike and not in_place else None


def _is_spent(other: Node, total: Node) -> bool:
    """Whether nothing needs the numbers of `other` any more once the sum is made."""
    if str(other.target) not in (*_CONVOLUTIONS, *_NORMS, *_POOLS, *_FUSED):
        return False  # it may be a view of something
    users = [user for user in other.users if user is not total]
    return all(str(u.target) in (*_CONVOLUTIONS, *_FUSED) and u < total for u in users)


def _tensor(made: GraphModule, node: Any) -> Any:
    """The weights that a node stands for; None where there is no node."""
    if node is None:
        return None
    module, _, name = str(node.target).rpartition(".")
    return getattr(made.get_submodule(module), name).detach()


def _with_norm(
    made: GraphModule, norm: Node, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weight and bias with the batch norm taken in, computed in float32."""
    scale, shift, mean, variance = (_tensor(made, node) for node in norm.args[1:5])
    epsilon: Any = norm.args[7]
    exact_bias = None if bias is None else bias.float()
    exact = weight.float(), exact_bias, mean.float(), variance.float()
    taken_in = fuse_conv_bn_weights(*exact, epsilon, scale, shift)
    new_weight, new_bias = (t.detach().to(weight.dtype) for t in taken_in)
    return new_weight, new_bias


def _laid_out(weight: Tensor, geometry: list[Any], maps: Node) -> Tensor:
    """The weight as oneDNN reads it fastest for these maps."""
    if weight.dim() == 5:  # packed ones are slower
        return weight.contiguous(memory_format=torch.channels_last_3d)
    shape = list(maps.meta["val"].shape)
    packed: Tensor = _onednn._reorder_convolution_weight(weight, *geometry, shape)
    return packed


def _held(made: GraphModule, name: str, tensor: Tensor | None) -> Node | None:
    """The node of a tensor that the graph keeps."""
    if tensor is None:
        return None
    made.register_buffer(name, tensor, persistent=False)
    return made.graph.get_attr(name)
