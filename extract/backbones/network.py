"""A torch network as a backbone: device, precision, weights, flops, versions; the same for all.

A network's file says what goes in (`prepare`) and how its output becomes rows (`finish`).
"""

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import ClassVar

import numpy as np
import torch
import torchvision
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

from mmf import MmfError
from mmf.extract.backbones.checkpoint import Loaded
from mmf.extract.backbones.contract import Backbone, Setup
from mmf.extract.backbones.fusing import fused, onednn_convolves
from mmf.matmul import fast_matmul

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trunk(nn.Module):
    """A network of a library, and what of all that it can give makes the rows."""

    def __init__(self, network: nn.Module, wanted: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.network, self._wanted = network, wanted

    def forward(self, given: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "B ..."]:
        """What the backbone prepared → what it finishes."""
        return self._wanted(self.network, given)


class NetworkBackbone(Backbone):
    """A backbone whose rows a torch module computes, in three steps: prepare, trunk, finish."""

    has_weights: ClassVar[bool] = True
    # rows per forward; on a CPU the activations of 8 images fit its caches, more gain nothing
    batches: ClassVar[Mapping[str, int]] = {"cpu": 8, "cuda": 64}
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format
    fuses: ClassVar[bool] = False  # on a CPU its convolutions with what follows them

    def __init__(self, setup: Setup, loaded: Loaded, trunk: nn.Module):
        """`trunk` is the part of the loaded network that makes the rows, without its classifier."""
        super().__init__(setup)
        self.torch_device = torch.device(setup.device)
        self.device = str(self.torch_device)
        self.batch = setup.batch or self.batches[self.torch_device.type]
        self.in_flight = 2 if self.torch_device.type == "cuda" else 1
        self.precision = setup.precision
        self.weights, self.weights_path = loaded.identity, loaded.path
        self.trunk = trunk.eval().to(self.torch_device, TYPES[setup.precision])
        self.trunk.to(memory_format=self.memory_format)
        self._fused: dict[torch.Size, Callable[[Tensor], Tensor]] = {}

    @abstractmethod
    def prepare(self, payloads: Shaped[np.ndarray, "B ..."]) -> Shaped[Tensor, "B ..."]:
        """Payloads → what the trunk takes, on the device: numbers in float32, or codes."""

    def finish(self, made: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """What the trunk made, float32 → rows."""
        return made

    def on_device(self, payloads: Shaped[np.ndarray, "B ..."]) -> Shaped[Tensor, "B ..."]:
        """Payloads as a tensor on the device; from pinned memory they travel meanwhile."""
        return torch.from_numpy(payloads).to(self.torch_device, non_blocking=True)

    def empty_batch(self) -> Shaped[np.ndarray, "B ..."]:
        """A batch of payloads to write into; for a GPU in pinned memory."""
        batch = super().empty_batch()
        if self.torch_device.type != "cuda" or batch.dtype == object:
            return batch
        return torch.from_numpy(batch).pin_memory().numpy()

    def rows(self, payloads: Shaped[np.ndarray, "B ..."]) -> Float32[np.ndarray, "B ..."]:
        """Payloads (B, *signal.row_shape) → rows (B, *row_shape)."""
        return self.begin(payloads)()

    @torch.inference_mode()
    def begin(
        self, payloads: Shaped[np.ndarray, "B ..."]
    ) -> Callable[[], Float32[np.ndarray, "B ..."]]:
        """Begin with a batch; what comes back waits for its rows (B, *row_shape)."""
        given = self._cast(self.prepare(payloads))
        if given.dim() == 4:
            given = given.contiguous(memory_format=self.memory_format)
        try:
            # fp32 means fp32 on a GPU too, and one algorithm for one shape
            exact = {"benchmark": False, "deterministic": True, "allow_tf32": False}
            with torch.backends.cudnn.flags(**exact), self._products():
                made = self._forward(given).float()
        except torch.OutOfMemoryError as error:
            raise MmfError(
                f"a batch of {self.batch} of {self.name!r} does not fit into the memory of "
                f"{self.device}. Ask for a smaller one (--batch-size); it is part of the recipe."
            ) from error
        return _coming(self.finish(made).contiguous())

    def _forward(self, given: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "B ..."]:
        if not (self.fuses and self.torch_device.type == "cpu"):
            made: Tensor = self.trunk(given)
            return made
        if given.shape not in self._fused:  # a recipe has one
            self._fused = {given.shape: fused(self.trunk, given)}
        return self._fused[given.shape](given)

    def _products(self) -> AbstractContextManager[None]:
        """On a CPU float32 products by the faster library, where it is as exact."""
        plain = self.torch_device.type == "cpu" and self.precision == "fp32"
        return fast_matmul() if plain else nullcontext()

    def flops_per_row(self) -> float:
        """Floating point operations of one row, counted by torch on tensors without storage."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self._run_without_storage()
        return float(counter.get_total_flops())

    @functools.cached_property
    def row_shape(self) -> tuple[int, ...]:  # type: ignore[override]  # once, when asked for
        """Shape of one row, found by a run without storage."""
        return tuple(self.finish(self._run_without_storage()).shape[1:])

    def switch(self, option: str) -> bool:
        """Whether an option that is yes or no is yes."""
        if (value := self.chosen[option]) not in ("yes", "no"):
            raise MmfError(f"{option}={value!r} of backbone {self.name!r}: expected yes or no.")
        return value == "yes"

    @torch.inference_mode()
    def _run_without_storage(self) -> Tensor:
        """What the trunk makes of one row, on torch's device `meta`: shapes, no numbers."""
        one = self._cast(self.prepare(self.empty_batch()[:1])).to("meta")
        tensors = chain(self.trunk.named_parameters(), self.trunk.named_buffers())
        without = {name: tensor.to("meta") for name, tensor in tensors}
        with torch.device("meta"):
            made: Tensor = torch.func.functional_call(self.trunk, without, (one,))
        return made.float()

    def _cast(self, given: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "B ..."]:
        return given.to(TYPES[self.precision]) if given.is_floating_point() else given

    def libraries(self) -> dict[str, str]:
        """Versions of what computes the rows, and the device's name."""
        on_cpu = self.torch_device.type == "cpu"
        versions = {
            "numpy": np.__version__,
            "torch": str(torch.__version__),
            "torchvision": str(torchvision.__version__),
            "device": "cpu" if on_cpu else torch.cuda.get_device_name(self.torch_device),
        }
        if on_cpu and self.fuses:  # machines that differ in it differ in the last bits
            fuses = onednn_convolves(TYPES[self.precision])
            versions["convolutions"] = "fused by oneDNN" if fuses else "torch"
        return versions


def _coming(rows: Float[Tensor, "B ..."]) -> Callable[[], Float32[np.ndarray, "B ..."]]:
    """The rows, once the device has made them and they have come to memory."""
    if not rows.is_cuda:
        return rows.numpy
    here = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    here.copy_(rows, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> Float32[np.ndarray, "B ..."]:
        arrived.synchronize()
        return here.numpy()

    return wait
