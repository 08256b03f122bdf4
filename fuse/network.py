"""The network of a run: normalise → aggregate → fuse → head, put together from a config.

That is the way of a `VectorFusion`; a `StepFusion` takes the rows without an aggregator, and a
`LogitFusion` comes behind heads, one for each feature. A `SegmentFusion` has them inside.

``network(features, masks) -> logits (B, C)`` takes the features' rows as numbers (dequantised),
``{name: (B, T, *row shape)}``, with T of each feature its own, and ``{name: (B, T) bool}``. Rows of
several dimensions, such as a 7×7×512 grid, count as 7·7 steps of 512 each. Rows of token ids go
through a text encoder first (`fuse.text.encoder`), whose steps are sub-words. A third argument
numbers the videos of the items, for a head that reads those of a video in their order.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmf import MmfError, Registry, unknown
from mmf.fuse.aggregators import AGGREGATORS
from mmf.fuse.config import TrainConfig, build_options
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.fusions.contract import LogitFusion, Starting, StepFusion, Stream
from mmf.fuse.heads import HEADS
from mmf.fuse.heads.sequence import SequenceHead
from mmf.fuse.layers.normalise import Normalise, at_least_float32, l2_joint
from mmf.fuse.policy.contract import Decided, SegmentFusion
from mmf.fuse.policy.recogniser import Recogniser
from mmf.fuse.text.encoder import TextEncoder, TextOptions


class Network(nn.Module):
    """A fusion of features to logits.

    `features` and `classes` are their names, in the order of the vectors and of the logits; `loss`
    says what the logits mean (`mmf.fuse.losses.probabilities`). Rows of `tokens` are token ids.
    """

    def __init__(
        self,
        config: TrainConfig,
        shapes: Mapping[str, tuple[int, ...]],
        classes: Sequence[str],
        loss: str,
        tokens: Collection[str] = (),
    ):
        super().__init__()
        self.features, self.classes, self.loss = tuple(shapes), tuple(classes), loss
        self._shapes, self._tokens = dict(shapes), frozenset(tokens)
        self._zeroed: frozenset[str] = frozenset()
        self.zero(config.zero)
        self.text = _text(config, {n: shapes[n][0] for n in shapes if n in tokens})
        self._joint = config.normalise == "l2_joint"
        if self._joint:
            _check_joint(shapes, tokens)
        # lists, not dicts by name: a feature may be called like an attribute of a module
        hows = ["none" if name in tokens else config.normalise for name in shapes]
        self.normalise = nn.ModuleList(map(Normalise, map(self._size, shapes), hows))
        self.dropout = nn.Dropout(config.dropout)
        self.aggregate, self.head = nn.ModuleList(), nn.ModuleList()
        self.runs: tuple[str, ...] = ()  # that give the logits: `fuse.training.pretrained`
        self._build(config)

    def _build(self, config: TrainConfig) -> None:
        """The fusion, and the aggregators and heads that its kind has around it."""
        classes = len(self.classes)
        kind, options = _chosen(FUSIONS, config, "fusion")
        streams = {name: self._stream(name, config.max_steps) for name in self.features}
        if issubclass(kind, SegmentFusion):
            self.fusion = kind(streams, classes, options, _recognisers(config, classes))
            return
        given: Any = streams
        if not issubclass(kind, StepFusion):
            aggregator, its = _chosen(AGGREGATORS, config, "aggregate")
            self.aggregate.extend(aggregator(stream.size, its) for stream in streams.values())
            outs = [one.out_size for one in self.aggregate]
            given = dict(zip(self.features, outs, strict=True))
        head, head_options = _chosen(HEADS, config, "head")
        if issubclass(kind, LogitFusion):
            self.fusion = kind(self.features, classes, options)
            self.head.extend(head(out, classes, head_options) for out in outs)
            self.runs = self.fusion.runs
            if self.runs:  # what they have learned stays: no dropout, no gradient, no statistics
                self.dropout.p = 0.0
                self.aggregate.requires_grad_(False)
                self.head.requires_grad_(False)
            return
        self.fusion = kind(given, options, head.weights_per_input(classes, head_options))
        self.head.append(head(self.fusion.out_size, classes, head_options))

    def forward(
        self,
        features: Mapping[str, Float[Tensor, "B _ ..."]],
        masks: Mapping[str, Bool[Tensor, "B _"]] | None = None,
        videos: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Logits of the classes.

        Without masks every row counts. A feature that is left out is missing for every item.
        Without videos each item is alone; with them, those of a video stand together, in order.
        """
        return self.of_steps(*self.steps(features, masks), videos)

    def of_steps(
        self,
        steps: Sequence[Float[Tensor, "B _ _"]],
        there: Sequence[Bool[Tensor, "B _"]],
        videos: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Logits of `steps`; they may be others than rows make, such as those that are learned."""
        if isinstance(self.fusion, SegmentFusion):
            return self.fusion(steps, there).logits
        if isinstance(self.fusion, StepFusion):
            return self._headed(self.head[0], self.fusion(steps, there), videos)
        each = zip(self.aggregate, steps, there, strict=True)
        vectors = [aggregate(x, mask) for aggregate, x, mask in each]  # (B, H)
        present = torch.stack([mask.any(1) for mask in there], 1)  # (B, M)
        if isinstance(self.fusion, LogitFusion):
            logits = [self._headed(h, x, videos) for h, x in zip(self.head, vectors, strict=True)]
            return at_least_float32(self.fusion(torch.stack(logits, 1), present))
        return self._headed(self.head[0], self.fusion(vectors, present), videos)

    def decide(
        self,
        features: Mapping[str, Float[Tensor, "B _ ..."]],
        masks: Mapping[str, Bool[Tensor, "B _"]],
        noise: Float[Tensor, "B S M"] | None = None,
        temperature: float | None = None,
    ) -> Decided:
        """Logits and what they rest on, of a network that decides; see `SegmentFusion`."""
        return self.fusion(*self.steps(features, masks), noise, temperature)

    @property
    def policy(self) -> SegmentFusion | None:
        """Its fusion if that is one that decides."""
        return self.fusion if isinstance(self.fusion, SegmentFusion) else None

    def steps(
        self,
        features: Mapping[str, Float[Tensor, "B _ ..."]],
        masks: Mapping[str, Bool[Tensor, "B _"]] | None = None,
    ) -> tuple[list[Float[Tensor, "B _ _"]], list[Bool[Tensor, "B _"]]]:
        """The features' steps (B, T, D), in their order, normalised, and their masks (B, T)."""
        for name in features:
            if name not in self.features:
                raise unknown("feature", name, self.features)
        if not features:
            raise MmfError(f"the network was given no feature; expected {self.features}.")
        given = [self._steps(n, features, (masks or {}).get(n)) for n in self.features]
        steps = [norm(x, mask) for norm, (x, mask) in zip(self.normalise, given, strict=True)]
        if self._joint:
            steps = l2_joint(steps)
        each_of = zip(self.features, steps, strict=True)
        steps = [torch.zeros_like(x) if n in self._zeroed else x for n, x in each_of]
        return steps, [mask for _, mask in given]

    def _headed(
        self, head: nn.Module, x: Float[Tensor, "B H"], videos: Int[Tensor, " B"] | None
    ) -> Float[Tensor, "B C"]:
        x = self.dropout(x)
        return at_least_float32(head(x, videos) if isinstance(head, SequenceHead) else head(x))

    @property
    def by_video(self) -> bool:
        """Whether its head reads the items of a video one after the other."""
        return any(isinstance(head, SequenceHead) for head in self.head)

    def _steps(
        self, name: str, features: Mapping[str, Tensor], mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A feature's rows as steps (B, T, D) and their mask (B, T)."""
        shape = self._shapes[name]
        if name not in features:
            like = next(iter(features.values()))
            x = like.new_zeros(like.shape[0], 1, *shape)
            mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        else:
            x = features[name]
        if tuple(x.shape[2:]) != shape:
            raise MmfError(
                f"feature {name!r}: rows of shape {tuple(x.shape[2:])}; expected {shape}."
            )
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if self.text is not None and name in self._tokens:
            return self.text(x, mask)
        cells = self._steps_per_row(name)
        x = x.reshape(x.shape[0], x.shape[1] * cells, self._size(name))  # (B, T cells, D)
        return x, mask.repeat_interleave(cells, 1)

    def _size(self, name: str) -> int:
        """D of a feature's steps."""
        if self.text is not None and name in self._tokens:
            return self.text.out_size
        return self._shapes[name][-1] if self._shapes[name] else 1

    def _steps_per_row(self, name: str) -> int:
        """The most steps that a row makes: its cells, or its sub-words."""
        shape = self._shapes[name]
        return shape[0] if name in self._tokens else math.prod(shape[:-1])

    def _stream(self, name: str, most: int) -> Stream:
        """A feature as a fusion meets it; sub-words are counted, and not cut by rows."""
        cells = self._steps_per_row(name)
        each = 1 if name in self._tokens else cells
        return Stream(size=self._size(name), most=most * cells, cells=each)

    def zero(self, features: Sequence[str]) -> None:
        """Make the rows of these features zeros from here on, beside those that already are.

        Behind the normalisation, so that standardised rows are at their mean: the ablation of a
        modality, trained or measured with. That it is missing is another thing, said by masks.
        """
        for name in features:
            if name not in self.features:
                raise unknown("feature", name, self.features)
        self._zeroed |= frozenset(features)

    def start(self) -> None:
        """Before the first step of a fresh run: parts that begin from other weights take them."""
        for module in self.modules():
            if module is not self and isinstance(module, Starting):
                module.start()

    def train(self, mode: bool = True) -> "Network":
        """As of every module, but that what was taken from trained runs stays in eval mode."""
        super().train(mode)
        if self.runs:
            self.aggregate.eval()
            self.head.eval()
        return self

    def take(self, name: str, single: "Network") -> None:
        """Copy how the network of a single feature normalises, aggregates and classifies it."""
        number = self.features.index(name)
        for mine, other in (
            (self.normalise, single.normalise),
            (self.aggregate, single.aggregate),
            (self.head, single.head),
        ):
            mine[number].load_state_dict(other[0].state_dict())

    def standardise(self, name: str, rows: Iterable[Float[Tensor, "_ D"]]) -> None:
        """Take the mean and deviation of a feature from its training rows, given in parts."""
        module = self.normalise[self.features.index(name)]
        if isinstance(module, Normalise) and module.how == "standardise":
            module.fit(rows)

    def parameter_counts(self) -> dict[str, int]:
        """Learned parameters of the aggregators, the fusion and the head, and in total."""
        parts = {"aggregate": self.aggregate, "fusion": self.fusion, "head": self.head}
        if self.text is not None:
            parts["text"] = self.text
        counts = {n: sum(p.numel() for p in part.parameters()) for n, part in parts.items()}
        return counts | {"total": sum(counts.values())}


def _chosen(table: Registry, config: TrainConfig, part: str) -> tuple[Any, Any]:
    """The class that a config names for a part, and its options."""
    name = getattr(config, part)
    kind, options = table.load(name), getattr(config, f"{part}_options")
    return kind, build_options(kind.Options, options, f"the options of {name!r}")


def _recognisers(config: TrainConfig, classes: int) -> Callable[[int], Recogniser]:
    """What makes the recogniser of a stream of vectors of some size: an aggregator and a head."""
    aggregator, its = _chosen(AGGREGATORS, config, "aggregate")
    head, head_options = _chosen(HEADS, config, "head")
    if issubclass(head, SequenceHead):
        raise MmfError(f"fusion {config.fusion!r} takes each item alone; choose another head.")

    def recogniser(size: int) -> Recogniser:
        pooled = aggregator(size, its)
        return Recogniser(pooled, config.dropout, head(pooled.out_size, classes, head_options))

    return recogniser


def _check_joint(shapes: Mapping[str, tuple[int, ...]], tokens: Collection[str]) -> None:
    for name, shape in shapes.items():
        if len(shape) > 1 or name in tokens:
            what = "token ids" if name in tokens else f"rows of shape {list(shape)}"
            raise MmfError(
                f"feature {name!r} has {what}; normalise 'l2_joint' puts one vector of each "
                "feature side by side at a step. Use l2, or leave the feature out."
            )


def _text(config: TrainConfig, rows: Mapping[str, int]) -> TextEncoder | None:
    """The encoder of the features whose rows are so many token ids."""
    if not rows:
        return None
    options = build_options(TextOptions, config.text_options, "the options of the text encoder")
    return TextEncoder(config.text, rows, options)
