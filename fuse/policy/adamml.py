"""AdaMML: in each segment of an item, which modalities are worth their cost.

Panda, Chen, Fan, Sun, Saenko, Oliva and Feris, ICCV 2021, arXiv:2105.05165. For segment s and
modality m, with the policy's logits z (`fuse.policy.agent`) and logistic noise g (the difference of
two Gumbel variables, so that this is their Gumbel-softmax of two),

    d_sm = [z_sm1 - z_sm0 + g_sm > 0]        gradient: that of sigmoid((z_sm1 - z_sm0 + g_sm) / τ)
    logits = 1/S sum_s sum_m w_m d_sm l_sm   w_1 … w_{M-1} learned, w_M = 1 - their sum

with l_sm what the modality's own network says of the segment. A modality that a segment lacks is
never used, nothing is made up for one that is not, and where all are off a segment says zeros. In
evaluation g = 0: the likelier decision. The authors' code draws there too, which is `sampled`.
The mean over segments is `consensus`, which can be attention (`fuse.policy.consensus`).

Every modality's network is computed here, and what it says is multiplied by its decision: features
are stored already. The same weights say on raw video what need not be computed at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmf import MmfError, unknown
from mmf.fuse.fusions.concat import filled
from mmf.fuse.fusions.contract import Stream
from mmf.fuse.layers.normalise import at_least_float32
from mmf.fuse.policy.agent import Agent
from mmf.fuse.policy.consensus import CONSENSUS, SegmentAttention, Together, attended, averaged
from mmf.fuse.policy.contract import (
    Decided,
    Loss,
    Recogniser,
    SegmentFusion,
    Stage,
    decision,
)
from mmf.fuse.policy.cost import PENALTIES, alone_loss, penalty
from mmf.fuse.policy.rates import rates_of
from mmf.fuse.policy.roles import check_names, roles
from mmf.fuse.policy.segments import Segmented, means, segmented
from mmf.fuse.policy.stages import EPOCHS, MILESTONES, Stages

_KNOWN: Mapping[str, Sequence[str]] = {
    "decisions": ("learned", "all", "random"),
    "weights": ("learned", "mean"),
    "consensus": CONSENSUS,
    "penalty": PENALTIES,
    "best": ("answers", "objective"),
}
_NEVER = 1e-6  # a rate of 0 or 1, as odds


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Options of AdaMML and of what it is held against; the defaults are the published ones."""

    # what decides about what
    modalities: tuple[str, ...] = ()  # (): the features that are no clues, or all
    clues: tuple[str, ...] = ()  # cheap features that it decides from; (): the modalities' own
    always: tuple[str, ...] = ()  # modalities used wherever they are, e.g. a clue: sound first
    decisions: Literal["learned", "all", "random"] = "learned"
    rate: float | Mapping[str, float] = 0.5  # of use, for random
    runs: tuple[str, ...] = ()  # for random: a policy's run, whose rates on validation it takes
    sampled: bool = False  # decisions are drawn in evaluation, too
    # the networks
    segments: int = 10  # S
    layers: tuple[int, ...] = (2048, 2048)  # units of the policy's MLP
    hidden: int = 256  # units of its LSTM
    weights: Literal["learned", "mean"] = "learned"  # w; mean: 1/M each
    consensus: Literal["mean", "attention"] = "mean"  # of segments: `fuse.policy.consensus`
    # the training
    penalty: Literal["correct", "mean"] = "correct"  # `fuse.policy.cost`
    cost: float | Mapping[str, float] = 1.0  # λ of each modality
    gamma: float = 10.0  # what a wrong answer costs; it has no gradient
    best: Literal["answers", "objective"] = "answers"  # that is kept: metric, or loss and cost
    epochs: Mapping[str, int] = field(default_factory=lambda: dict(EPOCHS))
    milestones: Mapping[str, Sequence[int]] = field(default_factory=lambda: dict(MILESTONES))
    temperature: float = 5.0  # τ at first
    decay: float = 0.965  # of it, after each pair of epochs
    policy_lr: float = 0.01  # of Adam, which learns the policy
    # what is told
    # of a segment, a product and its sum as two: `fuse.policy.usage`
    gflops: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lists = {name: tuple(epochs) for name, epochs in self.milestones.items()}
        object.__setattr__(self, "milestones", lists)
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        if min(self.segments, self.hidden, *self.layers) < 1:
            raise MmfError(
                f"{self.segments} segments, layers of {list(self.layers)} and {self.hidden} hidden "
                "units: expected at least 1 of each."
            )
        if not 0 <= min(_each(self.rate)) <= max(_each(self.rate)) <= 1:
            raise MmfError(f"rate = {self.rate}: expected 0 to 1.")
        if min(self.gamma, *_each(self.cost), *self.gflops.values()) < 0 or self.policy_lr <= 0:
            raise MmfError(
                f"cost {self.cost}, gamma {self.gamma:g}, gflops {dict(self.gflops)}, policy_lr "
                f"{self.policy_lr:g}: expected 0 or more, and a rate of learning above 0."
            )
        if self.runs and (len(self.runs) > 1 or self.decisions != "random"):
            raise MmfError(
                f"runs = {list(self.runs)}: expected one run of a policy, whose rates "
                "decisions=random then has."
            )
        self.stages()

    def stages(self) -> Stages:
        """Those of its training."""
        return Stages(
            epochs=self.epochs,
            milestones=self.milestones,
            temperature=self.temperature,
            decay=self.decay,
            learned=self.decisions == "learned",
        )


