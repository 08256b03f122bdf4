"""The operations of a row: torch's count against counts by hand, and ours against plain forms."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmf.extract.backbones import Backbone, backbone, logmel
from mmf.extract.flow import FlowSetup
from mmf.extract.flow.farneback import Farneback
from mmf.extract.signals import FramePairs, Frames, Waves
from mmf.store import FeatureSpec


def built(name: str, *, batch: int | None = None) -> Backbone:
    return backbone(name, weights="random:0", batch=batch)


def resnet18() -> int:
    """Products in ResNet-18 (He et al., 2015, table 1) without its classifier, at 224 × 224."""
    products = 112**2 * 64 * 3 * 7**2 + 4 * 56**2 * 64 * 64 * 3**2
    for side, wide in ((28, 128), (14, 256), (7, 512)):
        narrow = wide // 2
        first, shortcut = wide * narrow * 3**2, wide * narrow
        products += side**2 * (first + 3 * wide * wide * 3**2 + shortcut)
    return products


def vit_small() -> int:
    """Products in ViT-S/14 (Oquab et al., DINOv2, 2023) at 224 × 224: attention's are some."""
    width, patches = 384, 16**2
    tokens = patches + 1
    linear = (3 + 1 + 4 + 4) * width**2  # queries, keys and values; out; up and down
    return patches * width * 3 * 14**2 + 12 * (tokens * linear + 2 * tokens**2 * width)


@pytest.mark.parametrize(("name", "products"), [("resnet18", resnet18), ("dinov2", vit_small)])
def test_a_row_costs_two_operations_for_each_product_counted_by_hand(name, products):
    assert built(name).flops_per_row() == 2 * products()


def test_a_rows_share_of_a_real_batch_is_what_was_counted_without_storage():
    network = built("resnet18", batch=3)
    payloads = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    with FlopCounterMode(display=False) as counter:
        network.trunk(network.prepare(payloads))
    assert counter.get_total_flops() == 3 * network.flops_per_row()


def test_a_network_whose_parts_were_fused_costs_as_much_as_before():
    network = built("mobilenet_v2", batch=1)
    before = network.flops_per_row()
    network.rows(network.empty_batch())
    assert network.flops_per_row() == before > 0


def test_a_store_that_says_nothing_of_costs_opens():
    written = FeatureSpec(name="rgb", modality="rgb", shape=(3,), flops_per_row=5.0).to_json()
    del written["flops_per_row"]
    assert FeatureSpec.from_json(written).flops_per_row is None


# formulas, which torch does not see: beside a plain form whose operations are counted as they run


@dataclass
class Counter:
    """How many operations arrays of this counter have taken part in."""

    operations: int = 0

    def __call__(self, values: Any) -> "Counted":
        made = np.asarray(values).view(Counted)
        made.counter = self
        return made


