"""SCRFD's decoding, against a plain loop over cells written from the format's description."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from femae.errors import ModelError
from femae.faces.onnx_net import open_net
from femae.faces.strided import SCRFD

Write = Callable[..., dict[str, Any]]
THRESHOLD = 0.6


def picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """A black picture with three coloured pixels on cells of all three strides and of stride 8 only."""
    image = np.zeros((height, width, 3), np.uint8)
    image[32, 64] = [255, 200, 30]
    image[24, 8] = [230, 90, 250]
    image[height // 16 * 16 - 16, 16] = [200, 10, 100]
    image[40, 40] = [100, 255, 255]  # a score of 0.39: below the threshold
    return image


def expected(image: npt.NDArray[np.uint8], heads: dict[str, Any]) -> list[tuple[float, list[float], list[float]]]:
    """Score, box and landmarks of every anchor above the threshold."""
    found = []
    for stride in (8, 16, 32):
        for y in range(0, image.shape[0], stride):
            for x in range(0, image.shape[1], stride):
                for anchor in range(2):
                    score = heads["score"].values(image[y, x])[anchor, 0]
                    if score <= THRESHOLD:
                        continue
                    left, top, right, bottom = heads["bbox"].values(image[y, x])[anchor] * stride
                    points = []
                    if "kps" in heads:
                        kps = heads["kps"].values(image[y, x])[anchor]
                        points = [(x, y)[i % 2] + kps[i] * stride for i in range(10)]
                    found.append((score, [x - left, y - top, x + right, y + bottom], points))
    return sorted(found)


@pytest.mark.parametrize("points", [True, False])
@pytest.mark.parametrize("batch_axis", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_planted_faces_come_back(
    tmp_path: Path, write_detector: Write, points: bool, batch_axis: bool, fixed: bool
) -> None:
    path = tmp_path / "scrfd.onnx"
    heads = write_detector("scrfd", path, points=points, batch_axis=batch_axis, input_hw=(128, 160) if fixed else None)
    detector = SCRFD(open_net(path, num_threads=1), score_threshold=THRESHOLD)
    assert detector.name == "scrfd" and detector.input_hw == ((128, 160) if fixed else None)
    image = picture(96, 128)
    (faces,) = detector.detect(image[None])
    truth = expected(image, heads)
    assert len(faces) == len(truth) == 6  # one pixel is seen by three strides, one by two, one by one
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    by_truth = sorted(faces, key=lambda face: (round(face.score, 4), face.box_xyxy[0]))
    for face, (score, box, place) in zip(by_truth, sorted(truth, key=lambda t: (round(t[0], 4), t[1][0])), strict=True):
        assert face.score == pytest.approx(score, abs=1e-5)
        np.testing.assert_allclose(face.box_xyxy, box, atol=1e-3)
        if points:
            np.testing.assert_allclose(face.landmarks.reshape(-1), place, atol=1e-3)
        else:
            assert face.landmarks is None


def test_a_picture_of_any_size_is_padded_to_whole_cells(tmp_path: Path, write_detector: Write) -> None:
    path = tmp_path / "scrfd.onnx"
    heads = write_detector("scrfd", path)
    image = np.zeros((75, 101, 3), np.uint8)
    image[72, 96] = [255, 100, 100]  # in the last cell of stride 8, which the border cuts
    (faces,) = SCRFD(open_net(path, num_threads=1), score_threshold=THRESHOLD).detect(image[None])
    (face,) = faces
    left, top, right, bottom = heads["bbox"].values(image[72, 96])[0] * 8
    np.testing.assert_allclose(face.box_xyxy, [96 - left, 72 - top, 96 + right, 72 + bottom], atol=1e-3)


def test_padding_has_the_value_of_the_mean(tmp_path: Path, write_detector: Write) -> None:
    """This network gives gray 127.5 the score 0.5 and black the score 0: only the padding is detected."""
    path = tmp_path / "scrfd.onnx"
    write_detector("scrfd", path, input_hw=(128, 128))
    net = open_net(path, num_threads=1)
    assert SCRFD(net, score_threshold=0.51).detect(np.zeros((2, 64, 64, 3), np.uint8)) == [[], []]
    (faces,) = SCRFD(net, score_threshold=0.49).detect(np.zeros((1, 64, 64, 3), np.uint8))
    assert len(faces) > 10 and all(face.score == pytest.approx(0.5, abs=1e-5) for face in faces)


def test_a_picture_larger_than_a_fixed_input_is_refused(tmp_path: Path, write_detector: Write) -> None:
    path = tmp_path / "scrfd.onnx"
    write_detector("scrfd", path, input_hw=(64, 96))
    with pytest.raises(ModelError, match=r"at most 96x64, not 97x64"):
        SCRFD(open_net(path, num_threads=1)).detect(np.zeros((1, 64, 97, 3), np.uint8))


@pytest.mark.parametrize("kind", ["retinaface", "yunet"])
def test_other_networks_are_refused(tmp_path: Path, write_detector: Write, kind: str) -> None:
    path = tmp_path / "other.onnx"
    write_detector(kind, path)
    with pytest.raises(ModelError, match="not an SCRFD network"):
        SCRFD(open_net(path, num_threads=1))
