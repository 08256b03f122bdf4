"""The network of a run: normalise → aggregate → fuse → head, put together from a config.

``network(features, masks) -> logits (B, C)`` takes the features' rows as numbers (dequantised),
``{name: (B, T, *row shape)}``, with T of each feature its own, and ``{name: (B, T) bool}``. Rows of
several dimensions, such as a 7×7×512 grid, count as 7·7 steps of 512 each.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError, unknown
from mmf.fuse import HEADS
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.config import TrainConfig, build_options
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.normalise import Normalise, at_least_float32


class Network(nn.Module):
    """A fusion of features to logits.

    `features` and `classes` are their names, in the order of the vectors and of the logits; `loss`
    says what the logits mean (`mmf.fuse.losses.probabilities`).
    """

    def __init__(
        self,
        config: TrainConfig,
        shapes: Mapping[str, tuple[int, ...]],
        classes: Sequence[str],
        loss: str,
    ):
        super().__init__()
        self.features, self.classes, self.loss = tuple(shapes), tuple(classes), loss
        self._shapes = dict(shapes)
        sizes = [shape[-1] if shape else 1 for shape in shapes.values()]
        # lists, not dicts by name: a feature may be called like an attribute of a module
        self.normalise = nn.ModuleList(Normalise(size, config.normalise) for size in sizes)
        kind = AGGREGATORS.load(config.aggregate)
        options = build_options(
            kind.Options, config.aggregate_options, f"the options of {config.aggregate!r}"
        )
        self.aggregate = nn.ModuleList(kind(size, options) for size in sizes)
        head = HEADS.load(config.head)
        head_options = build_options(
            head.Options, config.head_options, f"the options of {config.head!r}"
        )
        kind = FUSIONS.load(config.fusion)
        options = build_options(
            kind.Options, config.fusion_options, f"the options of {config.fusion!r}"
        )
        vectors = {f: a.out_size for f, a in zip(shapes, self.aggregate, strict=True)}
        self.fusion = kind(vectors, options, head.weights_per_input(len(classes), head_options))
        self.dropout = nn.Dropout(config.dropout)
        self.head = head(self.fusion.out_size, len(classes), head_options)

    def forward(
        self,
        features: Mapping[str, Float[Tensor, "B _ ..."]],
        masks: Mapping[str, Bool[Tensor, "B _"]] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Logits of the classes.

        Without masks every row counts. A feature that is left out is missing for every item.
        """
        for name in features:
            if name not in self.features:
                raise unknown("feature", name, self.features)
        if not features:
            raise MmfError(f"the network was given no feature; expected {self.features}.")
        vectors, present = [], []
        for i, name in enumerate(self.features):
            x, mask = self._steps(name, features, (masks or {}).get(name))
            vectors.append(self.aggregate[i](self.normalise[i](x, mask), mask))  # (B, H)
            present.append(mask.any(1))
        fused = self.fusion(vectors, torch.stack(present, 1))  # (B, H)
        return at_least_float32(self.head(self.dropout(fused)))

    def _steps(
        self, name: str, features: Mapping[str, Tensor], mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A feature's rows as steps (B, T, D) and their mask (B, T)."""
        shape = self._shapes[name]
        if name not in features:
            like = next(iter(features.values()))
            x = like.new_zeros(len(like), 1, *shape)
            mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        else:
            x = features[name]
        if tuple(x.shape[2:]) != shape:
            raise MmfError(
                f"feature {name!r}: rows of shape {tuple(x.shape[2:])}; expected {shape}."
            )
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        cells = math.prod(shape[:-1])
        size = shape[-1] if shape else 1
        return x.reshape(len(x), x.shape[1] * cells, size), mask.repeat_interleave(
            cells, 1
        )  # (B, T cells, D)

    def standardise(self, name: str, rows: Iterable[Float[Tensor, "_ D"]]) -> None:
        """Take the mean and deviation of a feature from its training rows, given in parts."""
        module = self.normalise[self.features.index(name)]
        if isinstance(module, Normalise):
            module.fit(rows)

    def parameter_counts(self) -> dict[str, int]:
        """Learned parameters of the aggregators, the fusion and the head, and in total."""
        parts = {"aggregate": self.aggregate, "fusion": self.fusion, "head": self.head}
        counts = {n: sum(p.numel() for p in part.parameters()) for n, part in parts.items()}
        return counts | {"total": sum(counts.values())}
