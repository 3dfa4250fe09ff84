"""Small real ONNX networks with the outputs of known face detectors, whose detections are painted into the picture.

Each cell reads the one pixel at its upper left corner. Its red, green and blue, after the network's own input format is
undone, give every output of the cell as a linear function. A picture with one coloured pixel thus plants one detection.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Head:
    """One kind of output: cell values = (r, g, b) / 255 @ slopes + bias, with one row for each anchor."""

    slopes: npt.NDArray[np.float32]  # f32[3, anchors * width]
    bias: npt.NDArray[np.float32]  # f32[anchors * width]
    width: int

    def values(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Outputs f64[anchors, width] of a cell on the pixel u8[3]."""
        return (rgb / 255.0 @ self.slopes.astype(np.float64) + self.bias).reshape(-1, self.width)


@dataclass(frozen=True)
class PixelOrder:
    """Input normalisation of a network: (value - mean) * scale."""

    bgr: bool
    mean_rgb: tuple[float, float, float]
    scale: float


def head(seed: int, *, channel: int, anchors: int, width: int, low: float, high: float) -> Head:
    """A head that depends on one channel, with a different slope and bias for each value."""
    rng = np.random.default_rng(seed)
    slopes = np.zeros((3, anchors * width), np.float32)
    slopes[channel] = rng.uniform(low, high, anchors * width)
    return Head(slopes=slopes, bias=rng.uniform(low, high, anchors * width).astype(np.float32), width=width)


def score_head(*rows: tuple[float, float], channel: int = 0, width: int = 1) -> Head:
    """A head whose values have these (bias, slope) and depend on one channel."""
    slopes = np.zeros((3, len(rows)), np.float32)
    slopes[channel] = [slope for _, slope in rows]
    return Head(slopes=slopes, bias=np.array([bias for bias, _ in rows], np.float32), width=width)


def write_network(
    path: Path,
    heads: dict[str, Head],
    *,
    pixels: PixelOrder,
    input_hw: tuple[int, int] | None = None,
    joined: bool = False,
    batch_axis: bool = True,
) -> None:
    """Write the network: for each head three outputs (`name_8` ...), or one over all strides (`joined`)."""
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, array: npt.ArrayLike, dtype: type) -> str:
        constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    order = [2, 1, 0] if pixels.bgr else [0, 1, 2]
    constant("order", order, np.int64)
    constant("mean", np.reshape(pixels.mean_rgb, (1, 3, 1, 1)), np.float32)
    constant("unscale", 1 / pixels.scale, np.float32)
    constant("to_one", 1 / 255, np.float32)
    nodes.append(helper.make_node("Gather", ["input", "order"], ["rgb_scaled"], axis=1))
    nodes.append(helper.make_node("Mul", ["rgb_scaled", "unscale"], ["rgb_centred"]))
    nodes.append(helper.make_node("Add", ["rgb_centred", "mean"], ["rgb255"]))
    nodes.append(helper.make_node("Mul", ["rgb255", "to_one"], ["rgb"]))
    constant("zeros", [0, 0], np.int64)
    constant("ends", [1 << 30, 1 << 30], np.int64)
    constant("axes", [2, 3], np.int64)
    for stride in STRIDES:
        constant(f"step_{stride}", [stride, stride], np.int64)
        nodes.append(helper.make_node("Slice", ["rgb", "zeros", "ends", "axes", f"step_{stride}"], [f"cells_{stride}"]))
        nodes.append(helper.make_node("Transpose", [f"cells_{stride}"], [f"nhwc_{stride}"], perm=[0, 2, 3, 1]))
    outputs = []
    for name, one in heads.items():
        slopes, bias = (
            constant(f"{name}_slopes", one.slopes, np.float32),
            constant(f"{name}_bias", one.bias, np.float32),
        )
        shape = constant(f"{name}_shape", [1, -1, one.width] if batch_axis else [-1, one.width], np.int64)
        parts = []
        for stride in STRIDES:
            nodes.append(helper.make_node("MatMul", [f"nhwc_{stride}", slopes], [f"{name}_{stride}_product"]))
            nodes.append(helper.make_node("Add", [f"{name}_{stride}_product", bias], [f"{name}_{stride}_sum"]))
            nodes.append(helper.make_node("Reshape", [f"{name}_{stride}_sum", shape], [f"{name}_{stride}"]))
            parts.append(f"{name}_{stride}")
        if joined:
            nodes.append(helper.make_node("Concat", parts, [name], axis=1))
        declared = ["batch", "anchors", one.width] if batch_axis else ["anchors", one.width]
        outputs += [(part, declared) for part in ([name] if joined else parts)]
    sides: list[int | str] = list(input_hw) if input_hw else ["height", "width"]
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, *sides])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        initializer=constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_retinaface(path: Path, *, input_hw: tuple[int, int] | None = None, logits: bool = False) -> dict[str, Head]:
    """Three outputs over all anchors; green moves boxes, blue landmarks, red gives the score."""
    probs = [(1.0, -1.0), (0.0, 1.0), (1.0, -0.1), (0.0, 0.1)]
    heads = {
        "landmarks": head(1, channel=2, anchors=2, width=10, low=-3, high=3),
        "loc": head(2, channel=1, anchors=2, width=4, low=-1, high=1),
        "conf": score_head(*([(1.0, 0.0), (-5.0, 10.0)] * 2 if logits else probs), width=2),
    }
    pixels = PixelOrder(bgr=True, mean_rgb=(127.0, 117.0, 104.0), scale=1.0)
    write_network(path, heads, pixels=pixels, input_hw=input_hw, joined=True)
    return heads


def write_scrfd(
    path: Path, *, input_hw: tuple[int, int] | None = None, points: bool = True, batch_axis: bool = False
) -> dict[str, Head]:
    """Nine outputs, or six; green moves the sides, blue the points, red gives the score."""
    heads = {
        "score": score_head((0.0, 1.0), (0.0, 0.1)),
        "bbox": head(3, channel=1, anchors=2, width=4, low=0.5, high=2),
        "kps": head(4, channel=2, anchors=2, width=10, low=-1, high=1),
    }
    if not points:
        del heads["kps"]
    pixels = PixelOrder(bgr=False, mean_rgb=(127.5, 127.5, 127.5), scale=1 / 128)
    write_network(path, heads, pixels=pixels, input_hw=input_hw, batch_axis=batch_axis)
    return heads


def write_yunet(path: Path, *, input_hw: tuple[int, int] | None = None) -> dict[str, Head]:
    """Twelve outputs; red gives the class, green the object score, blue moves boxes and points."""
    heads = {
        "cls": score_head((0.0, 1.1)),  # above 1 for red 255: must be clipped to 1
        "obj": score_head((0.0, 1.0), channel=1),
        "bbox": head(5, channel=2, anchors=1, width=4, low=0.2, high=0.8),
        "kps": head(6, channel=2, anchors=1, width=10, low=-1, high=1),
    }
    pixels = PixelOrder(bgr=True, mean_rgb=(0.0, 0.0, 0.0), scale=1.0)
    write_network(path, heads, pixels=pixels, input_hw=input_hw)
    return heads


@pytest.fixture(scope="session")
def write_detector() -> Callable[..., dict[str, Head]]:
    """Write a small network of a kind ("retinaface", "scrfd", "yunet") to a path; returns its heads."""
    writers = {"retinaface": write_retinaface, "scrfd": write_scrfd, "yunet": write_yunet}

    def write(kind: str, path: Path, **options: object) -> dict[str, Head]:
        return writers[kind](path, **options)

    return write