class Counted(np.ndarray):
    """An array that counts what numpy does with it: one operation a number, of a product two."""

    counter: Counter | None = None

    def __array_finalize__(self, source: Any) -> None:
        self.counter = getattr(source, "counter", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        counter = next(x.counter for x in inputs if isinstance(x, Counted))
        plain = [x.view(np.ndarray) if isinstance(x, Counted) else x for x in inputs]
        result = getattr(ufunc, method)(*plain, **options)
        size = np.size(plain[0]) if method == "reduce" else np.size(result)
        if ufunc is np.matmul:
            size = 2 * np.size(result) * plain[0].shape[-1]
        if np.iscomplexobj(result):
            size *= 6 if ufunc is np.multiply else 2
        assert counter is not None
        counter.operations += size
        return counter(result)


def radix_2(wave: Counted) -> Counted:
    """The FFT of Cooley and Tukey over the last axis, in the plainest form."""
    n = wave.shape[-1]
    if n == 1:
        return wave
    even, odd = radix_2(wave[..., ::2]), radix_2(wave[..., 1::2])
    turned = odd * np.exp(-2j * np.pi * np.arange(n // 2) / n)
    both = np.concatenate([np.asarray(even + turned), np.asarray(even - turned)], axis=-1)
    assert wave.counter is not None
    return wave.counter(both)


def test_a_log_mel_row_costs_what_a_plain_form_of_it_takes():
    count = Counter()
    wave = np.random.default_rng(0).uniform(-1, 1, (1, 15600)).astype(np.float32)
    windows = np.stack([wave[0, s : s + 400] for s in range(0, 15600 - 399, 160)])
    shaped = count(windows) * logmel._hann()
    padded = np.pad(np.asarray(shaped), ((0, 0), (0, 112)))
    # two real waves in one complex FFT: half of its operations for each
    pairs = count(padded[::2] + 1j * padded[1::2])
    spectrum = radix_2(pairs)
    mirrored = np.conj(np.roll(np.asarray(spectrum)[:, ::-1], 1, axis=1))
    first, second = (np.asarray(spectrum) + mirrored) / 2, (np.asarray(spectrum) - mirrored) / 2j
    both = np.stack([first, second], axis=1).reshape(-1, 512)[:, :257]
    real, imaginary = count(both.real), count(both.imag)
    mel = np.sqrt(real * real + imaginary * imaginary) @ logmel._mel_weights()
    logarithms = np.log(mel + 0.01)
    mean = logarithms.sum(axis=0) / len(windows)
    apart = logarithms - mean
    deviation = np.sqrt((apart * apart).sum(axis=0) / len(windows))
    formula = built("logmel")
    row = np.concatenate([np.asarray(mean), np.asarray(deviation)])
    np.testing.assert_allclose(row, formula.rows(wave)[0], atol=1e-4)
    assert formula.flops_per_row() == pytest.approx(count.operations, rel=0.02)


def test_the_mel_product_of_a_log_mel_row_is_what_torch_counts_of_it():
    spectrogram, weights = torch.zeros(96, 257), torch.from_numpy(logmel._mel_weights())
    with FlopCounterMode(display=False) as counter:
        spectrogram @ weights
    other = 96 * (400 + 5 * 256 * 9 + 4 * 257 + 6 * 64)
    assert built("logmel").flops_per_row() == counter.get_total_flops() + other


def plain_hog(frame: np.ndarray, count: Counter) -> np.ndarray:
    """Dalal and Triggs on the halved frame, and its colours."""
    of_four = [count(frame[y::2, x::2].astype(float)) for y in (0, 1) for x in (0, 1)]
    small = np.rint((of_four[0] + of_four[1] + of_four[2] + of_four[3]) * 0.25)
    red, green, blue = (small[..., c] for c in range(3))
    grey = np.rint(red * 0.299 + green * 0.587 + blue * 0.114)
    down, right = count(np.zeros((112, 112))), count(np.zeros((112, 112)))
    down[1:-1], right[:, 1:-1] = grey[2:] - grey[:-2], grey[:, 2:] - grey[:, :-2]
    length = np.sqrt(down * down + right * right)
    angle = np.arctan2(down, right) * (180 / np.pi) % 180
    cells = []
    for i in range(9):
        there = np.asarray(angle >= 20 * i) & np.asarray(angle < 20 * (i + 1))
        asked = count(np.where(there, np.asarray(length), 0))
        cells.append(asked.reshape(7, 16, 7, 16).sum(axis=(1, 3)) / 256)
    of_cells = np.stack([np.asarray(x) for x in cells], axis=-1)
    normal = of_cells / np.sqrt((of_cells**2).sum(-1, keepdims=True) + 1e-10)
    normal = np.minimum(normal, 0.2)
    normal /= np.sqrt((normal**2).sum(-1, keepdims=True) + 1e-10)
    place = (red // 64) * 16 + (green // 64) * 4 + blue // 64
    colours = np.bincount(np.asarray(place).astype(int).ravel(), minlength=64)
    return np.concatenate([normal.ravel(), 7 * np.sqrt(colours / colours.sum())])


def test_a_hog_row_costs_what_a_plain_form_of_it_takes():
    count, formula = Counter(), built("hog")
    frame = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    frame = frame.repeat(8, axis=0).repeat(8, axis=1)
    row = plain_hog(frame, count)
    assert np.abs(row - formula.rows(frame[None])[0]).mean() < 0.01
    assert formula.flops_per_row() == pytest.approx(count.operations, rel=0.1)


def test_the_operations_of_a_formula_grow_with_its_payload():
    for name, signal, other in (
        ("hog", Frames(), Frames(resize=512, crop=448)),
        ("hof", FramePairs(), FramePairs(resize=512, crop=448)),
    ):
        small, large = (backbone(name, signal=s) for s in (signal, other))
        pictures = 1 if name == "hog" else 2
        more = 2 * pictures * 3 * (448**2 - 224**2)  # what is halved; the rest is of 112 × 112
        assert large.flops_per_row() - small.flops_per_row() == more
    one, two = (backbone("logmel", signal=Waves(samples=400 + 160 * n)) for n in (9, 19))
    assert two.flops_per_row() == 2 * one.flops_per_row()


def test_the_flow_of_a_row_of_hof_is_counted_and_one_that_ends_early_is_not():
    flow = Farneback(FlowSetup(name="farneback"))
    assert built("hof").flops_per_row() > flow.flops(112, 112)
    # 112 has one level more, of 56; a side of 448 has three, of a fourth each, with larger blurs
    assert flow.flops(112, 112) > 1.25 * 112**2 * (2 * 138 + 3 * 117)
    assert 4 * flow.flops(224, 224) < flow.flops(448, 448) < 5 * flow.flops(224, 224)
    assert backbone("hof", options={"flow": "dis"}).flops_per_row() is None


def test_a_text_costs_a_few_operations_for_each_number_of_its_row():
    assert built("hashing").flops_per_row() == 6 * 512
