import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

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
    how = {"interpolation": interpolation.value, "squash": squash}
    made = resize_and_crop(rgb, resize, crop, **how)
    assert made.shape == (crop, crop, 3)
    assert made.flags.c_contiguous
    np.testing.assert_array_equal(made, expected)
