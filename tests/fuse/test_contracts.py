"""The contract of every fusion and every head, from the registries: a new name is tested here."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
import torch
from torch import Tensor, nn

from mmf import UnknownName
from mmf.fuse.config import build_options
from mmf.fuse.fusions import FUSIONS
from mmf.fuse.fusions.contract import LogitFusion, StepFusion, Stream
from mmf.fuse.heads import HEADS
from mmf.fuse.heads.sequence import SequenceHead
from mmf.fuse.policy.contract import SegmentFusion

SIZES = {"rgb": 5, "audio": 4, "text": 3}
CLASSES = 3
ITEMS = 8
SEVERAL = [name for name in FUSIONS if name != "single"]
ROWS = (StepFusion, SegmentFusion)  # the kinds that read rows


class Pooled(nn.Module):
    """The least recogniser that there is: a linear unit per class on the mean step."""

    def __init__(self, size: int):
        super().__init__()
        self.unit = nn.Linear(size, CLASSES)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.unit((x * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True).clamp_min(1))


@dataclass
class Given:
    """What a fusion is given for some items: vectors, rows or logits of each feature."""

    values: list[Tensor]  # of each feature (B, …)
    there: list[Tensor]  # of each feature bool (B,) or (B, T)

    def change(self, values: Callable[[Tensor], Tensor], there=lambda one: one) -> "Given":
        return Given([values(x) for x in self.values], [there(x) for x in self.there])

    def take(self, items) -> "Given":
        return self.change(lambda x: x[items], lambda x: x[items])


def features(name: str) -> dict[str, int]:
    return {"rgb": 5} if name == "single" else SIZES


def build(name: str, options: dict, seed: int = 0) -> nn.Module:
    """A fusion in eval mode; no parameter stands where it would start, at 0 for example."""
    kind, sizes = FUSIONS.load(name), features(name)
    chosen = build_options(kind.Options, options, name)
    torch.manual_seed(seed)
    if issubclass(kind, LogitFusion):
        fusion = kind(tuple(sizes), CLASSES, chosen)
    elif issubclass(kind, SegmentFusion):
        streams = {n: Stream(size=d, most=9) for n, d in sizes.items()}
        fusion = kind(streams, CLASSES, chosen, Pooled)
    elif issubclass(kind, StepFusion):
        fusion = kind({n: Stream(size=d, most=9) for n, d in sizes.items()}, chosen, 3)
    else:
        fusion = kind(sizes, chosen, 3)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return fusion.eval()


def given(name: str) -> Given:
    """Of 8 items: 2 have everything, the others lack one feature or two."""
    kind, sizes = FUSIONS.load(name), list(features(name).values())
    torch.manual_seed(1)
    present = torch.ones(ITEMS, len(sizes), dtype=torch.bool)
    for i in range(2, ITEMS if len(sizes) > 1 else 0):
        present[i] = torch.tensor([(i >> m) & 1 == 1 for m in range(len(sizes))])
    if issubclass(kind, LogitFusion):
        return Given([3 * torch.randn(ITEMS, CLASSES) for _ in sizes], list(present.unbind(1)))
    if not issubclass(kind, ROWS):
        return Given([torch.randn(ITEMS, d) for d in sizes], list(present.unbind(1)))
    masks = []
    for m in range(len(sizes)):
        steps = 1 + (torch.arange(ITEMS) * 3 + m) % (5 + m)
        masks.append((torch.arange(5 + m) < steps[:, None]) & present[:, m : m + 1])
    rows = [torch.randn(*mask.shape, d) for mask, d in zip(masks, sizes, strict=True)]
    return Given([x * m.unsqueeze(2) for x, m in zip(rows, masks, strict=True)], masks)


def run(fusion: nn.Module, given: Given) -> Tensor:
    if isinstance(fusion, SegmentFusion):
        return fusion(given.values, given.there).logits
    if isinstance(fusion, StepFusion):
        return fusion(given.values, given.there)
    present = torch.stack(given.there, 1)
    if isinstance(fusion, LogitFusion):
        return fusion(torch.stack(given.values, 1), present)
    return fusion(given.values, present)


@pytest.fixture
def fuse(small):
    """The fusion of a name, and what it is given."""
    return lambda name: (build(name, small(FUSIONS, name)), given(name))


@pytest.mark.parametrize("name", FUSIONS)
def test_an_unknown_option_of_a_fusion_is_refused(name):
    with pytest.raises(UnknownName, match="unknown key"):
        build_options(FUSIONS.load(name).Options, {"outptus": 3}, "the options")


@pytest.mark.parametrize("name", FUSIONS)
def test_the_options_of_a_fusion_equal_themselves_after_json(name, small):
    kind = FUSIONS.load(name).Options
    for options in (kind(), build_options(kind, small(FUSIONS, name), name)):
        text = json.dumps(asdict(options))
        assert build_options(kind, json.loads(text), name) == options


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_gives_something_finite_of_its_size_for_every_item(name, fuse):
    fusion, some = fuse(name)
    fused = run(fusion, some)
    size = CLASSES if isinstance(fusion, LogitFusion | SegmentFusion) else fusion.out_size
    assert fused.shape == (ITEMS, size)
    assert fused.isfinite().all()
    assert torch.equal(run(fusion, some), fused)
    nothing = some.change(torch.zeros_like, torch.zeros_like)
    assert run(fusion, nothing).isfinite().all()


@pytest.mark.parametrize("name", FUSIONS)
def test_permuting_the_items_permutes_what_is_fused(name, fuse):
    fusion, some = fuse(name)
    order = torch.randperm(ITEMS)
    assert torch.allclose(run(fusion, some.take(order)), run(fusion, some)[order], atol=1e-5)


@pytest.mark.parametrize("name", FUSIONS)
def test_an_item_is_fused_alone_as_among_others(name, fuse):
    fusion, some = fuse(name)
    for i in (0, ITEMS - 1):
        alone = run(fusion, some.take(slice(i, i + 1)))
        assert torch.allclose(alone, run(fusion, some)[i : i + 1], atol=1e-5)


@pytest.mark.parametrize("name", SEVERAL)
def test_what_stands_in_a_missing_feature_does_not_count(name, fuse):
    fusion, some = fuse(name)
    if isinstance(fusion, ROWS):  # promised zeros; and more of them change nothing
        longer = some.change(
            lambda x: torch.cat([x, torch.zeros_like(x[:, :3])], 1),
            lambda m: torch.cat([m, torch.zeros_like(m[:, :3])], 1),
        )
        assert torch.allclose(run(fusion, longer), run(fusion, some), atol=1e-5)
        return
    others = [
        torch.where(here.unsqueeze(1), x, 1e3)
        for x, here in zip(some.values, some.there, strict=True)
    ]
    assert torch.equal(run(fusion, Given(others, some.there)), run(fusion, some))


@pytest.mark.parametrize("name", SEVERAL)
def test_a_missing_feature_is_not_one_of_zeros(name, fuse):
    fusion, some = fuse(name)
    if isinstance(fusion, ROWS):
        there = [m | ~m.any(1, keepdim=True) for m in some.there]
    else:
        there = [torch.ones_like(m) for m in some.there]
    zeros = [
        x * (m if m.ndim == x.ndim else m.unsqueeze(-1))
        for x, m in zip(some.values, some.there, strict=True)
    ]
    assert not torch.allclose(run(fusion, Given(zeros, there)), run(fusion, some), atol=1e-4)


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_reach_every_parameter_of_a_fusion(name, fuse):
    fusion, some = fuse(name)
    fused = run(fusion, some)
    if isinstance(fusion, SegmentFusion):  # its decisions have a gradient while it trains
        noise = 9 * torch.randn(ITEMS, fusion.segments, len(fusion.modalities))
        fused = fusion(some.values, some.there, noise, 9.0).logits
    if not any(p.requires_grad for p in fusion.parameters()):
        return
    (fused * torch.randn_like(fused)).sum().backward()
    for key, parameter in fusion.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_in_float64_agrees_with_itself_and_stays_float64(name, fuse):
    fusion, some = fuse(name)
    wanted = run(fusion, some)
    found = run(fusion.double(), some.change(lambda x: x.double() if x.is_floating_point() else x))
    assert found.dtype == torch.float64
    assert torch.allclose(found.float(), wanted, atol=1e-4)


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_is_finite_and_near_in_bfloat16(name, fuse):
    fusion, some = fuse(name)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(fusion, some).float()
    wanted = run(fusion, some)
    assert (found - wanted).norm() < 0.2 * wanted.norm()


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusions_state_is_all_that_it_is(name, fuse, small):
    """Hashes and the like are kept with the weights."""
    fusion, some = fuse(name)
    other = build(name, small(FUSIONS, name), seed=5)
    other.load_state_dict(fusion.state_dict())
    assert torch.equal(run(other, some), run(fusion, some))


def head(name: str, options: dict, size: int = 7) -> nn.Module:
    kind = HEADS.load(name)
    torch.manual_seed(0)
    return kind(size, CLASSES, build_options(kind.Options, options, name)).eval()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_a_finite_logit_per_class(name, small):
    logits = head(name, small(HEADS, name))(torch.randn(5, 7))
    assert logits.shape == (5, CLASSES)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_says_what_one_more_input_costs(name, small):
    def count(size: int) -> int:
        return sum(p.numel() for p in head(name, small(HEADS, name), size).parameters())

    kind = HEADS.load(name)
    options = build_options(kind.Options, small(HEADS, name), name)
    assert count(8) - count(7) == kind.weights_per_input(CLASSES, options)


@pytest.mark.parametrize("name", HEADS)
def test_gradients_reach_every_parameter_of_a_head(name, small):
    built = head(name, small(HEADS, name))
    videos = [torch.zeros(5, dtype=torch.long)] if isinstance(built, SequenceHead) else []
    built(torch.randn(5, 7), *videos).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in built.parameters())


@pytest.mark.parametrize("name", HEADS)
def test_a_head_in_float64_agrees_with_itself_and_stays_float64(name, small):
    built, x = head(name, small(HEADS, name)), torch.randn(5, 7)
    wanted = built(x)
    found = built.double()(x.double())
    assert found.dtype == torch.float64
    assert torch.allclose(found.float(), wanted, atol=1e-5)