class Policy(SegmentFusion):
    """A network for each modality, and a policy over them."""

    Options = PolicyOptions
    odds: Tensor  # (M,) of random decisions
    cost: Tensor  # λ (M,)

    def __init__(
        self,
        streams: Mapping[str, Stream],
        classes: int,
        options: PolicyOptions,
        recogniser: Recogniser,
    ):
        super().__init__()
        self.options, self.stages, self.cells = (
            options,
            options.stages(),
            [one.cells for one in streams.values()],
        )
        self.modalities, self.clues = roles(streams, options.modalities, options.clues)
        self.segments, self.epochs = options.segments, self.stages.total
        self.policy_lr, self.costs = options.policy_lr, options.gflops
        self.counts_costs = options.best == "objective"
        self.sampled = options.sampled or options.decisions == "random"
        names = list(streams)
        self._recognised = [names.index(name) for name in self.modalities]
        self._seen = [names.index(name) for name in self.clues]
        check_names("always", options.always, self.modalities)
        self._always = [name in options.always for name in self.modalities]
        M = len(self.modalities)
        self.recognise = nn.ModuleList(recogniser(streams[n].size) for n in self.modalities)
        self.weights = nn.Parameter(torch.full((M - 1,), 1 / M))
        self.weights.requires_grad_(options.weights == "learned")
        self.attention: SegmentAttention | None = None
        if options.consensus == "attention":
            self.attention = SegmentAttention([streams[n].size for n in self.modalities])
        self.agent: Agent | None = None
        if options.decisions == "learned":
            sizes = [streams[n].size for n in self.clues]
            self.agent = Agent(sizes, M, options.layers, options.hidden)
        if options.decisions == "random":
            self.register_buffer("odds", _odds(_by_name("rate", options.rate, self.modalities)))
        cost = torch.tensor(_by_name("cost", options.cost, self.modalities))
        self.register_buffer("cost", cost, persistent=False)

    @property
    def deciding(self) -> Sequence[nn.Module]:
        """The policy network, where it learns."""
        return () if self.agent is None else (self.agent,)

    def start(self) -> None:
        """The rates of the run that was named."""
        for run in self.options.runs:
            self.odds.copy_(_odds(rates_of(run, self.modalities)))

    def forward(
        self,
        steps: Sequence[Float[Tensor, "B _ _"]],
        masks: Sequence[Bool[Tensor, "B _"]],
        noise: Float[Tensor, "B S M"] | None = None,
        temperature: float | None = None,
    ) -> Decided:
        """What the modalities say that are used."""
        cut = segmented(steps, masks, self.segments, self.cells)
        each = zip(self._recognised, self.recognise, strict=True)
        said = [net(cut.steps[m], cut.masks[m]) for m, net in each]
        logits = at_least_float32(torch.stack(said, 1)).unflatten(0, cut.valid.shape)  # (B,S,M,C)
        there = torch.stack([cut.there(m) for m in self._recognised], 2)  # (B, S, M)
        used = self._used(cut, there, noise, temperature).to(logits.dtype)
        of_modalities = torch.cat([self.weights, 1 - self.weights.sum(0, keepdim=True)])
        fused, alone = self._said_together(cut, used, there.to(logits.dtype), logits)
        return Decided(
            logits=torch.einsum("m,bmc->bc", of_modalities, fused.said),
            used=used,
            there=there,
            valid=cut.valid,
            segment_weights=fused.weights,
            alone=alone.said,
        )

    def _said_together(
        self,
        cut: Segmented,
        used: Float[Tensor, "B S M"],
        there: Float[Tensor, "B S M"],
        said: Float[Tensor, "B S M C"],
    ) -> tuple[Together, Together]:
        """What each modality says where it is used, and would say wherever it is."""
        if self.attention is not None:
            scores = self.attention.scores(cut, self._recognised)
            return attended(scores, used, said), attended(scores, there, said)
        segments = cut.valid.sum(1, keepdim=True).to(used.dtype).expand(-1, used.shape[2])
        return averaged(used, said, segments), averaged(there, said, there.sum(1))

    def _used(
        self,
        cut: Segmented,
        there: Bool[Tensor, "B S M"],
        noise: Float[Tensor, "B S M"] | None,
        temperature: float | None,
    ) -> Float[Tensor, "B S M"]:
        """1 or 0; with a temperature, straight through."""
        if self.options.decisions == "all":
            return there.float()
        if self.options.decisions == "random":
            if noise is None:
                raise MmfError("a random policy decides by noise, and was given none.")
            decided = (self.odds + noise > 0).float()
        else:
            decided = decision(self.odds_of(cut), noise, temperature)
        if any(self._always):
            decided = torch.where(torch.tensor(self._always, device=there.device), 1.0, decided)
        return decided * there

    def odds_of(self, cut: Segmented) -> Float[Tensor, "B S M"]:
        """z_1 - z_0 of a policy that learns: log odds of use."""
        if self.agent is None:
            raise MmfError(f"decisions = {self.options.decisions!r}: no policy says their odds.")
        vectors = [means(cut.steps[m], cut.masks[m]) for m in self._seen]
        present = torch.stack([cut.masks[m].any(1) for m in self._seen], 1)
        clues = torch.cat(filled(vectors, present, self.agent.missing), 1)
        logits = self.agent(clues.unflatten(0, cut.valid.shape))
        return logits[..., 1] - logits[..., 0]

    def cost_of(self, rates: Mapping[str, float]) -> float:
        """That of `fuse.policy.cost`, of an item with these rates that is answered rightly."""
        power = 2 if self.options.penalty == "correct" else 1
        return sum(
            float(cost) * rates[name] ** power
            for name, cost in zip(self.modalities, self.cost, strict=True)
        )

    def stage(self, step: int, steps: int, epoch_steps: int) -> Stage:
        """That of AdaMML."""
        return self.stages.at(step, steps, epoch_steps)

    def loss(
        self,
        decided: Decided,
        labels: Float[Tensor, "B C"],
        rated: Bool[Tensor, "B C"],
        loss: Loss,
        stage: Stage,
    ) -> Float[Tensor, ""]:
        """The run's loss, of each modality alone at first; and what decisions cost."""
        if stage.name == "single":
            return alone_loss(decided, labels, rated, loss)
        found = loss(decided.logits, labels, rated)
        if not stage.weight:
            return found
        options = self.options
        term = penalty(decided, labels, rated, self.cost, options.gamma, options.penalty)
        return found + stage.weight * term


def _each(value: float | Mapping[str, float]) -> list[float]:
    return list(value.values()) if isinstance(value, Mapping) else [value]


def _by_name(
    what: str, value: float | Mapping[str, float], modalities: Sequence[str]
) -> list[float]:
    """A number for each modality."""
    if not isinstance(value, Mapping):
        return [float(value)] * len(modalities)
    check_names(what, list(value), modalities)
    for name in modalities:
        if name not in value:
            raise MmfError(f"{what} = {dict(value)}: nothing is said of {name!r}.")
    return [float(value[name]) for name in modalities]


def _odds(rates: Sequence[float]) -> Float[Tensor, " M"]:
    return torch.tensor(rates, dtype=torch.float64).logit(_NEVER).float()
