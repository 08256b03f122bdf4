"""The structures hold what they say: the truth decides the labels, and half of it says nothing."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mmf import MmfError
from mmf.fuse.planted import MODALITIES, STRUCTURES, background

LATENT, CLASSES = 8, 4


def structure(name: str, latent: int = LATENT, **options):
    kind = STRUCTURES[name]
    return kind(np.random.default_rng(0), latent, CLASSES, kind.Options(**options))


def videos(name: str, number: int, steps: int = 40, latent: int = LATENT, **options):
    one = structure(name, latent, **options)
    return one, [one.plant(np.random.default_rng((1, i)), steps) for i in range(number)]


def read_linearly(x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy of a linear rule on the second half of the videos."""
    half = len(x) // 2
    return LogisticRegression(C=0.1).fit(x[:half], y[:half]).score(x[half:], y[half:])


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("product", {"rank": 0}, "rank 0"),
        ("product", {"alone": 1.5}, "alone 1.5"),
        ("local", {"times": 0}, "occur 0 times"),
        ("local", {"near": 4, "far": 4}, "near < far"),
        ("local", {"strength": -1.0}, "of strength -1"),
        ("segments", {"segments": 0}, "0 segments"),
        ("segments", {"share": -0.1}, "a share of -0.1"),
    ],
)
def test_bad_options_are_refused(name, options, said):
    with pytest.raises(MmfError, match=said):
        STRUCTURES[name].Options(**options)


def test_the_background_has_variance_one_at_every_step_and_changes_slowly():
    b = background(np.random.default_rng(0), 60, 4000)
    np.testing.assert_allclose(b.var(1), 1, atol=0.15)
    for apart in (1, 5):
        found = (b[:-apart] * b[apart:]).mean()
        assert found == pytest.approx(0.9**apart, abs=0.02)


@pytest.mark.parametrize("alone", [0.0, 0.5, 1.0])
def test_the_value_of_a_product_is_the_formula_and_has_variance_one(alone):
    one, made = videos("product", 3000, steps=1, alone=alone)
    z = np.array([v.truth["z"] for v in made])
    np.testing.assert_allclose(z.var(0), 1, atol=0.2)
    assert all((v.labels == (v.truth["z"] > 0)).all() for v in made)
    u, w = (made[0].truth[m] for m in MODALITIES)
    for c in range(CLASSES):
        pairs = sum(
            one.products[c, i, j] * u[i] * w[j] for i in range(LATENT) for j in range(LATENT)
        )
        ends = one.alone[0, c] @ u + one.alone[1, c] @ w
        value = (1 - alone) ** 0.5 * pairs + (alone / 2) ** 0.5 * ends
        assert value == pytest.approx(z[0, c])
        assert np.linalg.matrix_rank(one.products[c]) == 2


def test_a_product_is_read_from_pairs_and_neither_from_one_modality_nor_linearly():
    _, made = videos("product", 4000, steps=1)
    u, w = (np.array([v.truth[m] for v in made]) for m in MODALITIES)
    pairs = np.einsum("ni,nj->nij", u, w).reshape(len(u), -1)
    for c in range(CLASSES):
        y = np.array([v.labels[c] for v in made])
        for x in (u, w, np.concatenate([u, w], 1)):
            assert read_linearly(x, y) == pytest.approx(0.5, abs=0.05)
        assert read_linearly(pairs, y) > 0.93


def test_what_modalities_say_alone_is_read_linearly():
    _, made = videos("product", 2000, steps=1, alone=1.0)
    u, w = (np.array([v.truth[m] for v in made]) for m in MODALITIES)
    y = np.array([v.labels[0] for v in made])
    assert read_linearly(np.concatenate([u, w], 1), y) > 0.95
    assert read_linearly(u, y) == pytest.approx(0.75, abs=0.05)  # half of the variance


def test_the_mean_of_many_rows_is_the_planted_vector():
    _, made = videos("product", 1, steps=20_000)
    for m in MODALITIES:
        np.testing.assert_allclose(made[0].latents[m].mean(0), made[0].truth[m], atol=0.15)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_patterns_lie_as_the_labels_say(times):
    _, made = videos("local", 200, steps=60, times=times, near=2, far=8)
    labels = np.array([v.labels for v in made])
    assert 0.4 < labels.mean() < 0.6
    for video in made:
        first, second = video.truth["first"], video.truth["second"]
        assert first.shape == second.shape == (CLASSES, times)
        for c in range(CLASSES):
            assert len({*first[c], *second[c]}) == 2 * times
            apart = np.abs(first[c][:, None] - second[c])
            if video.labels[c]:
                assert apart.min(1).max() <= 2
            else:
                assert apart.min() >= 8


def test_the_sum_over_time_of_local_patterns_is_the_same_whatever_the_labels():
    strong, weak = (structure("local", strength=s) for s in (1.0, 0.0))
    sums, labels = [], []
    for i in range(20):
        a, b = (one.plant(np.random.default_rng(i), 40) for one in (strong, weak))
        sums.append([(a.latents[m] - b.latents[m]).sum(0) for m in MODALITIES])
        labels.append(a.labels)
    assert len({tuple(x) for x in labels}) > 5
    np.testing.assert_allclose(sums, np.broadcast_to(sums[0], np.shape(sums)), atol=1e-12)
    of_rgb = 2 * strong.patterns[0::2].sum((0, 1))  # each twice
    np.testing.assert_allclose(sums[0][0], of_rgb, atol=1e-12)


def test_local_labels_are_found_by_who_knows_the_patterns_and_looks_nearby():
    one, made = videos("local", 100, steps=60, latent=64)
    right = []
    for video in made:
        for c, (p, q) in enumerate(one.patterns):
            x = video.latents[MODALITIES[c % 2]]
            first, second = (np.argsort(x @ v)[-2:] for v in (p, q))
            right.append((np.abs(first[:, None] - second).min() <= 2) == video.labels[c])
    assert np.mean(right) > 0.85


def test_segments_carry_the_label_in_one_modality_or_in_none():
    one, made = videos("segments", 400, steps=43, segments=10, share=0.4)
    carrier = np.array([v.truth["carrier"] for v in made])
    assert carrier.shape == (400, 10)
    assert (carrier >= 0).any(1).all()
    for number in (0, 1):
        assert (carrier == number).mean() == pytest.approx(0.2, abs=0.03)
    right, elsewhere = [], []
    for video in made:
        segment = video.truth["segment"]
        assert segment[0] == 0
        assert segment[-1] == 9
        (y,) = np.flatnonzero(video.labels)
        for number, m in enumerate(MODALITIES):
            here = video.truth["carrier"][segment] == number
            if here.any():
                mean = video.latents[m][here].mean(0)
                right.append(np.argmin(np.square(one.vectors[:, number] - mean).sum(1)) == y)
            elsewhere.append(video.latents[m][~here] @ one.vectors[y, number])
    assert np.mean(right) > 0.9
    assert np.concatenate(elsewhere).mean() == pytest.approx(0, abs=0.2)


def test_without_a_share_one_segment_carries_the_label_still():
    _, made = videos("segments", 20, share=0.0)
    assert all((v.truth["carrier"] >= 0).sum() == 1 for v in made)
