"""Recognition of the kind of detector in a file, and the errors for other files."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from femae.errors import ModelError
from femae.faces.load import load_detector
from femae.faces.retinaface import builtin_weights

Write = Callable[..., dict[str, Any]]


def write_model(path: Path, inputs: dict[str, list[int | str]], *, output: str, nodes: list[onnx.NodeProto]) -> Path:
    """A network that is no detector."""
    graph = helper.make_graph(
        nodes,
        "other",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def fixed_size_retinaface(path: Path, *, height: int, width: int) -> Path:
    """The built-in network, with its input fixed as many exports do."""
    model = onnx.load_model_from_string(builtin_weights())
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, height, width), strict=True):
        dim.dim_value = size
    onnx.save(model, str(path))
    return path


def test_the_built_in_one(astronaut: npt.NDArray[np.uint8]) -> None:
    detector = load_detector()
    assert detector.name == "retinaface"
    (faces,) = detector.detect(astronaut[None])
    assert len(faces) == 1 and 200 < faces[0].box_xyxy[[0, 2]].mean() < 250


@pytest.mark.parametrize("kind", ["retinaface", "scrfd", "yunet"])
@pytest.mark.parametrize("input_hw", [None, (128, 160)])
def test_a_file_is_known_by_what_it_gives(
    tmp_path: Path, write_detector: Write, kind: str, input_hw: tuple[int, int] | None
) -> None:
    path = tmp_path / "anything.onnx"
    write_detector(kind, path, input_hw=input_hw)
    detector = load_detector(path, num_threads=1, score_threshold=0.65)
    assert detector.name == kind
    assert detector.detect([np.zeros((90, 130, 3), np.uint8)]) == [[]]


def test_scrfd_without_landmarks(tmp_path: Path, write_detector: Write) -> None:
    path = tmp_path / "scrfd.onnx"
    write_detector("scrfd", path, points=False)
    assert load_detector(path).name == "scrfd"


@pytest.mark.parametrize("side", [320, 640])
def test_a_retinaface_of_fixed_size_sees_pictures_of_all_sizes(
    tmp_path: Path, astronaut: npt.NDArray[np.uint8], side: int
) -> None:
    detector = load_detector(fixed_size_retinaface(tmp_path / "fixed.onnx", height=side, width=side))
    truth = load_detector().detect([astronaut])[0][0]
    large = np.repeat(np.repeat(astronaut, 3, axis=0), 3, axis=1)
    for picture, scale in ((astronaut, 1), (large, 3), (astronaut[30:300, 100:350], 1)):
        (faces,) = detector.detect([picture])
        assert len(faces) == 1
        shift = np.array([100, 30]) if picture.shape[0] == 270 else 0
        assert np.abs(faces[0].landmarks - (truth.landmarks - shift) * scale).max() < 6 * scale
    (near,) = detector.detect_near(astronaut, boxes_xyxy=truth.box_xyxy[None])
    assert np.abs(near.landmarks - truth.landmarks).max() < 6


def test_more_threads_find_the_same(astronaut: npt.NDArray[np.uint8]) -> None:
    (one,), (two,) = (load_detector(num_threads=n).detect([astronaut])[0] for n in (1, 2))
    np.testing.assert_allclose(one.landmarks, two.landmarks, atol=1e-2)


def test_the_score_threshold_is_used(astronaut: npt.NDArray[np.uint8]) -> None:
    small = astronaut[:400:10, ::10].copy()
    counts = [len(load_detector(score_threshold=t).detect([small], long_side=96)[0]) for t in (0.02, 0.9999)]
    assert counts[0] > counts[1] == 0


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(ModelError, match=r"no file .* in ONNX format"):
            load_detector(path)


@pytest.mark.parametrize("content", [b"", b"I am a text file\n", bytes(range(256)) * 50])
def test_a_file_that_is_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_detector(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_classifier_is_refused_with_the_known_kinds(tmp_path: Path) -> None:
    path = write_model(
        tmp_path / "classifier.onnx",
        {"pixels": ["batch", 3, 224, 224]},
        output="probs",
        nodes=[
            helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Softmax", ["flat"], ["probs"]),
        ],
    )
    with pytest.raises(ModelError, match=r"not a supported face detector.*\[1, 3\].*RetinaFace.*SCRFD.*YuNet"):
        load_detector(path)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"pixels": ["batch", 1, 48, 48]}, r"takes pixels tensor\(float\)"),
        ({"tokens": ["batch", 77]}, "takes tokens"),
        ({"pixels": [8, 3, 64, 64]}, r"\[8, 3, 64, 64\]"),
        ({"pixels": [1, 3, 64, "width"]}, "fixes only one side"),
        ({"pixels": [1, 3, "height", "width"], "second": [1]}, "second"),
    ],
)
def test_networks_that_take_no_picture(tmp_path: Path, inputs: dict[str, list[int | str]], words: str) -> None:
    first = next(iter(inputs))
    nodes = [helper.make_node("Sum", list(inputs) if len(inputs) > 1 else [first], ["out"])]
    with pytest.raises(ModelError, match=words):
        load_detector(write_model(tmp_path / "other.onnx", inputs, output="out", nodes=nodes))


def test_a_network_without_input(tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], ["out"], value_float=1.0)]
    with pytest.raises(ModelError, match="takes nothing"):
        load_detector(write_model(tmp_path / "constant.onnx", {}, output="out", nodes=nodes))


def test_a_network_that_fails_on_pictures(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[7, 11]),
        helper.make_node("Reshape", ["pixels", "shape"], ["out"]),
    ]
    path = write_model(tmp_path / "odd.onnx", {"pixels": [1, 3, "height", "width"]}, output="out", nodes=nodes)
    with pytest.raises(ModelError, match="fails on a blank picture"):
        load_detector(path)


def test_loading_imports_neither_torch_nor_opencv() -> None:
    code = (
        "import sys, femae.faces.load as load; load.load_detector(); "
        "print([name for name in ('torch', 'cv2', 'retinaface', 'onnx', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
