"""YuNet's decoding, against a plain loop over cells written from the format's description."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from femae.errors import ModelError
from femae.faces.onnx_net import open_net
from femae.faces.strided import YuNet

Write = Callable[..., dict[str, Any]]


def picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """A black picture with coloured pixels on cells of all three strides and of stride 8 only."""
    image = np.zeros((height, width, 3), np.uint8)
    image[32, 64] = [255, 250, 30]
    image[24, 8] = [220, 190, 250]
    image[56, 104] = [255, 60, 100]  # a high class score and a low object score: 0.49
    return image


def expected(image: npt.NDArray[np.uint8], heads: dict[str, Any]) -> list[tuple[float, list[float], list[float]]]:
    """Score, box and landmarks of every cell with a score above 0.7."""
    found = []
    for stride in (8, 16, 32):
        for row in range(image.shape[0] // stride):
            for column in range(image.shape[1] // stride):
                pixel = image[row * stride, column * stride]
                cls, obj = (min(max(heads[name].values(pixel)[0, 0], 0.0), 1.0) for name in ("cls", "obj"))
                score = math.sqrt(cls * obj)
                if score <= 0.7:
                    continue
                dx, dy, log_width, log_height = heads["bbox"].values(pixel)[0]
                x, y = (column + dx) * stride, (row + dy) * stride
                width, height = math.exp(log_width) * stride, math.exp(log_height) * stride
                kps = heads["kps"].values(pixel)[0]
                points = [((column, row)[i % 2] + kps[i]) * stride for i in range(10)]
                found.append((score, [x - width / 2, y - height / 2, x + width / 2, y + height / 2], points))
    return found


@pytest.mark.parametrize("input_hw", [None, (128, 128), (96, 160)])
def test_planted_faces_come_back(tmp_path: Path, write_detector: Write, input_hw: tuple[int, int] | None) -> None:
    path = tmp_path / "yunet.onnx"
    heads = write_detector("yunet", path, input_hw=input_hw)
    detector = YuNet(open_net(path, num_threads=1))
    assert detector.name == "yunet" and detector.input_hw == input_hw
    image = picture(96, 128)
    (faces,) = detector.detect(image[None])
    truth = sorted(expected(image, heads), key=lambda one: (round(one[0], 4), one[1][0]))
    assert len(faces) == len(truth) == 4
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    in_order = sorted(faces, key=lambda face: (round(face.score, 4), face.box_xyxy[0]))
    for face, (score, box, points) in zip(in_order, truth, strict=True):
        assert face.score == pytest.approx(score, abs=1e-5)
        np.testing.assert_allclose(face.box_xyxy, box, atol=1e-3)
        np.testing.assert_allclose(face.landmarks.reshape(-1), points, atol=1e-3)


def test_each_picture_of_a_batch_has_its_own_faces(tmp_path: Path, write_detector: Write) -> None:
    path = tmp_path / "yunet.onnx"
    write_detector("yunet", path)
    detector = YuNet(open_net(path, num_threads=1))
    image = picture(96, 128)
    faces = detector.detect(np.stack([np.zeros_like(image), image, np.flip(image, 2)]))
    assert [len(found) for found in faces] == [0, 4, 1]  # blue for red: only one pixel is bright enough then


@pytest.mark.parametrize("kind", ["retinaface", "scrfd"])
def test_other_networks_are_refused(tmp_path: Path, write_detector: Write, kind: str) -> None:
    path = tmp_path / "other.onnx"
    write_detector(kind, path)
    with pytest.raises(ModelError, match="not a YuNet network"):
        YuNet(open_net(path, num_threads=1))
