"""The contract of FaceDetector, tested on the built-in network and small networks of each kind."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from femae.faces.onnx_net import open_net
from femae.faces.retinaface import RetinaFace, builtin_weights
from femae.faces.scales import FaceDetector
from femae.faces.strided import SCRFD, YuNet
from femae.types import Face

KINDS = {"retinaface": RetinaFace, "scrfd": SCRFD, "yunet": YuNet}


@pytest.fixture(params=["built-in", *KINDS])
def detector(request: pytest.FixtureRequest, tmp_path: Path, write_detector: Callable[..., Any]) -> FaceDetector:
    if request.param == "built-in":
        return RetinaFace(open_net(builtin_weights(), num_threads=1), multiple=1)
    write_detector(request.param, tmp_path / "net.onnx")
    return KINDS[request.param](open_net(tmp_path / "net.onnx", num_threads=1), score_threshold=0.6)


@pytest.fixture
def pictures(astronaut: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """u8[4, 320, 300, 3]: a real face, dim, with bright pixels around it; a blank picture; two more of the first."""
    batch = np.stack([astronaut[:320, dx : dx + 300] // 2 for dx in (60, 0, 90, 40)])
    batch[1] = 30
    batch[[0, 2, 3], 256::32, 32::64] = (255, 240, 60)
    batch[0, 288, 16] = (230, 250, 10)
    return batch


def same(some: list[Face], others: list[Face]) -> bool:
    return len(some) == len(others) and all(
        a.score == b.score and np.array_equal(a.box_xyxy, b.box_xyxy) and np.array_equal(a.landmarks, b.landmarks)
        for a, b in zip(some, others, strict=True)
    )


def test_faces_come_per_picture_by_falling_score(detector: FaceDetector, pictures: npt.NDArray[np.uint8]) -> None:
    found = detector.detect(pictures)
    assert detector.name in KINDS and detector.input_hw is None
    assert len(found) == 4 and found[1] == [] and all(found[i] for i in (0, 2, 3))
    for faces in found:
        scores = [face.score for face in faces]
        assert scores == sorted(scores, reverse=True) and all(
            type(score) is float and 0 < score <= 1 for score in scores
        )
        for face in faces:
            assert face.landmarks is not None and (face.box_xyxy[2:] > face.box_xyxy[:2]).all()


def test_a_batch_changes_nothing(detector: FaceDetector, pictures: npt.NDArray[np.uint8]) -> None:
    alone = [detector.detect(picture[None])[0] for picture in pictures]
    assert all(same(a, b) for a, b in zip(alone, detector.detect(pictures), strict=True))
    assert all(same(a, b) for a, b in zip(alone[::-1], detector.detect(pictures[::-1]), strict=True))
    assert detector.detect(pictures[:0]) == []


def test_threads_change_nothing(detector: FaceDetector, pictures: npt.NDArray[np.uint8]) -> None:
    alone = detector.detect(pictures)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(detector.detect, [pictures] * 6):
            assert all(same(a, b) for a, b in zip(alone, found, strict=True))


def test_the_input_is_left_as_it_was(detector: FaceDetector, pictures: npt.NDArray[np.uint8]) -> None:
    before = pictures.copy()
    pictures.flags.writeable = False
    detector.detect(pictures)
    np.testing.assert_array_equal(pictures, before)
