"""Dark pictures: brightened for the detector, and the faces found in them."""

import numpy as np
import numpy.typing as npt
import pytest

from femae.faces.load import load_detector
from femae.faces.pixels import brighten, brightening

Picture = npt.NDArray[np.uint8]


def test_only_dark_pictures_are_brightened(astronaut: Picture) -> None:
    assert brightening(astronaut) == 1.0
    assert brighten(astronaut, factor=1.0) is astronaut
    dark = (astronaut * 0.1).astype(np.uint8)
    factor = brightening(dark)
    bright = brighten(dark, factor=factor)
    assert 8 < factor < 10
    assert np.percentile(bright.max(2), 99) == pytest.approx(220, abs=8)
    np.testing.assert_allclose(bright, np.minimum(dark * factor, 255), atol=1)


def test_one_bright_lamp_does_not_hide_the_dark(astronaut: Picture) -> None:
    dark = (astronaut * 0.1).astype(np.uint8)
    dark[:40, :40] = 255  # half a hundredth of the picture
    assert brightening(dark) > 5


def test_pictures_without_contrast_are_left_alone() -> None:
    for level in (0, 3, 16, 60):
        assert brightening(np.full((90, 120, 3), level, np.uint8)) == 1.0
    assert brightening(np.zeros((1, 1, 3), np.uint8)) == 1.0


@pytest.mark.parametrize("share", [0.3, 0.12, 0.06])
def test_a_face_in_the_dark_is_found_where_it_is(astronaut: Picture, share: float) -> None:
    detector = load_detector()
    truth = detector.detect([astronaut])[0][0]
    dark = (astronaut * share).astype(np.uint8)
    for faces in (
        detector.detect([dark])[0],
        detector.detect([dark], long_side=512)[0],
        detector.detect_near(dark, boxes_xyxy=truth.box_xyxy[None]),
    ):
        assert len(faces) == 1
        assert np.abs(faces[0].landmarks - truth.landmarks).max() < 6


def test_noise_in_the_dark_is_no_face() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(4, 2, (6, 180, 320, 3)).clip(0, 255).astype(np.uint8)
    assert sum(map(len, load_detector().detect(noise))) == 0
