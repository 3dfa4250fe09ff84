"""Files that are not femae models, and preprocessing against Pillow."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from femae.engine.onnx import OnnxEngine
from femae.engine.spec import ModelSpec, preprocess
from femae.errors import ModelError
from femae.labels import EMOTIONS

GRAY = ModelSpec(name="t", image_size=48, color="gray", mean=(0.5,), std=(0.25,), emotions=EMOTIONS)


def write_onnx(path: Path, metadata: dict[str, str], *, output: str = "probs") -> Path:
    """A real ONNX graph whose output is the sigmoid of six numbers per picture."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 1, 48, 48])
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", 6])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [0, 48 * 48])
    cut = [helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in (("a", 0), ("b", 6), ("axis", 1))]
    nodes = [
        helper.make_node("Reshape", ["pixels", "shape"], ["flat"]),
        helper.make_node("Slice", ["flat", "a", "b", "axis"], ["six"]),
        helper.make_node("Sigmoid", ["six"], [output]),
    ]
    graph = helper.make_graph(nodes, "tiny", [pixels], [result], [shape, *cut])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def test_probabilities_come_from_the_normalised_pixels(tmp_path: Path) -> None:
    engine = OnnxEngine(write_onnx(tmp_path / "m.onnx", GRAY.to_metadata()))
    crops = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    gray = np.stack([np.asarray(Image.fromarray(crop).convert("L")) for crop in crops])
    expected = 1 / (1 + np.exp(-(gray[:, 0, :6] / 255 - 0.5) / 0.25))
    np.testing.assert_allclose(engine.run(crops)[0], expected, atol=1e-6)


def test_gray_is_pillows_luma_to_the_last_bit() -> None:
    crops = np.random.default_rng(1).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    pixels = preprocess(crops, spec=GRAY)
    gray = np.stack([np.asarray(Image.fromarray(crop).convert("L"), np.float32) for crop in crops])
    assert pixels.shape == (4, 1, 48, 48)
    np.testing.assert_array_equal(np.rint((pixels[:, 0] * 0.25 + 0.5) * 255), gray)


@pytest.mark.parametrize(
    ("metadata", "output", "words"),
    [
        ({}, "probs", "is not a femae model: its metadata has no entry 'femae'"),
        ({"femae": "{"}, "probs", "the entry 'femae' of its metadata is damaged"),
        ({"femae": '{"name": "x"}'}, "probs", "is damaged"),
        (GRAY.to_metadata(), "logits", "expected input 'pixels' and outputs"),
        (GRAY.model_copy(update={"emotions": ("joy",)}).to_metadata(), "probs", "expected surprise, fear"),
        (GRAY.model_copy(update={"mean": (0.1, 0.2)}).to_metadata(), "probs", "mean and std must have 1 values"),
    ],
)
def test_other_models_are_refused_in_words(tmp_path: Path, metadata: dict[str, str], output: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        OnnxEngine(write_onnx(tmp_path / "m.onnx", metadata, output=output))


def test_missing_and_damaged_files_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model file"):
        OnnxEngine(tmp_path / "no.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        OnnxEngine(tmp_path / "text.onnx")
