"""YouTube-8M's Inception: torchvision's names, three differences, its resize, its whitening."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import inception_v3

from mmf import MmfError
from mmf.extract.backbones import backbone
from mmf.extract.backbones.inception_2015_network import Inception2015
from mmf.extract.recipe import build, spec
from mmf.extract.request import parse_feature


@pytest.fixture(scope="module")
def theirs(with_statistics) -> nn.Module:
    """torchvision's network with the classes of 2015; its names and shapes are the checkpoint's."""
    torch.manual_seed(0)
    how = {"num_classes": 1008, "aux_logits": False, "transform_input": False}
    return with_statistics(inception_v3(weights=None, init_weights=False, **how))


@pytest.fixture(scope="module")
def checkpoint(theirs, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("inception") / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(theirs.state_dict(), path)
    return str(path)


def frames(rows: int = 1, side: int = 299) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, side, side, 3), np.uint8)


def test_torchvisions_own_weights_are_another_network(tmp_path):
    other = inception_v3(weights=None, init_weights=False).state_dict()
    torch.save(other, tmp_path / "imagenet.pth")
    with pytest.raises(MmfError, match=r"AuxLogits.*do not fit|do not fit.*AuxLogits"):
        backbone("inception_2015", weights=str(tmp_path / "imagenet.pth"))


def test_it_differs_from_torchvisions_in_its_pools_alone(theirs, checkpoint, monkeypatch):
    ours = Inception2015().eval()
    assert ours.load_state_dict(theirs.state_dict(), strict=True)
    maps: dict[str, list[torch.Tensor]] = {"Mixed_7b": [], "Mixed_7c": []}
    for network in (theirs, ours):
        for name, kept in maps.items():
            network.get_submodule(name).register_forward_hook(
                lambda _module, _given, made, kept=kept: kept.append(made)
            )
    mean, most = functional.avg_pool2d, functional.max_pool2d
    image = torch.randn(1, 3, 139, 139)
    with torch.inference_mode():
        monkeypatch.setattr(
            functional, "avg_pool2d", lambda x, **how: mean(x, 3, 1, 1, count_include_pad=False)
        )
        theirs(image)
        monkeypatch.setattr(functional, "avg_pool2d", lambda x, **how: most(x, 3, 1, 1))
        last = theirs.Mixed_7c(maps["Mixed_7b"][0])
        monkeypatch.undo()
        pooled = ours(image)
    torch.testing.assert_close(maps["Mixed_7b"][1], maps["Mixed_7b"][0])
    torch.testing.assert_close(pooled, last.mean(dim=(2, 3)))
    assert not torch.allclose(maps["Mixed_7c"][0], last)  # the max pool is seen


def test_frames_become_299_wide_as_in_the_graph_and_pixels_go_from_minus_1_to_1(checkpoint):
    built = backbone("inception_2015", weights=checkpoint, batch=1)
    rgb = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    image = np.zeros((299, 299, 3))
    for y in range(299):
        for x in range(299):
            top, left = y * 90 / 299, x * 160 / 299
            for row, down in ((int(top), 1 - top % 1), (min(int(top) + 1, 89), top % 1)):
                for column, along in (
                    (int(left), 1 - left % 1),
                    (min(int(left) + 1, 159), left % 1),
                ):
                    image[y, x] += rgb[row, column] * down * along
    rows = built(rgb.transpose(2, 0, 1)[None])
    given = torch.from_numpy((image - 128) / 128).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        expected = built.trunk(given).numpy()
    assert rows.shape == (1, 2048)
    apart = np.linalg.norm(rows - expected) / np.linalg.norm(expected)
    assert 0 < apart < 0.01  # whole levels


def test_youtube_8ms_matrices_whiten_and_its_codes_truncate(checkpoint, tmp_path):
    rng = np.random.default_rng(1)
    mean, values = rng.random((2048, 1)), np.sort(rng.random((2048, 1)), axis=0)[::-1]
    vectors = np.linalg.qr(rng.normal(size=(2048, 2048)))[0]
    for name, array in (("mean", mean), ("eigenvals", values), ("eigenvecs", vectors)):
        np.save(tmp_path / f"{name}.npy", array.astype(np.float32))
    asked = f"rgb=rgb:inception_2015,weights={checkpoint},batch=1,dtype=uint8"
    request = parse_feature(f"{asked},pca={tmp_path}")
    whitening, plain = build(request), build(parse_feature(asked))
    given = frames()
    embedding = plain.rows(given).astype(np.float64)[0]
    expected = [
        vectors[k] @ (embedding - mean[:, 0]) / np.sqrt(values[k, 0] + 1e-4) for k in range(1024)
    ]
    rows = whitening.rows(given)
    np.testing.assert_allclose(rows[0], expected, rtol=1e-3, atol=1e-3)
    made = spec(request, whitening)
    assert (made.shape, made.dtype, made.quantisation) == ((1024,), "uint8", (-2.0, 2.0))
    codes = made.encode(rows)
    np.testing.assert_array_equal(codes, ((rows.clip(-2, 2) + 2) * 63.75).astype(np.uint8))
