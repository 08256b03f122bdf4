import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize, functional

from mmf.extract.sampling import Grid, resize_and_crop


def test_a_grid_ends_before_the_end():
    grid = Grid(start=0.0, fps=1.0)
    assert [grid.rows_before(end) for end in (0.1, 1.0, 1.001, 13.013, 14.0)] == [1, 1, 2, 14, 14]


def test_a_grid_is_not_misled_by_sums_of_floats():
    grid = Grid(start=8.3330078125, fps=30.0)
    assert grid.rows_before(grid.start + 12 / 30) == 12
    assert [grid.rows_until(grid.time(row)) for row in range(100)] == list(range(1, 101))


def test_an_empty_span_still_has_a_row():
    assert Grid(start=5.0, fps=1.0).rows_before(5.0) == 1


def test_a_limited_grid_has_no_more_rows():
    grid = Grid(start=0.0, fps=1.0, limit=300)
    assert [grid.rows_before(end) for end in (3.0, 299.5, 300.5, 1e6)] == [3, 300, 300, 300]


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (1, 1),
        (1, 3),
        (240, 320),
        (720, 1280),
        (1280, 720),
        (241, 321),
        (256, 256),
        (300, 20),
        (257, 256),
    ],
)
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (128, 112), (96, 200), (299, 299)])
@pytest.mark.parametrize("interpolation", [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC])
@pytest.mark.parametrize("squash", [False, True])
def test_pictures_are_resized_and_cropped_as_torchvision_does(
    height, width, resize, crop, interpolation, squash
):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    shrink = Resize((resize, resize) if squash else resize, interpolation)
    expected = np.asarray(CenterCrop(crop)(shrink(Image.fromarray(rgb))))
    size = (resize, resize) if squash else resize
    made = resize_and_crop(rgb, size, crop, interpolation=interpolation.value)
    assert made.shape == (crop, crop, 3)
    assert made.flags.c_contiguous
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (240, 320), (721, 1283), (100, 90)])
def test_pictures_are_resized_between_points_as_torch_does(height, width):
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    tensor = torch.from_numpy(rgb.transpose(2, 0, 1).copy())
    shrunk = functional.resize(tensor, [128, 171], antialias=False)
    expected = functional.center_crop(shrunk, [112, 112]).numpy().transpose(1, 2, 0)
    made = resize_and_crop(rgb, (128, 171), 112, interpolation="bilinear_points")
    off = np.abs(made.astype(int) - expected)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01  # halves, which rounding takes up or down


def test_tensorflow_1_has_its_pixels_at_their_upper_left_corners():
    rgb = np.arange(6, dtype=np.uint8).reshape(1, 6, 1).repeat(3, 2) * 40
    made = resize_and_crop(rgb, (4, 4), 4, interpolation="bilinear_tf1")
    assert made[0, :, 0].tolist() == [0, 60, 120, 180]  # places 0, 1.5, 3, 4.5 of six
    doubled = resize_and_crop(rgb[:, :3], (6, 6), 6, interpolation="bilinear_tf1")
    assert doubled[0, :, 0].tolist() == [0, 20, 40, 60, 80, 80]  # nothing past the last
