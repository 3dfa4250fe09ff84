"""Resizing and cutting: sizes, places, averages, and the same pixels every time."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from femae.faces.pixels import cut_region, resize_rgb


@pytest.mark.parametrize(("width", "height"), [(256, 256), (300, 200), (96, 160), (1000, 700), (17, 33), (512, 13)])
def test_it_agrees_with_pillow(astronaut: npt.NDArray[np.uint8], width: int, height: int) -> None:
    ours = resize_rgb(astronaut, width=width, height=height)
    assert ours.shape == (height, width, 3) and ours.dtype == np.uint8
    theirs = np.asarray(Image.fromarray(astronaut).resize((width, height), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs).mean() < 6
    assert np.abs(ours.mean((0, 1)) - theirs.mean((0, 1))).max() < 1.5  # no colour is lost or swapped


def test_shrinking_averages() -> None:
    stripes = np.zeros((240, 320, 3), np.uint8)
    stripes[:, ::2] = 200
    small = resize_rgb(stripes, width=80, height=60)
    assert np.abs(small.astype(int) - 100).max() <= 3


def test_a_place_keeps_its_share_of_the_picture() -> None:
    """The middle of a square stays at its share of width and height, to a tenth of a pixel."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[120:160, 260:300] = 255
    for width, height in ((200, 150), (133, 100), (520, 390), (97, 71)):
        weights = resize_rgb(image, width=width, height=height)[..., 1].astype(float)
        x = (weights.sum(0) @ (np.arange(width) + 0.5)) / weights.sum() / width
        y = (weights.sum(1) @ (np.arange(height) + 0.5)) / weights.sum() / height
        assert x * width == pytest.approx(280 / 400 * width, abs=0.15)
        assert y * height == pytest.approx(140 / 300 * height, abs=0.15)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 2000), (16, 16)])
def test_thin_pictures(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), (10, 100, 200), np.uint8)
    for width, height in ((64, 64), (1, 40), (300, 2)):
        out = resize_rgb(image, width=width, height=height)
        assert out.shape == (height, width, 3)
        assert np.abs(out.astype(int) - (10, 100, 200)).max() <= 2


def test_the_same_pixels_from_every_thread_and_memory_layout(astronaut: npt.NDArray[np.uint8]) -> None:
    pictures = [astronaut, np.asfortranarray(astronaut), np.flip(np.flip(astronaut, 0).copy(), 0)]
    sizes = [(300, 300), (333, 222), (700, 500)] * 6
    truth = {size: resize_rgb(astronaut, width=size[0], height=size[1]) for size in sizes}
    with ThreadPoolExecutor(4) as pool:
        jobs = [(p, s, pool.submit(resize_rgb, p, width=s[0], height=s[1])) for s in sizes for p in pictures]
        for _, size, job in jobs:
            np.testing.assert_array_equal(job.result(), truth[size])


def test_a_region_beyond_the_border_is_gray(astronaut: npt.NDArray[np.uint8]) -> None:
    inside = cut_region(astronaut, left=10, top=20, width=30, height=40)
    np.testing.assert_array_equal(inside, astronaut[20:60, 10:40])
    corner = cut_region(astronaut, left=-5, top=500, width=20, height=30)
    np.testing.assert_array_equal(corner[:12, 5:], astronaut[500:, :15])
    assert (corner[12:] == 117).all() and (corner[:, :5] == 117).all()
    around = cut_region(astronaut, left=-8, top=-8, width=528, height=528)
    np.testing.assert_array_equal(around[8:-8, 8:-8], astronaut)
    for left, top in ((-100, 0), (600, 0), (0, -90), (0, 4000)):
        assert (cut_region(astronaut, left=left, top=top, width=50, height=50) == 117).all()
